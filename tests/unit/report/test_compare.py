"""Runs beside each other: what is read, what is refused, and the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.report.compare import Contender, Line, comparison_lines, parse_contenders
from mmssl_dist.report.runs import Summary
from mmssl_dist.report.user_metrics import read_users
from mmssl_dist.storage import Manifest, open_location, publish


def write_run(
    folder: Path,
    values: Sequence[float],
    users: Sequence[object] | None = None,
    positives: Sequence[int] | None = None,
    held_out: str | None = "d1",
    **settings: object,
) -> Path:
    """An evaluated run: recall@2 of each user in test; popularity has 0.5 for everybody. Two files, users
    mixed.

    Args:
        held_out: digest of the held-out items, None for a run of a version without.
        settings: of the run's job, besides the least.
    """
    write_job(folder, **settings)
    facts = {} if held_out is None else {"held_out_digest": held_out}
    n = len(values)
    users = [f"u{user}" for user in range(n)] if users is None else users
    table = pa.table(
        {
            "user_id": [*users, *users],
            "split": ["test"] * 2 * n,
            "who": ["model"] * n + ["popularity"] * n,
            "positives": pa.array([*(positives or [1] * n)] * 2, pa.int32()),
            "recall@2": pa.array([*values, *[0.5] * n], pa.float32()),
        }
    )
    location, files = open_location(str(folder), Storage()) / "evaluation", {}
    for part in range(2):
        sink = pa.BufferOutputStream()
        pq.write_table(table.take(np.arange(1 - part, 2 * n, 2)), sink)
        name = f"users/part-0000{part}.parquet"
        files[name] = (location / name).write_bytes(sink.getvalue())
    publish(location, Manifest("evaluation", "x", facts, files))
    return folder


def write_job(folder: Path, **settings: object) -> None:
    tree = {"output": str(folder), "data": {"path": "raw", "modalities": {"image": {"file": "x"}}}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.yaml").write_text(yaml.safe_dump({**tree, **settings}))


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments), "--metric", "recall@2"])
    return done.exit_code, done.output


def cells(output: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in output.split("\n")
        if line[:1] == "|"
    ]


def test_an_identical_run_differs_by_nothing_and_p_is_one(tmp_path):
    values = [0.0, 1.0, 0.5, 0.25]
    status, output = call(write_run(tmp_path / "a", values), write_run(tmp_path / "b", values))
    assert status == 0, output
    _, _, first, second = cells(output)
    assert first[1:3] == second[1:3] == ["1", "0.4375"]
    assert first[3] == second[3]
    assert first[4:] == ["", "", ""]
    assert second[4:] == ["+0.0000", "+0.0000 to +0.0000", "1.0000"]
    assert output.endswith(
        "4 users of test; intervals: bootstrap over users, paired; p: sign-flip test over users.\n"
    )


def test_seeds_are_averaged_user_by_user(tmp_path):
    one, two = write_run(tmp_path / "1", [0, 0, 0]), write_run(tmp_path / "2", [1, 1, 0.5])
    status, output = call(f"mine={one},{two}", f"other={two}", "--popularity", "--baseline", "other")
    assert status == 0, output
    head, _, other, mine, popularity = cells(output)
    assert head[-1] == "p (Holm)"
    assert [row[0] for row in (other, mine, popularity)] == ["other", "mine", "popularity"]
    # mine: .5 .5 .25; means of the runs 0 and .8333, standard error .4167; differences -.5 -.5 -.25
    assert mine[1:3] == ["2", "0.4167"]
    assert mine[4:6] == ["0.4167", "-0.4167"]
    assert mine[7:] == ["0.2500", "0.5000"]
    # differences -.5 -.5 0: 2 of 4 patterns
    assert popularity[5:6] + popularity[7:] == ["-0.3333", "0.5000", "0.5000"]


def test_order_of_users_in_the_files_is_no_matter(tmp_path):
    a = write_run(tmp_path / "a", [0.0, 1.0, 0.5], users=[30, 4, 100])
    b = write_run(tmp_path / "b", [0.5, 0.0, 1.0], users=[100, 30, 4])
    assert cells(call(a, b)[1])[3][4:] == ["+0.0000", "+0.0000 to +0.0000", "1.0000"]
    read = read_users(open_location(str(a), Storage()), "recall@2", "test", "model")
    assert (read.ids.to_pylist(), read.values.tolist()) == ([4, 30, 100], [1.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"values": [0.0]}, "different users \\(1 here, 2 there\\)"),
        (
            {"values": [0.0, 1.0], "users": [0, 1]},
            r"different users .*Evaluate both with evaluation\.users all",
        ),
        ({"values": [0.0], "held_out": "d2"}, r"different users .*Compare runs of the same data"),
        ({"values": [0.0, 1.0], "positives": [1, 2]}, "a different number of held-out items for 1 users"),
        # as many items, but others: what a split by another seed gives
        (
            {"values": [0.0, 1.0], "held_out": "d2"},
            r"different held-out items \(held_out_digest d2 here, d1 there\)",
        ),
    ],
)
def test_runs_of_other_data_or_splits_are_refused(tmp_path, other, message):
    a, b = write_run(tmp_path / "a", [0.0, 1.0]), write_run(tmp_path / "b", **other)
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--metric", "recall@2"])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {b}: found ")
    assert re.search(message, done.stderr)


def test_runs_that_do_not_say_what_is_held_out_are_compared_with_a_warning(tmp_path):
    a, b = write_run(tmp_path / "a", [0.0, 1.0]), write_run(tmp_path / "b", [0.0, 1.0], held_out=None)
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--metric", "recall@2"])
    assert done.exit_code == 0
    assert done.stderr.count(f"{b}: its evaluation has no held_out_digest") == 1


def test_the_held_out_items_are_those_that_were_evaluated(tmp_path):
    """dataset/ was prepared again, by another split, after one of the runs was evaluated."""
    a, b = write_run(tmp_path / "a", [0.0, 1.0]), write_run(tmp_path / "b", [0.0, 1.0])
    publish(
        open_location(str(b / "dataset"), Storage()), Manifest("dataset", "y", {"held_out_digest": "d2"}, {})
    )
    assert call(a, b)[0] == 0
    other = write_run(tmp_path / "c", [0.0, 1.0], held_out="d2")
    publish(
        open_location(str(other / "dataset"), Storage()),
        Manifest("dataset", "y", {"held_out_digest": "d1"}, {}),
    )
    assert call(a, other)[0] == 2


def test_a_split_that_is_none_is_refused_with_those_that_are(tmp_path):
    run = str(write_run(tmp_path / "a", [0.0, 1.0]))
    done = CliRunner().invoke(app, ["compare", run, "--metric", "recall@2", "--split", "tset"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --split: found tset; a split is validation or test.")


def test_runs_of_different_models_are_not_averaged(tmp_path):
    one = write_run(tmp_path / "1", [0, 0], seed=1)
    two = write_run(tmp_path / "2", [1, 1], seed=2, model={"dimension": 64})
    status, output = call(f"mine={one},{two}")
    assert status == 2
    assert "found model.dimension 64; runs are averaged over seeds of one model" in output
    assert call(f"one={one}", f"two={two}")[0] == 0  # side by side they may stand


def test_a_p_at_the_floor_of_the_draws_is_a_bound(tmp_path):
    """Of 10,000 draws none is as extreme where 40 users all differ the same way: p is not known beyond."""
    a, b = write_run(tmp_path / "a", [0.0] * 40), write_run(tmp_path / "b", [1.0] * 40)
    assert cells(call(a, b)[1])[3][-1] == "< 0.0001"
    c = write_run(tmp_path / "c", [1.0] * 39 + [0.0])
    _, _, _, *others = cells(call(a, b, c)[1])
    assert [row[-2:] for row in others] == [["< 0.0001", "< 0.0002"]] * 2
    few = write_run(tmp_path / "e", [0.0] * 3), write_run(tmp_path / "f", [1.0] * 3)
    assert cells(call(*few)[1])[3][-1] == "0.2500"  # every pattern was looked at: 2 of 8


def test_what_a_run_does_not_have_is_named(tmp_path):
    run = write_run(tmp_path / "a", [0.0, 1.0])
    location = open_location(str(run), Storage())
    with pytest.raises(InputError, match=r"--metric: found ndcg@9; .* has recall@2"):
        read_users(location, "ndcg@9", "test", "model")
    with pytest.raises(InputError, match="--split: found validation"):
        read_users(location, "recall@2", "validation", "model")
    with pytest.raises(InputError, match="mmssl-dist evaluate"):
        read_users(location / "nowhere", "recall@2", "test", "model")
    publish(location / "evaluation", Manifest("evaluation", "x", {}, {}))
    with pytest.raises(InputError, match="no metrics by user"):
        read_users(location, "recall@2", "test", "model")


def test_a_file_that_changed_is_refused(tmp_path):
    run = write_run(tmp_path / "a", [0.0, 1.0])
    (run / "evaluation/users/part-00000.parquet").write_bytes(b"?")
    with pytest.raises(ArtifactError, match="not what the manifest says"):
        read_users(open_location(str(run), Storage()), "recall@2", "test", "model")


def test_names_and_runs():
    specs = ["runs/a", "b=runs/b1,runs/b2", "s3://bucket/x=1/run"]
    assert parse_contenders(specs, "b") == [
        Contender("b", ("runs/b1", "runs/b2")),
        Contender("runs/a", ("runs/a",)),
        Contender("s3://bucket/x=1/run", ("s3://bucket/x=1/run",)),
    ]


@pytest.mark.parametrize(
    ("specs", "baseline", "where"),
    [
        (["a=x,"], None, "RUN"),
        (["=x"], None, "RUN"),
        (["a=x", "a=y"], None, "RUN"),
        (["popularity=x"], None, "RUN"),
        (["a=x"], "x", "--baseline"),
    ],
)
def test_names_that_do_not_work(specs, baseline, where):
    with pytest.raises(InputError) as caught:
        parse_contenders(specs, baseline)
    assert caught.value.where == where


def test_the_table_word_by_word():
    lines = [
        Line(name="base", seeds=Summary((0.1,)), mean_interval=(0.09, 0.11)),
        Line(
            name="new",
            seeds=Summary((0.12,)),
            mean_interval=(0.11, 0.13),
            difference=0.02,
            difference_interval=(0.01, 0.03),
            p=0.0123,
        ),
    ]
    assert comparison_lines(lines, "recall@20", 1234, "test")[:4] == [
        "| name | runs | recall@20 | 95 % interval | difference to base | 95 % interval | p |",
        "|---|---|---|---|---|---|---|",
        "| base | 1 | 0.1000 | 0.0900 to 0.1100 |  |  |  |",
        "| new | 1 | 0.1200 | 0.1100 to 0.1300 | +0.0200 | +0.0100 to +0.0300 | 0.0123 |",
    ]
