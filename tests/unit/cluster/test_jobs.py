"""The commands about jobs of a cluster, against a client that knows two of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.cluster import jobs as jobs_module
from mmssl_dist.cluster import submit as submit_module


class FakeClient:
    """Two jobs: one that failed, and a later one that runs until it is stopped."""

    def __init__(self) -> None:
        common = {"message": "as it is\nmore", "entrypoint": "python cli.py run jobs/a.yaml"}
        self.jobs = {
            "old": SimpleNamespace(
                submission_id="old",
                status=JobStatus.FAILED,
                start_time=1_000,
                end_time=61_000,
                driver_exit_code=2,
                metadata={},
                **common,
            ),
            "new": SimpleNamespace(
                submission_id="new",
                status=JobStatus.RUNNING,
                start_time=120_000,
                end_time=None,
                driver_exit_code=None,
                metadata={"mmssl_name": "a", "mmssl_output": "s3://runs/a"},
                **common,
            ),
        }
        self.stopped: list[str] = []

    def list_jobs(self) -> list[SimpleNamespace]:
        return [*self.jobs.values(), SimpleNamespace(submission_id=None)]  # a driver that was not submitted

    def get_job_info(self, job_id: str) -> SimpleNamespace:
        if job_id not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist")
        return self.jobs[job_id]

    def get_job_logs(self, job_id: str) -> str:
        return "all of it\n"

    async def tail_job_logs(self, job_id: str):
        yield "line by line\n"

    def stop_job(self, job_id: str) -> None:
        self.stopped.append(job_id)


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    monkeypatch.setattr(jobs_module, "job_client", lambda target: fake)
    monkeypatch.setattr(submit_module, "_STATUS_SECONDS", 0.0)
    return fake


def _jobs(*arguments: str):
    return CliRunner().invoke(app, ["jobs", *arguments])


def test_list_shows_the_latest_first(client, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 123.5)
    lines = _jobs("list").output.splitlines()
    assert lines == [
        "id   status   started               duration    name  output",
        "new  running  1970-01-01 00:02:00Z  3.5 s       a     s3://runs/a",
        "old  failed   1970-01-01 00:00:01Z  1 min 00 s  -     -",
    ]
    new, old = json.loads(_jobs("list", "--json").output)
    assert new == {
        "id": "new",
        "status": "running",
        "name": "a",
        "output": "s3://runs/a",
        "started": "1970-01-01 00:02:00Z",
        "ended": None,
        "seconds": 3.5,
        "command": "python cli.py run jobs/a.yaml",
    }
    assert (old["name"], old["ended"], old["seconds"]) == (None, "1970-01-01 00:01:01Z", 60.0)


def test_status(client):
    assert _jobs("status", "old").output.splitlines() == [
        "status:      failed",
        "name:        -",
        "output:      -",
        "started:     1970-01-01 00:00:01Z",
        "ended:       1970-01-01 00:01:01Z",
        "exit status: 2",
        "command:     python cli.py run jobs/a.yaml",
        "message:     as it is",
    ]


def test_logs_follow_to_the_end_and_end_as_the_job_ends(client):
    done = _jobs("logs", "old")
    assert done.output.splitlines() == ["line by line", "old: failed"]
    assert done.exit_code == 2
    done = _jobs("logs", "new", "--no-follow")
    assert (done.output, done.exit_code) == ("all of it\n", 0)


def test_stop(client):
    assert "new is stopping" in _jobs("stop", "new").output
    assert "old has already ended" in _jobs("stop", "old").output
    assert client.stopped == ["new"]


@pytest.mark.parametrize("command", ["status", "logs", "stop"])
def test_a_job_that_the_cluster_does_not_know(client, command):
    done = _jobs(command, "none")
    assert done.exit_code == 2
    assert "JOB_ID: found none; the cluster must know the job. See `mmssl-dist jobs list`." in done.output


def test_no_cluster(monkeypatch):
    done = _jobs("list", "--address", "http://127.0.0.1:1")
    assert done.exit_code == 2
    assert "a Ray cluster must answer there" in done.output
