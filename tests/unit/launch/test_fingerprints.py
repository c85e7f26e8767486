"""Which settings make another training, other metrics, another export, and which don't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmssl_dist.launch.fingerprints import (
    evaluation_fingerprint,
    export_fingerprint,
    run_name,
    training_fingerprint,
)
from mmssl_dist.storage import FileRecord, Manifest
from tests.jobs import make_job

PARTITIONS = Manifest("partitions", "aa", {}, {})
TRAINING = Manifest("training", "bb", {}, {"run/x": FileRecord(3, "cc")})


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "model.dimension=32",
        "losses.l2=0.1",
        "training.epochs=7",
        "training.dense.zero_stage=1",
        "training.rows.second_moment=row",
        "evaluation.metric=ndcg@20",
        "evaluation.ks=[20]",
        "evaluation.patience=3",
        "evaluation.every_epochs=2",
        "evaluation.users=9",
        "evaluation.length_exponent=0.5",
        "training.user_exponent=0",
    ],
)
def test_another_training(override):
    assert training_fingerprint(make_job(override), PARTITIONS) != training_fingerprint(
        make_job(), PARTITIONS
    )


def test_another_file_of_users_makes_another_export(tmp_path):
    users = tmp_path / "users.csv"
    users.write_text("user_id\nu1\n")
    job = make_job(f"export.users={users}")
    before = export_fingerprint(job, TRAINING)
    assert before == export_fingerprint(job, TRAINING)
    assert before != export_fingerprint(make_job(), TRAINING)
    users.write_text("user_id\nu1\nu2\n")
    assert export_fingerprint(job, TRAINING) != before
    indexed = make_job("export.recommendations=index")
    assert export_fingerprint(indexed, TRAINING) != export_fingerprint(make_job(), TRAINING)
    comparable = make_job("export.exclude=training")
    assert export_fingerprint(comparable, TRAINING) != export_fingerprint(make_job(), TRAINING)
    # A table is written from lists that are there
    with_table = make_job("export.table.path=/lake/lists")
    assert export_fingerprint(with_table, TRAINING) == export_fingerprint(make_job(), TRAINING)


def test_other_partitions_are_trained_on_again():
    again = Manifest("partitions", "ab", {}, {})
    assert training_fingerprint(make_job(), again) != training_fingerprint(make_job(), PARTITIONS)


@pytest.mark.parametrize(
    "override",
    [
        "scaling.workers=3",
        "scaling.cpus_per_worker=2",
        "training.keep_checkpoints=5",
        "training.max_failures=0",
        "training.timeout_seconds=9",
        "training.checkpoint_minutes=2",
        "training.prefetch=0",
        "evaluation.user_block=7",
        "evaluation.length_exponent=1",
        "training.user_exponent=1",
        "export.k=9",
        "output=elsewhere",
    ],
)
def test_the_same_training(override):
    assert run_name(make_job(override), PARTITIONS) == run_name(make_job(), PARTITIONS)


def test_other_partitions_are_another_training():
    other = replace(PARTITIONS, fingerprint="ab")
    assert run_name(make_job(), other) != run_name(make_job(), PARTITIONS)


@pytest.mark.parametrize("function", [evaluation_fingerprint, export_fingerprint])
def test_content_of_the_checkpoint_counts_not_its_settings_alone(function):
    other = replace(TRAINING, files={"run/x": FileRecord(3, "cd")})
    assert function(make_job(), other) != function(make_job(), TRAINING)


def test_what_evaluation_and_export_depend_on():
    job, blocks = make_job(), make_job("evaluation.item_block=99", "scaling.workers=2")
    ks, k = make_job("evaluation.ks=[5, 20]"), make_job("export.k=9")
    for override in ("evaluation.users=9", "evaluation.contributions=false", "evaluation.length_exponent=1"):
        assert evaluation_fingerprint(make_job(override), TRAINING) != evaluation_fingerprint(job, TRAINING)
    # Validation chooses the exponent of lengths that the exported rows have.
    for override in ("evaluation.users=9", "evaluation.length_exponent=1", "evaluation.metric=ndcg@20"):
        assert export_fingerprint(make_job(override), TRAINING) != export_fingerprint(job, TRAINING)
    assert evaluation_fingerprint(blocks, TRAINING) == evaluation_fingerprint(job, TRAINING)
    assert evaluation_fingerprint(ks, TRAINING) != evaluation_fingerprint(job, TRAINING)
    assert export_fingerprint(ks, TRAINING) == export_fingerprint(job, TRAINING)
    assert export_fingerprint(k, TRAINING) != export_fingerprint(job, TRAINING)
