"""Ray's token on a machine where nobody has set a variable: a local command leaves one in the home folder,
`ray start` asks for it, and every command takes it up; and machines where it is missing or another one."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.clusters import ROOT, Head, free_port, started_head
from tests.exported import publish_run
from tests.ray.shared_head.submitted import JOB, SIZES


@pytest.mark.timeout(900)
def test_a_local_command_then_a_cluster_then_submit_jobs_and_serve(home, head, demo, tmp_path):
    output = list(demo.outputs)

    def output_of(*arguments: str) -> str:
        done = head.command(tmp_path, *arguments)
        output.append(done.stdout + done.stderr)
        assert done.returncode == 0, output[-1]
        return output[-1]

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.address}/api/version", timeout=30)
    at = ("--address", head.address)
    assert ": succeeded" in demo.outputs[-1].splitlines()[-1]
    job = demo.outputs[-1].split("submitted ")[1].split()[0]
    listed = output_of("jobs", "list", *at).splitlines()[1:]
    assert any(line.startswith(f"{job}  succeeded") for line in listed)
    assert "status:      succeeded" in output_of("jobs", "status", job, *at)
    assert "export: " in output_of("jobs", "logs", job, *at)
    assert "had ended already" in output_of("jobs", "stop", job, *at)
    assert "ok    ray " in output_of("doctor", "--address", head.gcs)
    served = _serve(head, demo.folder)
    assert served.returncode == 0, served.stderr
    output.append(served.stdout + served.stderr)
    token = (home / ".ray" / "auth_token").read_text()
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
def test_a_cluster_refuses_a_machine_without_its_token(head, tmp_path):
    without, other = tmp_path / "without", tmp_path / "other"
    without.mkdir()
    (other / ".ray").mkdir(parents=True)
    (other / ".ray" / "auth_token").write_text("another")
    publish_run(tmp_path / "run")
    for home, value in ((without, "no token here"), (other, "another token")):
        machine = Head(head.address, head.gcs, {**head.environment, "HOME": str(home)})
        calls: list[tuple[str, ...]] = [
            ("jobs", "list", "--address", head.address),
            ("synthesize", "raw", *SIZES, "--address", head.gcs),
        ]
        if home is without:  # the others ask in the same two ways
            calls += [
                ("submit", str(JOB), "--address", head.address),
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
    with started_head(variables={"HOME": str(home), "RAY_AUTH_TOKEN": ""}) as head:
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("a" * 64)
        done = head.command(tmp_path, "jobs", "list", "--address", head.address)
        assert done.returncode == 0, done.stderr
        done = head.command(tmp_path, "synthesize", "raw", *SIZES, "--address", head.gcs)
        assert done.returncode == 0, done.stderr
