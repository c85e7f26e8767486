"""The whole pipeline through the command line: what it publishes agrees with itself, and what is done stays
done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import load_job
from mmssl_dist.launch.published_checkpoint import checkpoint_of
from mmssl_dist.launch.worker_entry import evaluate_on_worker, export_on_worker
from mmssl_dist.storage import RunFolder, open_location, require_manifest
from tests.end_to_end.commands import command, kill_at, stages, succeed, synthesize
from tests.processes import run_workers
from tests.training import make_worker

pytestmark = pytest.mark.timeout(900)  # several commands in one test, each of which starts Ray's workers
USERS, ITEMS, K = 300, 120, 30
NAMES = [f"{metric}@{k}" for k in (10, 20) for metric in ("recall", "precision", "ndcg", "hit_rate", "mrr")]
STAGES = ("prepare", "partition", "train", "evaluate", "export")
ARTIFACTS = ("dataset", "partitions", "training", "evaluation", "export")
JOB = f"""\
output: out
seed: 3
data:
  path: raw
  modalities:
    image: {{file: features/image}}
    text: {{file: features/text}}
  split: {{seed: 3}}
partition: {{parts: 4}}
model: {{dimension: 32}}
training: {{epochs: 4, batch_size: 256}}
evaluation: {{ks: [10, 20], patience: 20}}
export: {{k: {K}}}
scaling: {{workers: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ray_address: str) -> Path:
    """A job, its synthetic raw files, and what a run of it with a Ray of its own published and said."""
    path = tmp_path_factory.mktemp("pipeline")
    (path / "job.yaml").write_text(JOB)
    sizes = (f"--users={USERS}", f"--items={ITEMS}", "--interactions=3500")
    synthesize(path, ray_address, *sizes, "--seed=1", image=16, text=8)
    done = succeed(path, "run", "job.yaml")
    (path / "said.txt").write_text(done.stdout)
    assert stages(done.stderr.splitlines()) == dict.fromkeys(STAGES, "done")
    return path


@pytest.fixture
def copy(folder: Path) -> Iterator[str]:
    """A copy of the output that the test may change, below ``folder``."""
    shutil.copytree(folder / "out", folder / "copy")
    yield "copy"
    shutil.rmtree(folder / "copy")


def _metrics(output: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / "evaluation/metrics.json").read_text())
    return result


