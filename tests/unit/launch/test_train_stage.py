"""What of a run's folder is published."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.launch.machine import machine_facts
from mmssl_dist.launch.published_checkpoint import checkpoint_of, checkpoint_records
from mmssl_dist.launch.run_workers import Checkpoint, Outcome, at_path
from mmssl_dist.launch.train_stage import (
    _best_first,
    _best_whole,
    _remove_other_runs,
    training_facts,
)
from mmssl_dist.report.progress import training_summary
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, open_location, publish
from tests.jobs import make_job


def _outcome(*scored: tuple[float, float]) -> Outcome:
    checkpoints = [Checkpoint(f"c{epoch:g}", {"epoch": epoch, "recall@20": score}) for epoch, score in scored]
    return Outcome((), tuple(checkpoints))


def test_best_checkpoints_first_and_the_earliest_of_equals():
    def order(*scored: tuple[float, float]) -> list[str]:
        return [checkpoint.path for checkpoint in _best_first(_outcome(*scored), "recall@20")]

    assert order((1, 0.2), (2, 0.5), (3, 0.4)) == ["c2", "c3", "c1"]
    assert order((4, 0.5), (2, 0.5), (3, 0.4)) == ["c2", "c4", "c3"]
    assert order((4, -math.inf), (2, 0.5)) == ["c2"]  # a checkpoint within an epoch is no result


def _checkpoint(folder: Path) -> dict[str, FileRecord]:
    location = open_location(str(folder), Storage())
    files = {name: (location / name).write_bytes(name.encode()) for name in ("rows", "generator")}
    publish(location, Manifest("checkpoint", "", {}, files))
    return files


class _Here:
    """A cluster that runs its tasks here."""

    def run_task(self, function: Callable[..., Any], *arguments: object) -> Any:
        return function(*arguments)


def test_records_of_a_checkpoint_by_path_below_the_artifact(tmp_path):
    files = _checkpoint(tmp_path / "run-1/checkpoint")
    location = open_location(str(tmp_path), Storage())
    folder = at_path(location, f"{tmp_path}/run-1/checkpoint")
    assert folder.url == f"{tmp_path}/run-1/checkpoint"
    result = checkpoint_records(location, folder)
    manifest = result.pop("run-1/checkpoint/manifest.json")
    assert manifest.bytes == (tmp_path / "run-1/checkpoint/manifest.json").stat().st_size
    assert result == {f"run-1/checkpoint/{name}": record for name, record in files.items()}


def test_the_next_best_is_published_when_the_best_is_damaged(tmp_path, caplog):
    for name in ("c1", "c2", "c3"):
        _checkpoint(tmp_path / name)
    (tmp_path / "c2/rows").write_bytes(b"rowz")
    (tmp_path / "c3/generator").unlink()
    location, outcome = open_location(str(tmp_path), Storage()), _outcome((1, 0.2), (2, 0.5), (3, 0.4))
    outcome = replace(
        outcome, checkpoints=tuple(replace(c, path=f"{tmp_path}/{c.path}") for c in outcome.checkpoints)
    )
    best, files = _best_whole(cast(Cluster, _Here()), outcome, "recall@20", location)
    assert best.metrics["epoch"] == 1
    assert sorted(files) == ["c1/generator", "c1/manifest.json", "c1/rows"]
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        f"the checkpoint of epoch {epoch} is damaged; trying the next best" for epoch in (2, 3)
    ]
    assert f"{tmp_path}/c2/rows: content differs from its manifest" in caplog.text
    (tmp_path / "c1/rows").write_bytes(b"")
    with pytest.raises(ArtifactError, match="without an undamaged checkpoint"):
        _best_whole(cast(Cluster, _Here()), outcome, "recall@20", location)


def test_published_checkpoint_with_files_by_their_names_in_it():
    record = FileRecord(1, "aa")
    manifest = Manifest("training", "f", {"checkpoint": "run-1/c"}, {"run-1/c/generator.safetensors": record})
    location, view = checkpoint_of(RunFolder.of(make_job("output=/out")), manifest)
    assert location.path == "/out/training/run-1/c"
    assert view.files == {"generator.safetensors": record}


def test_runs_of_other_settings_are_removed(tmp_path):
    for name in ("run-1/c/x", "run-2/c/x", "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    _remove_other_runs(open_location(str(tmp_path), Storage()), "run-2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "run-2"]


@pytest.mark.parametrize("users", [0, 2])
def test_interactions_that_were_not_trained_on_are_reported(users: int) -> None:
    history = [{"epoch": 1.0, "train_seconds": 1.0, "validation_seconds": 0.1}]
    left_out = {"users": users, "interactions": 30 * users}
    machine = machine_facts(
        Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path("cache"), group=None)
    )
    summary = {"epochs": 1, "stopped_early": True, "history": history, "left_out": left_out}
    summary["machine"] = machine
    best = Checkpoint("x", {"recall@20": 0.5, "epoch": 1.0})
    facts = training_facts("recall@20", "run-1/checkpoint_1", best, summary)
    assert facts["machine"] == machine
    assert (machine["workers"], machine["gpu"]) == (1, None)
    assert machine["cores"] >= 1
    assert machine["memory"] > 1 << 28
    assert facts.get("left_out") == (left_out if users else None)
    reported = [line for line in training_summary(facts, "recall@20") if line.startswith("left out")]
    assert reported == (["left out: 60 interactions of 2 user(s) who know every item"] if users else [])
