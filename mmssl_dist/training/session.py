"""How the training loop hands out checkpoints and finds the one to go on from, whoever started its worker."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from mmssl_dist.storage import Location


class Session(Protocol):
    """The worker's line to the run it is part of."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Hand in figures and, from each worker, the files of its share of a checkpoint.

        Every worker calls it, equally often; nobody returns before all have called. The folders of all workers
        become one checkpoint, so file names differ between workers. A report with a checkpoint has
        ``evaluation.metric`` among its metrics. The folder is the session's from then on: its files may still be
        on their way when this returns, and the session deletes it.
        """

    def latest(self) -> Location | None:
        """The newest complete checkpoint of this run, as it was when the worker started, or None."""


class LocalSession:
    """A session in a local folder, without Ray, for one process or for tests of several that share ``folder``.

    It doesn't wait for the others: a checkpoint is complete when all of them have reported it.

    Attributes:
        reports: metrics of every report, oldest first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[dict[str, float]] = []
        self._found = sorted(folder.glob("checkpoint-*"))
        self._count = len(self._found)

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        self.reports.append(dict(metrics))
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.folder / f"checkpoint-{self._count:05d}", dirs_exist_ok=True)
            shutil.rmtree(checkpoint)
            self._count += 1

    def latest(self) -> Location | None:
        if not self._found:
            return None
        path = str(self._found[-1].absolute())
        return Location(pafs.LocalFileSystem(), path, path)