def _facts(output: Path, artifact: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((output / artifact / "manifest.json").read_text())
    return manifest["facts"]


def _history(output: Path) -> list[dict[str, float]]:
    result: list[dict[str, float]] = json.loads((output / "training/manifest.json").read_text())["facts"][
        "history"
    ]
    return result


def _columns(output: Path, name: str, *columns: str) -> list[list[Any]]:
    return list(pq.read_table(output / name).select(columns).to_pydict().values())


def _lists(output: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Recommended items with their scores, by external user id."""
    users, items, scores = _columns(output, "export/recommendations", "user_id", "items", "scores")
    assert len(set(users)) == len(users)
    return dict(zip(users, zip(items, scores, strict=True), strict=True))


def _split(output: Path, split: str) -> dict[str, set[int]]:
    """External items of the dataset's split by external user id; every user is there."""
    numbers = [_columns(output, f"dataset/{kind}s", kind, f"{kind}_id") for kind in ("user", "item")]
    user_ids, item_ids = (dict(zip(*columns, strict=True)) for columns in numbers)
    result: dict[str, set[int]] = {user: set() for user in user_ids.values()}
    for user, item in zip(*_columns(output, f"dataset/interactions/{split}", "user", "item"), strict=True):
        result[user_ids[user]].add(item_ids[item])
    return result


def _known(output: Path) -> dict[str, set[int]]:
    """External items of all splits by external user id."""
    splits = [_split(output, split) for split in ("train", "validation", "test")]
    return {user: set().union(*(items[user] for items in splits)) for user in splits[0]}


def test_metrics_file_has_every_metric_of_both_splits_and_popularitys_beside(folder):
    result = _metrics(folder / "out")
    assert list(result) == ["validation", "test", "baselines", "without"]
    assert list(result["without"]) == ["image", "text"]
    for metrics in result["without"].values():
        assert list(metrics) == ["validation", "test"]
        assert all(list(metrics[split]) == NAMES for split in metrics)
    assert list(result["baselines"]) == ["popularity"]
    for metrics in (result, result["baselines"]["popularity"]):
        for split in ("validation", "test"):
            assert list(metrics[split]) == NAMES
            assert all(type(value) is float and 0 < value < 1 for value in metrics[split].values())
    output_text = (folder / "said.txt").read_text()
    assert f"{result['test']['recall@20']:.4f}" in output_text.partition("Test metrics")[2]
    digest = _facts(folder / "out", "dataset")["held_out_digest"]
    facts = _facts(folder / "out", "evaluation")
    exponent = facts.pop("length_exponent")
    assert facts == {**result, "held_out_digest": digest}
    # Chosen by each of the two on its own.
    assert exponent == _facts(folder / "out", "export")["fold_in"]["length_exponent"]


def test_metrics_are_the_means_of_the_users(folder):
    result, users = _metrics(folder / "out"), pq.read_table(folder / "out/evaluation/users")
    for split in ("validation", "test"):
        for who, means in (
            ("model", result[split]),
            ("popularity", result["baselines"]["popularity"][split]),
        ):
            mine = users.filter((pc.field("split") == split) & (pc.field("who") == who))
            held = {user for user, items in _split(folder / "out", split).items() if items}
            assert set(mine["user_id"].to_pylist()) == held
            for name, mean in means.items():
                assert pc.mean(mine[name]).as_py() == pytest.approx(mean, abs=1e-6), name


def test_planted_structure_is_found_as_popularity_cannot(folder):
    result = _metrics(folder / "out")
    for split in ("validation", "test"):
        for name in ("recall@20", "ndcg@20"):
            assert result[split][name] > 1.35 * result["baselines"]["popularity"][split][name], (split, name)


def test_every_user_has_a_full_list_without_training_items(folder):
    lists, known = _lists(folder / "out"), _known(folder / "out")
    assert set(lists) == set(known) == {f"u{number:03}" for number in range(USERS)}
    for user, (items, scores) in lists.items():
        assert len(set(items)) == len(items) == len(scores) == K
        assert not set(items) & known[user]
        assert all(type(item) is int and 0 <= item < ITEMS for item in items)
        assert scores == sorted(scores, reverse=True)


def test_metrics_are_those_of_lists_without_training_items(folder, copy):
    shutil.rmtree(folder / copy / "export")
    run_workers(2, _use_model, folder, copy, 2, "export.exclude=training", timeout=200)
    lists = _lists(folder / copy)
    for split in ("validation", "test"):
        held_out = {user: items for user, items in _split(folder / "out", split).items() if items}
        recall, ndcg = [], []
        for user, wanted in held_out.items():
            hits = np.array([item in wanted for item in lists[user][0][:20]])
            gains = 1 / np.log2(np.arange(2, 22))
            recall.append(hits.sum() / len(wanted))
            ndcg.append(hits @ gains / gains[: len(wanted)].sum())
        result = _metrics(folder / "out")[split]
        assert result["recall@20"] == pytest.approx(np.mean(recall), abs=1e-9)
        assert result["ndcg@20"] == pytest.approx(np.mean(ndcg), abs=1e-9)


def test_scores_are_products_of_the_embeddings_and_nothing_better_was_left_out(folder):
    users, user_rows = _columns(folder / "out", "export/user_embeddings", "user_id", "vector")
    items, item_rows = _columns(folder / "out", "export/item_embeddings", "item_id", "vector")
    assert (len(users), sorted(items)) == (USERS, list(range(ITEMS)))
    scores = np.array(user_rows) @ np.array(item_rows).T
    column_of = {item: column for column, item in enumerate(items)}
    lists, known = _lists(folder / "out"), _known(folder / "out")
    for row, user in enumerate(users):
        listed, listed_scores = lists[user]
        np.testing.assert_allclose(
            listed_scores, scores[row, [column_of[item] for item in listed]], rtol=1e-5, atol=1e-6
        )
        rest = [column_of[item] for item in items if item not in known[user] and item not in listed]
        assert scores[row, rest].max() <= min(listed_scores) + 1e-5


def _use_model(rank: int, folder: Path, output: str, workers: int, *sets: str) -> dict[str, Any]:
    """Evaluate and export the published checkpoint; gives the metrics."""
    job = load_job(folder / "job.yaml", (f"output={folder / output}", f"scaling.workers={workers}", *sets))
    worker = make_worker(rank, job)
    training = require_manifest(open_location(f"{job.output}/training", job.storage), "training", "train")
    export_on_worker(job, worker, *checkpoint_of(RunFolder.of(job), training))
    return evaluate_on_worker(job, worker, *checkpoint_of(RunFolder.of(job), training))["metrics"]


def test_one_worker_makes_the_same_of_the_checkpoint_as_two(folder, copy):
    shutil.rmtree(folder / copy / "export")
    (metrics,) = run_workers(1, _use_model, folder, copy, 1, timeout=200)
    expected = _metrics(folder / "out")
    for split in ("validation", "test"):
        assert metrics[split] == pytest.approx(expected[split], abs=1e-9)
        popularity, same = (result["baselines"]["popularity"][split] for result in (metrics, expected))
        assert popularity == pytest.approx(same, abs=1e-9)
    ours, theirs = _lists(folder / copy), _lists(folder / "out")
    assert {user: items for user, (items, _) in ours.items()} == {
        user: items for user, (items, _) in theirs.items()
    }


def test_second_run_does_nothing_and_needs_no_ray(folder):
    def files() -> dict[Path, int]:
        result = (path for name in ARTIFACTS for path in (folder / "out" / name).rglob("*"))
        return {path: path.stat().st_mtime_ns for path in result if path.is_file()}

    before = files()
    done = succeed(folder, "run", "job.yaml", "--address", "127.0.0.1:1")
    assert stages(done.stderr.splitlines()) == dict.fromkeys(STAGES, "up to date")
    assert done.stdout == (folder / "said.txt").read_text()
    assert files() == before


def test_the_plan_says_what_the_run_took(folder):
    plan = json.loads(succeed(folder, "plan", "job.yaml", "--no-calibrate", "--json").stdout)
    assert (plan["users"], plan["items"], plan["source"]) == (USERS, ITEMS, "the published partitions")
    last = _history(folder / "out")[-1]
    assert last["exchange/bytes"] / (2 * plan["sent"]) == pytest.approx(1.0, abs=0.25)
    assert last["exchange/local"] == pytest.approx(
        plan["local"], abs=0.15
    )  # theirs of all rows, the plan's of ID rows
    assert last["memory/resident"] / plan["memory"]["total"] == pytest.approx(1.0, abs=0.2)


def test_killed_training_looks_unfinished_and_the_next_run_goes_on_from_it(folder, copy, ray_address):
    longer = ("job.yaml", "--address", ray_address, "--set", f"output={copy}", "--set", "training.epochs=20")
    # A checkpoint counts once Ray Train has noted it, which takes longer than some of these epochs.
    lines = kill_at(folder, "train: epoch 10/20", "run", *longer)
    assert stages(lines) == {"prepare": "up to date", "partition": "up to date", "train": "done"}
    assert not (folder / copy / "training/manifest.json").exists()
    refused = command(folder, "export", *longer)
    assert refused.returncode == 2
    assert "the training must be published first. Run `mmssl-dist train` on this job." in refused.stderr
    lines = succeed(folder, "run", *longer).stderr.splitlines()
    assert stages(lines) == dict.fromkeys(STAGES[:2], "up to date") | dict.fromkeys(STAGES[2:], "done")
    epochs = [line.split()[2] for line in lines if line.startswith("train: epoch")]
    assert epochs == [f"{epoch}/20:" for epoch in range(21 - len(epochs), 21)]
    assert 1 <= len(epochs) <= 19
    before, after = (_history(folder / output) for output in ("out", copy))
    assert [entry["epoch"] for entry in after] == list(range(1, 21))
    for ours, theirs in zip(after, before, strict=False):  # the kill is not to be seen in what was learned
        assert ours["loss/total"] == pytest.approx(theirs["loss/total"], rel=1e-3)
