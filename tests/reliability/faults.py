"""Faults: processes killed, files damaged, a disk that fills up, an object store that misbehaves."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from moto.server import DomainDispatcherApplication, create_backend_app

from tests.reliability.target import Command

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DAMAGES = ("flipped", "truncated", "deleted")


def kill_driver(command: Command) -> str:
    """SIGKILL to the command itself; its Ray finds out by itself."""
    command.descendants()
    command.process.kill()
    return "SIGKILL of the driver"


_NO_WORK = (
    "IDLE",
    "LogRelay",
    "DashboardAgent",
    "RuntimeEnvAgent",
)  # processes that call themselves ray:: too


def kill_worker(command: Command, rng: random.Random) -> str | None:
    """SIGKILL to one of the processes that do the stage's work; None when there is none."""
    workers = {"prepare": "ray::", "partition": "ray::", "train": "RayTrainWorker"}
    return _kill(command, rng, (workers.get(command.stage, "StageWorker"),))


def kill_raylet(command: Command, rng: random.Random) -> str | None:
    """SIGKILL to the machine's raylet, which takes every worker along; None when there is none."""
    return _kill(command, rng, ("raylet/raylet",))


def _kill(command: Command, rng: random.Random, marks: tuple[str, ...]) -> str | None:
    result = []
    for process in command.descendants():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(mark in line for mark in marks) and not any(name in line for name in _NO_WORK):
            result.append((process, line))
    if not result:
        return None
    process, line = rng.choice(sorted(result, key=lambda candidate: candidate[0].pid))
    process.send_signal(signal.SIGKILL)
    return f"SIGKILL of {line.split()[0].split('/')[-1]}"


def damage(path: Path, how: str, rng: random.Random) -> None:
    """Do to the file what a bad disk or a broken copy does."""
    content = bytearray(path.read_bytes())
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        offset = rng.randrange(len(content))
        content[offset] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[None]:
    """A file system of its own at ``folder``; needs the right to mount."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(folder: Path) -> Path:
    """Leave no byte free at ``folder``; gives the file to delete."""
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"\0" * (1 << 16))
        except OSError:
            return ballast


class FaultyStore:
    """moto's S3 as an application to serve, which, while ``share`` is above 0, spoils that share of the
    requests.

    Attributes:
        share: share of the requests.
        spoiled: how many were spoiled, by kind.
    """

    KINDS = ("503", "500", "reset", "silent", "slow", "short")

    def __init__(self, seed: int) -> None:
        self.share, self.kinds = 0.0, self.KINDS
        self.spoiled = dict.fromkeys(self.KINDS, 0)
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._ended, other = socket.socketpair()
        other.close()
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._lock:
            fault = self._rng.choice(self.kinds) if self._rng.random() < self.share else None
            if fault:
                self.spoiled[fault] += 1
        if fault in ("503", "500"):
            text = b"<Error><Code>SlowDown</Code><Message>spoiled by the test</Message></Error>"
            start_response(
                f"{fault} spoiled", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
            )
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]
        if fault == "reset":
            at_once = struct.pack("ii", 1, 0)  # closing then resets
            connection = environ["werkzeug.socket"]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            os.dup2(self._ended.fileno(), connection.fileno())  # closes it for all streams of it
            raise ConnectionResetError
        if fault == "silent":
            raise ConnectionResetError  # the server drops the request, and keeps the connection
        if fault == "slow":
            time.sleep(1.0)
        answer = self._moto(environ, start_response)
        if fault == "short" and environ["REQUEST_METHOD"] == "GET":
            content = b"".join(answer)
            return [content[: len(content) // 2]]  # less than its Content-Length
        return answer
