"""What follows a failed worker. Errors that would recur end the run at once; after a lost machine, or storage
that did not answer once, the workers restart from the last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ray.train import ControllerError, TrainingFailedError, UserCallback, WorkerGroupError

from mmssl_dist.cluster.connection import describe
from mmssl_dist.cluster.log_relay import carried
from mmssl_dist.errors import MmsslError, StorageError, StorageFault, WorkerError, find_known
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


class EndOnPermanentFailure(UserCallback):  # type: ignore[misc]
    """In Ray Train's controller: logs each failure, and ends a run that a restart of the workers would not
    fix.

    Storage that did not answer has been asked several times already. If it does not answer the restarted
    workers either, the run ends; its command resumes it from the last checkpoint.

    Args:
        stage: to start the lines with.
        storage: where the run's checkpoints go.
        relay: brings log lines to the driver; see ``carried``.
    """

    def __init__(self, stage: str, storage: Location, relay: Any) -> None:
        self.stage, self.storage, self.relay = stage, storage, relay
        self._unanswered = False

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        self._unanswered = False

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        faults = []
        for rank, error in sorted(worker_exceptions.items()):
            known = find_known(error) or self._of_upload(error)
            if isinstance(known, StorageFault):
                faults.append(known)
                continue
            if known is not None:
                raise known
            if isinstance(error, _BUGS):
                raise worker_error(rank, error) from error
        if faults and self._unanswered:
            raise faults[0]
        self._unanswered = bool(faults)
        with carried(self.relay):
            _logger.warning(
                "%s: %s; if restarts are left, the workers restart from the last checkpoint",
                self.stage,
                faults[0] if faults else worker_error(*_root(worker_exceptions)),
            )

    def _of_upload(self, error: Exception) -> StorageError | None:
        """Ray Train uploads checkpoints by itself, and passes on what pyarrow said."""
        return (
            self.storage.refusal(error) if isinstance(error, OSError) and "AWS Error" in str(error) else None
        )


def worker_error(rank: int, error: BaseException) -> WorkerError:
    """The error to show for what worker ``rank`` raised; keeps the worker's traceback as a note."""
    shown = WorkerError(f"worker {rank} failed: {describe(error)}")
    for note in getattr(error, "__notes__", ()):
        shown.add_note(note)
    return shown


def unwrap(error: TrainingFailedError, stage: str) -> MmsslError:
    """The one error to show out of Ray Train's wrapping."""
    inner = error.controller_failure if isinstance(error, ControllerError) else error
    known = find_known(inner)
    if known is not None:
        return known
    if isinstance(inner, WorkerGroupError):
        return worker_error(*_root(inner.worker_failures))
    return WorkerError(f"{stage}: the workers could not be started or kept running: {describe(inner)}")


def _root(failures: Mapping[int, Exception]) -> tuple[int, Exception]:
    """The failure that caused the others: a death rather than the broken connections its neighbours saw."""
    deaths = [rank for rank, error in sorted(failures.items()) if hasattr(error, "health_check_failure")]
    rank = deaths[0] if deaths else min(failures)
    return rank, failures[rank]
