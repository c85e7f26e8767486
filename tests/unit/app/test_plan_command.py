"""plan as a user meets it: sizes given, sizes published, and what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.planning.torch_build import has_cuda_build
from mmssl_dist.storage import open_location, read_manifest
from tests.jobs import training_job
from tests.training import publish_graph

ROOT = Path(__file__).parents[3]
GIVEN = ("--users", 1000, "--items", 300, "--interactions", 20_000, "--modality", "image=8")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *(str(a) for a in arguments)])


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(f"output: {tmp_path}\ndata: {{path: raw, modalities: {{image: {{file: image.npy}}}}}}\n")
    return path


def test_a_graph_that_does_not_exist_yet(job_file):
    done = call(job_file, *GIVEN, "--no-calibrate", "--memory", 4)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1,000 users, 300 items, 14,000 training interactions (the sizes given")
    assert "with 4.0 GB per worker: at least 1 worker(s), partition.parts 4" in lines
    assert not [line for line in lines if line.startswith(("breaks", "  time"))]


def test_what_breaks_is_told(job_file):
    done = call(job_file, *GIVEN, "--no-calibrate", "--memory", 0.2)
    assert "with 200.0 MB per worker: no number of workers fits" in done.stdout
    # A process takes more with the CUDA build of PyTorch, with or without a GPU.
    needed = re.search(r"breaks: train: (\d\.\d) GB per worker; no number of workers is enough", done.stdout)
    assert needed is not None
    assert (float(needed[1]) == 0.7) != has_cuda_build()


@pytest.mark.processes
def test_as_json_with_times_and_costs(job_file):
    # in a process of its own, as it is used: DeepSpeed knows one process group in its life
    words = ("plan", job_file, *GIVEN, "--json", "--price=2")
    command = [sys.executable, "-m", "mmssl_dist", *map(str, words)]
    result = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)
    assert (result["users"], result["workers"], result["modalities"]) == (1000, 1, {"image": 8})
    seconds = {stage["stage"]: stage["seconds"] for stage in result["stages"]}
    assert seconds["train"] == pytest.approx(result["time"]["training"])
    assert result["cost"] == pytest.approx(2 * sum(seconds.values()) / 3600)
    assert result["time"]["steps"] == 14


@pytest.mark.processes
def test_sizes_of_published_partitions(tmp_path):
    job = training_job(tmp_path)
    publish_graph(job)
    raw = tmp_path / "raw"
    raw.mkdir()
    path = tmp_path / "job.yaml"
    path.write_text(
        json.dumps(
            job.model_dump(mode="json")
            | {
                "data": {
                    "path": str(raw),
                    "modalities": {"image": {"file": "image"}, "text": {"file": "text"}},
                }
            }
        )
    )
    assert read_manifest(open_location(str(tmp_path), job.storage) / "partitions", "partitions") is not None
    done = call(path, "--no-calibrate")  # nothing says that they are of these raw files, which are gone
    assert done.exit_code == 2
    assert "nothing of this job is published" in done.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--users", 5), "a graph that does not exist yet needs all four"),
        ((), "nothing of this job is published"),
        ((*GIVEN[:-1], "image"), "a modality has the form NAME=WIDTH"),
        ((*GIVEN[:5], 10**6, *GIVEN[6:]), "there are 300000 pairs"),
    ],
)
def test_what_is_missing(job_file, words, problem):
    done = call(job_file, *words, "--no-calibrate")
    assert (done.exit_code, done.stdout) == (2, "")
    assert problem in done.stderr
