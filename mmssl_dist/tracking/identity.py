"""What distinguishes trainings for the trackers: a resumed one continues its run there, one that was started
over is another."""

from __future__ import annotations

import secrets

from mmssl_dist.config import Job
from mmssl_dist.storage import Location, RunFolder

_FOLDER = "trackers"  # below the output
_START = "start-"  # in the names of files with the token of a training, before the name of its folder


def start_over(job: Job, run: str) -> None:
    """Let the training in the folder ``run`` be another run of the trackers from now on, where the job names
    one that keeps runs."""
    if job.tracking.mlflow is not None or job.tracking.wandb is not None:
        _start_of(job, run).write_bytes(secrets.token_hex(8).encode())


def tracked_identity(job: Job, run: str) -> str:
    """Equal in every process of a training, and of those that resume it."""
    start = _start_of(job, run)
    token = start.read_bytes().decode() if start.exists() else ""
    return f"{job.output}/{run}{token}"


def _start_of(job: Job, run: str) -> Location:
    return RunFolder.of(job).root / _FOLDER / f"{_START}{run}"
