"""Ray's token on a machine where nobody has set a variable: a local command leaves one in the home folder,
`ray start` asks for it, and every command takes it up; and machines where it is missing or another one."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.clusters import ROOT, SMALL_DATA, Head, client_environment, free_port, started_head
from tests.exported import publish_run

SMALLER = (
    "output=out",
    "data.path=raw",
    "training.epochs=1",
    "training.batch_size=512",
    "evaluation.every_epochs=1",
    "evaluation.ks=[10, 20]",
    "export.k=5",
)
NOTHING_SET = {"RAY_AUTH_TOKEN": ""}


def _home(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), **NOTHING_SET}


def _alone(home: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command with no variable of Ray's, on no cluster."""
    environment = {**client_environment(), "HOME": str(home), "PYTHONPATH": str(ROOT)}
    del environment["RAY_AUTH_TOKEN"]
    return Head("", "", environment).command(cwd, *arguments)


@pytest.mark.timeout(900)
def test_a_local_command_then_a_cluster_then_submit_jobs_and_serve(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    output = []

    def output_of(done: subprocess.CompletedProcess[str]) -> str:
        output.append(done.stdout + done.stderr)
        assert done.returncode == 0, output[-1]
        return output[-1]

    output_of(_alone(home, tmp_path, "doctor"))
    token = (home / ".ray" / "auth_token").read_text()
    output_of(_alone(home, tmp_path, "synthesize", "raw", *SMALL_DATA))
    with started_head(variables=_home(home)) as head:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{head.address}/api/version", timeout=30)
        at = ("--address", head.address)
        settings = [part for override in SMALLER for part in ("--set", override)]
        sent = output_of(head.command(tmp_path, "submit", str(ROOT / "jobs/demo.yaml"), *at, *settings))
        assert ": succeeded" in sent.splitlines()[-1]
        job = sent.split("submitted ")[1].split()[0]
        assert (
            output_of(head.command(tmp_path, "jobs", "list", *at))
            .splitlines()[1]
            .startswith(f"{job}  succeeded")
        )
        assert "status:      succeeded" in output_of(head.command(tmp_path, "jobs", "status", job, *at))
        assert "export: " in output_of(head.command(tmp_path, "jobs", "logs", job, *at))
        assert "has already ended" in output_of(head.command(tmp_path, "jobs", "stop", job, *at))
        assert "ok    ray " in output_of(head.command(tmp_path, "doctor", "--address", head.gcs))
        served = _serve(head, tmp_path)
    assert served.returncode == 0, served.stderr
    output.append(served.stdout + served.stderr)
    assert not any(token in text for text in output)


def _serve(head: Head, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`serve` on the cluster until it says that it answers."""
    arguments = ["serve", "out", f"--port={free_port()}", f"--address={head.gcs}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        cwd=cwd,
        env={**head.environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, first + rest, errors)
    finally:
        process.kill()


@pytest.mark.timeout(900)
def test_a_cluster_refuses_a_machine_without_its_token(tmp_path):
    without, other = tmp_path / "without", tmp_path / "other"
    without.mkdir()
    (other / ".ray").mkdir(parents=True)
    (other / ".ray" / "auth_token").write_text("another")
    publish_run(tmp_path / "run")
    with started_head(cpus=1) as head:
        for home, value in ((without, "no token here"), (other, "another token")):
            environment = {**head.environment, "HOME": str(home)}
            del environment["RAY_AUTH_TOKEN"]
            machine = Head(head.address, head.gcs, environment)
            calls: list[tuple[str, ...]] = [
                ("jobs", "list", "--address", head.address),
                ("synthesize", "raw", *SMALL_DATA, "--address", head.gcs),
            ]
            if home is without:  # the others ask in the same two ways
                calls += [
                    ("submit", str(ROOT / "jobs/demo.yaml"), "--address", head.address),
                    ("serve", "run", f"--port={free_port()}", "--address", head.gcs),
                ]
            for arguments in calls:
                done = machine.command(tmp_path, *arguments)
                assert done.returncode == 2, done.stdout + done.stderr
                assert f"--address: found {arguments[-1]} and {value}; the cluster asks" in done.stderr
                assert "copy its ~/.ray/auth_token here" in done.stderr
        disabled = Head(head.address, head.gcs, {**head.environment, "RAY_AUTH_MODE": "disabled"})
        for arguments in (
            ("jobs", "list", "--address", head.address),
            ("synthesize", "raw", "--address", head.gcs),
        ):
            done = disabled.command(tmp_path, *arguments)
            assert done.returncode == 2
            assert "RAY_AUTH_MODE: found disabled; the cluster at " in done.stderr


def test_a_cluster_that_asks_for_no_token_takes_a_machine_that_has_one(tmp_path):
    """Its workers know no token, so the driver must not ask them for one."""
    home = tmp_path / "home"
    home.mkdir()
    with started_head(variables=_home(home)) as head:
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("a" * 64)
        done = head.command(tmp_path, "jobs", "list", "--address", head.address)
        assert done.returncode == 0, done.stderr
        done = head.command(tmp_path, "synthesize", "raw", *SMALL_DATA, "--address", head.gcs)
        assert done.returncode == 0, done.stderr
