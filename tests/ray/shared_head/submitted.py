"""A small demo job that was submitted to a cluster, and what its commands wrote."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clusters import ROOT, Head, client_environment

SECRET = "a-secret-that-must-not-show"
"""The key of the cluster's machine to an object store."""
JOB = ROOT / "jobs" / "demo.yaml"
SIZES = ("--users=120", "--items=60", "--interactions=700", "--modality=image=6", "--modality=text=4")
SMALLER = {
    "output": "out",
    "data.path": "raw data",
    "model.dimension": "8",
    "training.epochs": "2",
    "training.batch_size": "512",
    "training.fanout": "[3, 3]",
    "evaluation.every_epochs": "1",
    "evaluation.ks": "[10, 20]",
    "export.k": "5",
    "export.table": "{path: days, format: delta, date: 2026-11-30}",
}


@dataclass(frozen=True)
class Submitted:
    """The folder of a job whose output is out/, and the standard output and error of its commands."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    outputs: tuple[str, ...]


def submit_demo(head: Head, folder: Path, **overrides: str) -> subprocess.CompletedProcess[str]:
    """`mmssl-dist submit` of the demo, smaller; ``overrides`` with ``__`` for a dot."""
    settings = SMALLER | {name.replace("__", "."): value for name, value in overrides.items()}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return head.command(folder, "submit", str(JOB), "--address", head.address, *words)


def alone(home: Path, cwd: Path, *arguments: str) -> str:
    """Both outputs of a command that has no variable of Ray's and joins no cluster; it must work."""
    environment: Mapping[str, str] = {**client_environment(), "HOME": str(home), "RAY_AUTH_TOKEN": ""}
    done = Head("", "", {name: value for name, value in environment.items() if value}).command(
        cwd, *arguments
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
