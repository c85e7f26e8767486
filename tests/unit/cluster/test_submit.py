"""What is sent to a cluster, and how the job's end becomes an exit status."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from mmssl_dist.cluster import submit as submit_module
from mmssl_dist.cluster.exit_watch import Terminated
from mmssl_dist.cluster.submit import Submission, cluster_address, submit
from mmssl_dist.config import load_job
from mmssl_dist.errors import ConfigError, InputError

YAML = "output: out\ndata: {path: 'raw: #1', modalities: {image: {file: image.npy}}}\n"


class FakeClient:
    """Notes what is submitted; the job then goes through ``statuses``."""

    def __init__(self, statuses: list[JobStatus], code: int | None) -> None:
        self.statuses, self.code = statuses, code

    def submit_job(self, entrypoint: str, runtime_env: dict, metadata: dict) -> str:
        self.entrypoint, self.environment, self.metadata = entrypoint, runtime_env, metadata
        folder = Path(runtime_env["working_dir"])
        self.folder = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        cli = folder / "cli.py"
        self.version = (
            cli.exists()
            and subprocess.run(
                [sys.executable, str(cli), "--version"],
                capture_output=True,
                text=True,
                cwd=cli.parent,
                check=True,
            ).stdout
        )
        return "job-1"

    async def tail_job_logs(self, job_id: str):
        yield "first\n"
        yield "second\n"

    def get_job_info(self, job_id: str) -> SimpleNamespace:
        status = self.statuses.pop(0)
        return SimpleNamespace(status=status, driver_exit_code=self.code)


@pytest.fixture
def job_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my job.yaml"
    path.write_text(YAML)
    return path


def _submit(monkeypatch, submission, statuses=(JobStatus.SUCCEEDED,), code=0):
    client, output = FakeClient(list(statuses), code), []
    monkeypatch.setattr(submit_module, "job_client", lambda target: client)
    monkeypatch.setattr(submit_module, "_STATUS_SECONDS", 0.0)
    return submit(submission, "http://127.0.0.1:1", output.append), client, output


@pytest.mark.processes
def test_package_yaml_and_absolute_paths_are_sent(monkeypatch, job_file, tmp_path):
    sets = (
        *("seed=3", "data.columns.user=a b", "export.users=users.csv", "export.table.path=lists"),
        *("training.start_from=runs/before", "tracking.mlflow=mlruns"),
        'data.modalities.text={"table": "items.csv", "columns": ["title"], "encoder": "./minilm"}',
        'data.modalities.hub={"table": "items.csv", "columns": ["title"], "encoder": "mini/lm"}',
    )
    submission = Submission(job_file, sets, ("--force",))
    status, client, output = _submit(monkeypatch, submission)
    assert status == 0
    assert {
        "cli.py",
        "jobs/my job.yaml",
        "mmssl_dist/app/__init__.py",
        "mmssl_dist/config/tree.py",
    } <= client.folder
    assert not any("__pycache__" in name for name in client.folder)
    assert client.version.startswith("mmssl-dist ")
    words = shlex.split(client.entrypoint)
    assert words[:4] == ["python", "cli.py", "run", "jobs/my job.yaml"]
    assert words[-1] == "--force"
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    sent = load_job(job_file, overrides)
    assert (sent.data.path, sent.output) == (f"{tmp_path}/raw: #1", f"{tmp_path}/out")
    assert (sent.export.users, sent.training.start_from) == (
        f"{tmp_path}/users.csv",
        f"{tmp_path}/runs/before",
    )
    assert sent.export.table is not None
    assert sent.export.table.path == f"{tmp_path}/lists"
    assert sent.tracking.mlflow == f"{tmp_path}/mlruns"
    encoders = {name: sent.data.modalities[name].encoder for name in ("text", "hub")}
    assert encoders == {"text": f"{tmp_path}/minilm", "hub": "mini/lm"}
    assert (sent.seed, sent.data.columns.user) == (3, "a b")
    assert client.metadata == {"mmssl_name": "my job", "mmssl_output": f"{tmp_path}/out"}
    assert output == ["submitted job-1 to http://127.0.0.1:1", "first", "second", "job-1: succeeded"]


def test_image_brings_the_package_so_the_yaml_goes_alone(monkeypatch, job_file):
    _, client, _ = _submit(monkeypatch, Submission(job_file, installed=True))
    assert client.folder == {"jobs", "jobs/my job.yaml"}
    assert shlex.split(client.entrypoint)[:3] == ["mmssl-dist", "run", "jobs/my job.yaml"]
    assert "env_vars" not in client.environment


@pytest.mark.processes
def test_urls_are_left_alone(monkeypatch, job_file):
    submission = Submission(job_file, ("output=s3://bucket/run", "data.path=/raw"))
    _, client, _ = _submit(monkeypatch, submission)
    words = shlex.split(client.entrypoint)
    assert [words[i + 1] for i, word in enumerate(words) if word == "--set"] == list(submission.overrides)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("end", "code", "status"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, 1, 1),
        (JobStatus.FAILED, None, 1),
        (JobStatus.FAILED, -9, 1),
        (JobStatus.STOPPED, None, 1),
    ],
)
def test_exit_status_is_the_jobs_even_when_the_log_ends_earlier(monkeypatch, job_file, end, code, status):
    statuses = (JobStatus.RUNNING, JobStatus.RUNNING, end)
    assert _submit(monkeypatch, Submission(job_file), statuses, code)[0] == status


@pytest.mark.processes
@pytest.mark.parametrize("end", [KeyboardInterrupt, Terminated])
def test_ctrl_c_and_sigterm_detach_and_say_how_to_come_back(monkeypatch, job_file, end):
    def interrupted(client, job_id, show):
        raise end

    monkeypatch.setattr(submit_module, "_exit_status", interrupted)
    client, output = FakeClient([], 0), []
    monkeypatch.setattr(submit_module, "job_client", lambda target: client)
    with pytest.raises(end):
        submit(Submission(job_file), "http://127.0.0.1:1", output.append)
    assert output[-2] == (
        "detached; job-1 runs on. Follow it again: mmssl-dist jobs logs job-1 --address http://127.0.0.1:1"
    )


class WithoutAgent(FakeClient):
    """A cluster whose dashboard agent comes up after some calls, or never: another one has its port."""

    def __init__(self, calls: int) -> None:
        super().__init__([JobStatus.SUCCEEDED], 0)
        self.calls = calls

    def submit_job(self, entrypoint: str, runtime_env: dict, metadata: dict) -> str:
        self.calls -= 1
        if self.calls >= 0:
            raise RuntimeError("Request failed with status code 500: No available agent to submit job.")
        return "job-1"


def test_an_agent_that_is_late_is_waited_for(monkeypatch, job_file):
    client, output = WithoutAgent(3), []
    monkeypatch.setattr(submit_module, "job_client", lambda target: client)
    monkeypatch.setattr(submit_module, "_STATUS_SECONDS", 0.0)
    assert submit(Submission(job_file, installed=True), "http://127.0.0.1:1", output.append) == 0
    assert client.calls == -1


def test_another_ray_on_the_agent_s_port_is_named_with_the_port(monkeypatch, job_file):
    client = WithoutAgent(1000)
    monkeypatch.setattr(submit_module, "job_client", lambda target: client)
    monkeypatch.setattr(submit_module, "_STATUS_SECONDS", 0.0)
    monkeypatch.setattr(submit_module, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(InputError, match=r"agent does not run.*port, 52365.*listen-port=PORT`\.$") as caught:
        submit(Submission(job_file, installed=True), "http://127.0.0.1:1", str)
    assert caught.value.where == "--address"
    assert "a Ray cluster must answer there" not in str(caught.value)


def test_invalid_job_is_not_sent(job_file):
    with pytest.raises(ConfigError):
        submit(Submission(job_file, ("scaling.workers=9",)), "http://127.0.0.1:1", str)


def test_address_in_order_of_precedence(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "1.2.3.4:6379")
    assert cluster_address(None) == "1.2.3.4:6379"
    assert cluster_address("http://h:1") == "http://h:1"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:99999"])
def test_no_cluster_says_how_to_start_one(job_file, address):
    with pytest.raises(InputError, match="Start one on this machine with `ray start --head`"):
        submit(Submission(job_file), address, str)
