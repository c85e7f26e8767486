"""How the training loop hands out checkpoints and finds the one to resume from, however it was started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

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
