"""Failures of workers on Ray Train: the policy as its callback, and its errors unwrapped."""

from __future__ import annotations

from typing import Any

from ray.train import ControllerError, TrainingFailedError, UserCallback, WorkerGroupError

from mmssl_dist.cluster.connection import describe
from mmssl_dist.errors import MmsslError, WorkerError, find_known
from mmssl_dist.launch.failure_policy import FailurePolicy, root_failure, worker_error


class EndOnPermanentFailure(UserCallback):  # type: ignore[misc]
    """In Ray Train's controller: ends a run that a restart of the workers would not fix."""

    def __init__(self, policy: FailurePolicy) -> None:
        self.policy = policy

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Called by Ray Train when the workers have reported."""
        # A report means that storage answered since the last failure; the next silence counts as the first.
        self.policy.progress()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train when workers have failed; raises as ``FailurePolicy.judge``."""
        self.policy.judge(worker_exceptions)


def unwrap(error: TrainingFailedError, stage: str) -> MmsslError:
    """The one error to show out of Ray Train's wrapping."""
    # The controller wraps what a callback raised, and ours raises on purpose to end the run.
    inner = error.controller_failure if isinstance(error, ControllerError) else error
    own_error = find_known(inner)
    if own_error is not None:
        return own_error
    if isinstance(inner, WorkerGroupError):
        return worker_error(*root_failure(inner.worker_failures))
    return WorkerError(f"{stage}: the workers could not be started or kept running: {describe(inner)}")
