"""What becomes of a failed worker: errors that would come again end the run at once; lost machines and storage that did
not answer make the workers start again, from the last checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.train import ControllerError, TrainingFailedError, UserCallback, WorkerGroupError

from mmssl_dist.errors import MmsslError, StorageFault, WorkerError, find_known
from mmssl_dist.launch.cluster import describe

# A worker whose neighbour died sees a broken connection (RuntimeError, OSError); these say that the program is wrong.
_PROGRAM = (TypeError, ValueError, LookupError, AttributeError, NameError, ImportError, AssertionError,
            NotImplementedError, ArithmeticError)


class StopOnLasting(UserCallback):  # type: ignore[misc]
    """In Ray Train's controller: ends a run whose error starting the workers again would not mend."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in sorted(worker_exceptions.items()):
            known = find_known(error)
            if isinstance(known, StorageFault):
                continue
            if known is not None:
                raise known
            if isinstance(error, _PROGRAM):
                raise worker_error(rank, error) from error


def worker_error(rank: int, error: BaseException) -> WorkerError:
    """The error to show for what worker ``rank`` raised; keeps the worker's traceback as a note."""
    found = WorkerError(f"worker {rank} failed: {describe(error)}")
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    return found


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
