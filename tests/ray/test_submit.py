"""A job through Ray Jobs on a cluster that this module starts with ``ray start --head`` and ends again."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "demo.yaml"
SMALLER = ("output=out", "data.path=raw data", "training.epochs=2", "training.batch_size=512",
           "evaluation.every_epochs=1", "evaluation.ks=[10, 20]", "export.k=5")  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A running cluster: its dashboard, and the environment that its clients need."""

    address: str
    environment: Mapping[str, str]


def _free_port() -> int:
    """A port that is free now, above the range of Ray's workers (10002 to 19999)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port > 20000:
            return port


def _in_session(session: int) -> list[int]:
    """Processes of the session that process ``session`` leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    dashboard = _free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # short: it holds sockets
        command = [str(BIN / "ray"), "start", "--head", "--block", f"--port={_free_port()}", f"--temp-dir={folder}",
                   f"--dashboard-port={dashboard}", "--num-cpus=3", f"--object-store-memory={150_000_000}"]
        with open(Path(folder) / "head.log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            _wait_for(process, dashboard, Path(folder) / "head.log")
            yield Head(f"http://127.0.0.1:{dashboard}", environment)
        finally:
            for pid in _in_session(process.pid):  # this cluster's processes and no other's
                os.kill(pid, signal.SIGKILL)
            process.wait()


def _wait_for(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if "Ray runtime started" in log.read_text():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
        time.sleep(0.5)
    raise RuntimeError(f"the cluster did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head) -> Path:
    """The raw files of a small demo, in a folder with a name that needs quoting."""
    path = tmp_path_factory.mktemp("a job")
    made = _command(head, path, "synthesize", "raw data", "--users=120", "--items=60", "--interactions=700",
                    "--modality=image=6", "--modality=text=4")
    assert made.returncode == 0, made.stderr
    return path


def _command(head: Head, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**head.environment, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(ROOT / "cli.py"), *arguments], cwd=cwd, capture_output=True, text=True,
                          env=environment, timeout=280)  # fmt: skip


def _submit(head: Head, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    settings = [part for override in (*SMALLER, *overrides) for part in ("--set", override)]
    return _command(head, folder, "submit", str(JOB), "--address", head.address, *settings)


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
