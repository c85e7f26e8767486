"""Clusters of their own for tests: made by ``ray start --head``, and ended with every process they
started."""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
SMALL_DATA = ("--users=120", "--items=60", "--interactions=700", "--modality=image=6", "--modality=text=4")
"""Of `synthesize`, for jobs whose results do not matter."""
_ADDRESSES = itertools.count(2)  # last numbers of 127.0.0.x, for machines added to a head at 127.0.0.1


@dataclass(frozen=True)
class Head:
    """A running cluster: its dashboard, its GCS, and the environment that its clients need."""

    address: str
    gcs: str
    environment: Mapping[str, str]

    @property
    def ray_environment(self) -> dict[str, str]:
        """For Ray's own clients, which do not find out by themselves that a token is asked for."""
        return {**self.environment, "RAY_AUTH_MODE": "token"}

    def command(self, cwd: Path, *arguments: str, timeout: float = 580) -> subprocess.CompletedProcess[str]:
        """``python cli.py ARGUMENTS`` in ``cwd``."""
        environment = {**self.environment, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
        )


@contextmanager
def started_head(
    cpus: int = 3,
    variables: Mapping[str, str] | None = None,
    autoscaling: Callable[[str], Mapping[str, object]] | None = None,
    agent_port: int | None = None,
) -> Iterator[Head]:
    """A cluster of one machine with ``variables`` in its environment.

    Args:
        variables: an empty one is taken away.
        agent_port: of the dashboard's agent, which takes jobs; any by default.
        autoscaling: makes, from the GCS's address, the configuration of an autoscaler that adds machines.
    """
    environment = {
        name: value for name, value in (client_environment() | dict(variables or {})).items() if value
    }
    dashboard, gcs = free_port(), free_port()
    with tempfile.TemporaryDirectory(
        prefix="ray-", ignore_cleanup_errors=True
    ) as folder:  # short: it holds sockets
        command = [
            str(BIN / "ray"),
            "start",
            "--head",
            "--block",
            f"--port={gcs}",
            f"--temp-dir={folder}",
            f"--dashboard-port={dashboard}",
            f"--num-cpus={cpus}",
            f"--object-store-memory={150_000_000}",
            # or it takes no jobs beside another Ray
            f"--dashboard-agent-listen-port={agent_port or free_port()}",
            "--node-ip-address=127.0.0.1",
        ]
        if autoscaling is not None:
            (Path(folder) / "autoscaling.json").write_text(json.dumps(autoscaling(f"127.0.0.1:{gcs}")))
            command.append(f"--autoscaling-config={folder}/autoscaling.json")
        with open(Path(folder) / "head.log", "w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            wait_for(process, dashboard, Path(folder) / "head.log")
            yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", environment)
        finally:
            end_session(process)


@contextmanager
def added_machine(head: Head, cpus: int = 1) -> Iterator[None]:
    """One more machine of the cluster: a raylet with an address of its own, or a driver might take it for the
    head."""
    command = [
        str(BIN / "ray"),
        "start",
        f"--address={head.gcs}",
        "--block",
        f"--num-cpus={cpus}",
        f"--object-store-memory={100_000_000}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--node-ip-address=127.0.0.{next(_ADDRESSES)}",
    ]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=head.ray_environment, start_new_session=True
        )
        try:
            yield
        finally:
            end_session(process)


def client_environment() -> dict[str, str]:
    """This process's environment with a token of its own and nothing else of Ray's: `ray start` asks for a
    token where there is one, and clients have to find out."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return environment | {
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End ``process`` and all in its session: this cluster's processes and no other's."""
    for pid in in_session(process.pid):
        with suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that is free now, and given to nobody who asks for any: above the range of Ray's workers (10002
    to 19999) and below the system's (from 32768). It is drawn, as other test processes may look for one at
    the same time."""
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def in_session(session: int) -> list[int]:
    """Processes of the session that process ``session`` leads."""
    result = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == session:
                    result.append(int(entry.name))
            except ProcessLookupError:
                continue
    return result


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if "Ray runtime started" in log.read_text():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
        time.sleep(0.5)
    raise RuntimeError(f"the cluster did not start:\n{log.read_text()}")


@contextmanager
def own_ray(**variables: str) -> Iterator[None]:
    """A small Ray in this process, with ``variables`` in its workers' environment."""
    import ray

    from mmssl_dist.cluster.local_ray import few_services

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in {"PYTHONPATH": str(ROOT), **variables}.items():
            patch.setenv(name, value)  # Ray's workers inherit it
        with few_services():
            ray.init(
                address="local",
                num_cpus=2,
                object_store_memory=int(150e6),
                include_dashboard=False,
                log_to_driver=False,
            )
        try:
            yield
        finally:
            ray.shutdown()
