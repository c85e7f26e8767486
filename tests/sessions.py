"""A training session in a local folder, for tests that train without Ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.fs as pafs

from mmssl_dist.storage import Location


class LocalSession:
    """A ``Session`` without Ray, for one process or several that share ``folder``.

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
