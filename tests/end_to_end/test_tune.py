"""A search from the command line: trials in processes, a command that resumes, and the job it ends with."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from mmssl_dist.config import load_job
from tests.end_to_end.commands import command, end_at, succeed, synthesize

pytestmark = pytest.mark.timeout(900)
JOB = """\
output: out
data:
  path: raw
  modalities:
    image: {file: features/image}
partition: {parts: 2, method: random}
model: {dimension: 8, layers: 1}
training: {epochs: 2, batch_size: 256, fanout: [5]}
evaluation: {ks: [20]}
search:
  trials: 1
  grace_epochs: 1
  space:
    training.rows.learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
    losses.ranking.loss: {choice: [bpr, softmax]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ray_address: str) -> Path:
    """A job with its raw files, after a search of one trial."""
    path = tmp_path_factory.mktemp("tune")
    (path / "job.yaml").write_text(JOB)
    synthesize(path, ray_address, "--users=150", "--items=60", "--interactions=900", image=4)
    done = succeed(path, "tune", "job.yaml", "--address", ray_address)
    (path / "said.txt").write_text(done.stderr)
    return path


def test_a_search_ends_with_a_job_and_a_table(folder):
    rows = json.loads((folder / "out/tuning/trials.json").read_text())
    (row,) = rows
    assert (row["trial"], row["state"], row["epochs"]) == (1, "finished", 2)
    assert 0 < row["best"] == max(row["values"].values()) < 1
    best = load_job(folder / "out/tuning/best.yaml")
    assert best.training.rows.learning_rate == row["training.rows.learning_rate"]
    assert best.losses.ranking.loss == row["losses.ranking.loss"]
    assert (best.output, best.search.space) == (str(folder / "out"), {})
    assert not list((folder / "out/tuning").rglob("run-*"))  # checkpoints of trials that ended
    assert not list((folder / "out/tuning").rglob("*.pkl"))


def test_more_trials_go_on_where_the_search_was(folder, ray_address):
    before = json.loads((folder / "out/tuning/trials.json").read_text())[0]
    done = succeed(folder, "tune", "job.yaml", "--address", ray_address, "--set", "search.trials=2")
    assert "tune: 1 of 2 trials to run" in done.stderr
    assert "prepare: up to date" in done.stderr
    assert "partition: up to date" in done.stderr
    assert "trial 1:" not in done.stderr
    after = json.loads((folder / "out/tuning/trials.json").read_text())
    assert before in after
    assert [row["best"] for row in after] == sorted((row["best"] for row in after), reverse=True)
    assert len(done.stdout.splitlines()) == 3
    again = succeed(
        folder, "tune", "job.yaml", "--set", "search.trials=2", "--address", "127.0.0.1:1"
    )  # needs no Ray
    assert again.stdout == done.stdout


def test_a_search_that_is_stopped_says_so_and_nothing_more(folder):
    more = ("--set", "search.trials=3", "--set", "training.epochs=2000", "--set", "evaluation.patience=2000")
    lines = end_at(folder, "trial 1: train: epoch 3/", signal.SIGTERM, "tune", "job.yaml", *more)
    end = next(number for number, line in enumerate(lines) if line.startswith("stopped by SIGTERM."))
    assert [line for line in lines[end + 1 :] if not line.startswith("trial 1: ")] == []


def test_what_is_no_setting_of_training_is_refused(folder):
    done = command(folder, "tune", "job.yaml", "--set", "search.space={seed: {int: [1, 2]}}")
    assert done.returncode == 2
    assert "search.space.seed: found seed; only settings that shape training can be searched" in done.stderr
