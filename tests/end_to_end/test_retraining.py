"""A run that starts from yesterday's, on data that has grown, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.commands import command, stages, succeed, synthesize

pytestmark = pytest.mark.timeout(900)
JOB = """\
output: yesterday
data:
  path: raw-yesterday
  columns: {time: time}
  modalities:
    image: {file: features/image}
  split: {method: temporal, validation: 0.1, test: 0.1}
partition: {parts: 2, method: random}
model: {dimension: 8, layers: 1}
training: {epochs: 3, batch_size: 256, fanout: [5]}
evaluation: {ks: [20]}
"""
TODAY = ("--set=data.path=raw", "--set=output=today", "--set=training.epochs=1")
FROM_YESTERDAY = (*TODAY, "--set=partition.parts=3", "--from=yesterday")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ray_address: str) -> Path:
    """A job, two days of raw files, and what the run of the first one published."""
    path = tmp_path_factory.mktemp("retraining")
    (path / "job.yaml").write_text(JOB)
    synthesize(path, ray_address, "--users=200", "--items=100", "--interactions=1500", image=4)
    table = pyarrow.dataset.dataset(path / "raw/interactions.parquet").to_table().sort_by("time")
    (path / "raw-yesterday").mkdir()
    pq.write_table(table.slice(0, 1200), path / "raw-yesterday/interactions.parquet")
    shutil.copytree(path / "raw/features", path / "raw-yesterday/features")
    succeed(path, "run", "job.yaml", "--address", ray_address)
    return path


@pytest.fixture(scope="module")
def today(folder: Path, ray_address: str) -> str:
    """What the run that starts from the one before writes to standard error."""
    done = succeed(folder, "run", "job.yaml", *FROM_YESTERDAY, "--address", ray_address)
    assert stages(done.stderr.splitlines())["train"] == "done"
    return done.stderr


def test_the_next_run_starts_from_the_one_before(folder, today, ray_address):
    assert "earlier run: recall@20" in today
    assert f"started from {folder / 'yesterday'}, recall@20" in today
    facts = json.loads((folder / "today/training/manifest.json").read_text())["facts"]
    figures = facts["start"]["figures"]
    nodes = json.loads((folder / "today/dataset/manifest.json").read_text())["facts"]
    for side in ("users", "items"):
        assert figures[f"{side}/taken"] + figures[f"{side}/new"] == nodes[side]
        assert figures[f"{side}/taken"] > 0
    assert facts["best"] >= figures["recall@20"] > 0

    again = succeed(folder, "run", "job.yaml", *FROM_YESTERDAY, "--address", ray_address)
    assert set(stages(again.stderr.splitlines()).values()) == {"up to date"}


def test_a_finished_training_outlives_the_run_it_started_from(folder, today, ray_address):
    (folder / "yesterday").rename(folder / "gone")
    try:
        done = succeed(folder, "run", "job.yaml", *FROM_YESTERDAY, "--address", ray_address)
        assert set(stages(done.stderr.splitlines()).values()) == {"up to date"}
        refused = command(
            folder, "run", "job.yaml", *FROM_YESTERDAY, "--from=day-before", "--address", ray_address
        )
        assert refused.returncode == 2  # what is recorded is of the run that it started from, no other
    finally:
        (folder / "gone").rename(folder / "yesterday")


@pytest.mark.parametrize("name", ["run", "validate"])
def test_what_is_no_trained_run_is_refused_before_any_work(folder, name):
    done = command(folder, name, "job.yaml", *TODAY, "--set=output=new", "--set=training.start_from=raw")
    assert done.returncode == 2, done.stderr
    assert "training.start_from: found" in done.stderr
    assert "no published partitions" in done.stderr
    assert not (folder / "new").exists()
