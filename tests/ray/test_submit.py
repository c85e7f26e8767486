"""A job through Ray Jobs on a cluster that this module starts with ``ray start --head`` and ends again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.clusters import ROOT, SMALL_DATA, Head, started_head

JOB = ROOT / "jobs" / "demo.yaml"
SMALLER = (
    "output=out",
    "data.path=raw data",
    "training.epochs=2",
    "training.batch_size=512",
    "evaluation.every_epochs=1",
    "evaluation.ks=[10, 20]",
    "export.k=5",
)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started_head() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head) -> Path:
    """The raw files of a small demo, in a folder with a name that needs quoting."""
    path = tmp_path_factory.mktemp("a job")
    made = head.command(path, "synthesize", "raw data", *SMALL_DATA)
    assert made.returncode == 0, made.stderr
    return path


def _submit(head: Head, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    settings = [part for override in (*SMALLER, *overrides) for part in ("--set", override)]
    return head.command(folder, "submit", str(JOB), "--address", head.address, *settings)


def test_demo_runs_on_the_cluster_and_its_files_are_where_the_yaml_says(head, folder):
    done = _submit(head, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train: epoch 2/2: recall@20" in done.stdout
    assert "popularity" in done.stdout
    assert ": succeeded" in done.stdout.splitlines()[-1]
    metrics = json.loads((folder / "out/evaluation/metrics.json").read_text())
    assert 0 <= metrics["test"]["recall@20"] <= 1
    lists = pq.read_table(folder / "out/export/recommendations")
    assert lists.num_rows == 120
    assert all(len(items) <= 5 for items in lists["items"].to_pylist())


def test_bad_input_on_the_cluster_is_exit_status_2_here(head, folder):
    done = _submit(head, folder, "data.path=nowhere")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"data.path: found {folder}/nowhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
