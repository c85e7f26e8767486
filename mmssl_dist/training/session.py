"""How the training loop hands out checkpoints and finds the one to resume from, however it was started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from mmssl_dist.storage import Location


class Session(Protocol):
    """The worker's line to the run it is part of."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Hand in figures and, from each worker, the files of its share of a checkpoint.

        Every worker calls it, equally often; nobody returns before all have called. The folders of all
        workers become one checkpoint, so file names differ between workers. The report of a validated epoch
        has ``evaluation.metric`` among its metrics; one without hands in a checkpoint within an epoch. The
        folder is the session's from then on: its files may still be on their way when this returns, and the
        session deletes it.
        """

    def checkpoints(self) -> Sequence[Location]:
        """The complete checkpoints of this run as they were when the worker started, newest first."""

    def checkpoint_due(self, agree: Callable[[int], int]) -> bool:
        """Whether to hand in a checkpoint now, in the middle of an epoch; the same answer on every worker
        (collective).

        Args:
            agree: the largest value over the workers of what each one passes.
        """


class LocalSession:
    """A session in a local folder, without Ray, for one process or for tests of several that share
    ``folder``.

    It doesn't wait for the others: a checkpoint is complete when all of them have reported it.

    Args:
        every: a checkpoint is due every so many times that the loop asks; never when 0.

    Attributes:
        reports: metrics of every report, oldest first.
    """

    def __init__(self, folder: Path, every: int = 0) -> None:
        self.folder, self.every = folder, every
        self.reports: list[dict[str, float]] = []
        # Only those from before: what this session writes is nothing for it to resume from.
        self._found = sorted(folder.glob("checkpoint-*"))
        self._count = len(self._found)
        self._asked = 0

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """See ``Session.report``."""
        self.reports.append(dict(metrics))
        if checkpoint is not None:
            # Several processes may share the folder; each adds its own files to the same checkpoint.
            shutil.copytree(checkpoint, self.folder / f"checkpoint-{self._count:05d}", dirs_exist_ok=True)
            shutil.rmtree(checkpoint)
            self._count += 1

    def checkpoints(self) -> Sequence[Location]:
        """See ``Session.checkpoints``."""
        paths = [str(folder.absolute()) for folder in reversed(self._found)]
        return [Location(pafs.LocalFileSystem(), path, path) for path in paths]

    def checkpoint_due(self, agree: Callable[[int], int]) -> bool:
        """See ``Session.checkpoint_due``."""
        self._asked += 1
        return self.every > 0 and self._asked % self.every == 0
