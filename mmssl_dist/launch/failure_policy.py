"""What follows a failed worker: errors that would recur end the stage at once; after a lost machine, or
storage that did not answer once, the workers restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from mmssl_dist.cluster.connection import describe
from mmssl_dist.cluster.log_relay import relayed_logs
from mmssl_dist.errors import StorageError, StorageFault, WorkerError, find_known
from mmssl_dist.storage import Location

_logger = logging.getLogger(__name__)

# A worker whose neighbour died sees a broken connection (RuntimeError, OSError); these mean a bug.
_BUGS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NameError,
    ImportError,
    AssertionError,
    NotImplementedError,
    ArithmeticError,
)


class FailurePolicy:
    """Decides about the failures of one stage's workers.

    Storage that did not answer has been asked several times already. If it does not answer the restarted
    workers either, the stage ends; its command resumes it.

    Args:
        stage: to start log lines with.
        storage: where checkpoints go; None for a stage without.
        relay: brings log lines to the driver; None in the driver itself.
    """

    def __init__(self, stage: str, storage: Location | None = None, relay: Any = None) -> None:
        self.stage, self.storage, self.relay = stage, storage, relay
        self._unanswered = False

    def progress(self) -> None:
        """Note that the workers have come further since the last failure."""
        self._unanswered = False

    def judge(self, failures: Mapping[int, Exception]) -> None:
        """Log failures, by rank, that a restart may fix.

        Raises:
            MmsslError: a restart would not fix them.
        """
        faults = []
        for rank, error in sorted(failures.items()):
            # Ours first: an error of this project says by its class whether a restart can help.
            own_error = find_known(error) or self._of_upload(error)
            if isinstance(own_error, StorageFault):
                faults.append(own_error)
                continue
            # One error of our own decides, whatever the others raised: they mostly report its consequences.
            if own_error is not None:
                raise own_error
            if isinstance(error, _BUGS):
                raise worker_error(rank, error) from error
        # The workers have started again since, and asked again: the storage is down, and more starts would
        # only repeat it.
        if faults and self._unanswered:
            raise faults[0]
        self._unanswered = bool(faults)
        self._log(faults[0] if faults else worker_error(*root_failure(failures)))

    def _log(self, failure: Exception) -> None:
        with nullcontext() if self.relay is None else relayed_logs(self.relay):
            _logger.warning("%s: %s; if restarts are left, the workers restart", self.stage, failure)

    def _of_upload(self, error: Exception) -> StorageError | None:
        """Ray Train uploads checkpoints by itself, and passes on what pyarrow said."""
        if self.storage is None or not isinstance(error, OSError) or "AWS Error" not in str(error):
            return None
        return self.storage.refusal(error)


def worker_error(rank: int, error: BaseException) -> WorkerError:
    """The error to show for what worker ``rank`` raised; keeps the worker's traceback as a note."""
    shown = WorkerError(f"worker {rank} failed: {describe(error)}")
    # Tracebacks do not survive pickling; the worker has put its own into a note.
    for note in getattr(error, "__notes__", ()):
        shown.add_note(note)
    return shown


def root_failure(failures: Mapping[int, Exception]) -> tuple[int, Exception]:
    """The failure that caused the others: a death rather than the broken connections its neighbours saw."""
    from ray.exceptions import RayActorError

    # Ray Train marks deaths by an attribute
    deaths = [
        rank
        for rank, error in sorted(failures.items())
        if isinstance(error, RayActorError) or hasattr(error, "health_check_failure")
    ]
    rank = deaths[0] if deaths else min(failures)
    return rank, failures[rank]
