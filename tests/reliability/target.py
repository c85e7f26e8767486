"""What faults are thrown at: a small job, its stages as commands in processes of their own, and what they
publish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pafs

from mmssl_dist.storage.manifest import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prepare", "partition", "train", "evaluate", "export")
ARTIFACTS = dict(zip(STAGES, ("dataset", "partitions", "training", "evaluation", "export"), strict=True))
EPOCHS = 8
USUAL = (600, 240, 9000)
"""Users, items and interactions."""
FEW = (300, 120, 3500)
"""Of which an epoch still lasts long enough to be met by a fault."""
LARGE = (60_000, 20_000, 1_200_000)
"""Of which each step of ``partition`` takes a while."""
JOB = f"""\
output: unused
seed: 5
data:
  path: raw
  modalities:
    image: {{file: features/image}}
    text: {{file: features/text}}
model: {{dimension: 16}}
losses: {{candidates: 64}}
training: {{epochs: {EPOCHS}, batch_size: 256, keep_checkpoints: 3, timeout_seconds: 30}}
evaluation: {{ks: [20], patience: 100}}
export: {{k: 20}}
"""


class Failed(AssertionError):
    """The system did something under a fault that it must not."""


def prepare_target(folder: Path, sizes: tuple[int, int, int] = USUAL) -> None:
    """Raw files and job file in ``folder``, which is made.

    Args:
        sizes: users, items and interactions.
    """
    users, items, interactions = sizes
    folder.mkdir(exist_ok=True)
    (folder / "job.yaml").write_text(JOB)
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "synthesize",
        str(folder / "raw"),
        "--users",
        str(users),
        "--items",
        str(items),
        "--interactions",
        str(interactions),
        "--modality",
        "image=12",
        "--modality",
        "text=8",
        "--seed",
        "3",
    ]
    subprocess.run(command, check=True, env=environment(), capture_output=True, cwd=folder)


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without its Ray's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@dataclass(kw_only=True)
class Command:
    """A running ``mmssl-dist STAGE``; its standard error is read as it comes.

    Attributes:
        lines: what it wrote so far.
        processes: it, its Ray and all their processes, as far as they have been seen.
    """

    folder: Path
    stage: str
    sets: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    more: Sequence[str] = ()
    lines: list[str] = field(default_factory=list)
    processes: dict[int, psutil.Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = [word for override in self.sets for word in ("--set", override)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), self.stage, "job.yaml", *words, *self.more],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**self.variables),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, line: str, seconds: float = 200) -> bool:
        """Whether it wrote a line with ``line`` before it ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(line in member for member in self.lines):
                return True
            if self.process.poll() is not None:
                self._reader.join()
                return any(line in member for member in self.lines)
            time.sleep(0.02)
        raise Failed(f"{self.stage}: no line {line!r} after {seconds} s:\n" + "\n".join(self.lines))

    def descendants(self) -> list[psutil.Process]:
        """The processes of its Ray that live now."""
        try:
            result = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            result = []
        self.processes |= {process.pid: process for process in result}
        return result

    def end(self, seconds: float = 300) -> int:
        """Its exit status, within ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.descendants()
            if time.monotonic() > deadline:
                self.process.kill()
                raise Failed(f"{self.stage} hangs: no end after {seconds:g} s:\n" + "\n".join(self.lines))
            time.sleep(0.5)
        self._reader.join()
        self.seconds = time.monotonic() - self.started
        return self.process.returncode


def left_over(commands: Sequence[Command], seconds: float = 150) -> list[str]:
    """What still runs of the Rays of these commands; a killed driver's agents look once a minute whether it
    lives."""
    processes = [process for command in commands for process in command.processes.values()]
    deadline = time.monotonic() + seconds
    while (alive := [member for member in processes if _lives(member)]) and time.monotonic() < deadline:
        time.sleep(0.5)
    return [str(process) for process in alive]  # with pid and name


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@dataclass(frozen=True)
class Published:
    """Where a run's artifacts are: a filesystem and the path of the run's folder in it."""

    filesystem: pafs.FileSystem
    path: str

    def manifest(self, stage: str) -> dict[str, Any] | None:
        path = f"{self.path}/{ARTIFACTS[stage]}/{MANIFEST}"
        if self.filesystem.get_file_info(path).type == pafs.FileType.NotFound:
            return None
        with self.filesystem.open_input_file(path) as stream:
            content: dict[str, Any] = json.loads(stream.read())
        return content

    def essence(self, stage: str) -> object:
        """What must come out whatever happens on the way: hashes of all files, and the validation curve."""
        manifest = self.manifest(stage)
        if manifest is None:
            return None
        files = {name: record["sha256"] for name, record in manifest["files"].items()}
        if (
            stage == "train"
        ):  # a checkpoint's folder is named by the time, and its manifest tells how long epochs took
            files = {
                name.split("/")[-1]: digest for name, digest in files.items() if not name.endswith(MANIFEST)
            }
            history = manifest["facts"]["history"]
            curve = [[entry[name] for name in ("epoch", "recall@20", "loss/total")] for entry in history]
            return files, curve, manifest["facts"]["best_epoch"]
        return files


def local(folder: Path) -> Published:
    return Published(pafs.LocalFileSystem(), str(folder))
