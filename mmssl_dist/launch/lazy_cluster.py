"""Ray at its first use: a command with nothing to do starts none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from mmssl_dist.cluster.connection import Cluster, cluster_target, connect
from mmssl_dist.cluster.shared_paths import require_shared
from mmssl_dist.config import Job

if TYPE_CHECKING:
    from mmssl_dist.launch.worker_group import WorkerGroup

_logger = logging.getLogger(__name__)


class LazyCluster:
    """The Ray of one command.

    Args:
        open_cluster: connects, or starts a Ray on this machine; called at most once.
        opening: says in words what that does.
    """

    def __init__(self, open_cluster: Callable[[], Cluster], opening: str = "connecting to Ray") -> None:
        self._open, self._opening = open_cluster, opening
        self._cluster: Cluster | None = None
        self._workers: WorkerGroup | None = None

    def announce(self, stage: str) -> None:
        """Log that ``stage`` waits for Ray, unless it is connected."""
        if self._cluster is None:
            _logger.info("%s: %s", stage, self._opening)

    def connect(self) -> Cluster:
        """The connected Ray."""
        if self._cluster is None:
            self._cluster = self._open()
        return self._cluster

    def run_task(self, function: Callable[..., Any], *arguments: object) -> Any:
        """As ``Cluster.run_task``, but in a worker if there are some: they may hold all CPUs of the
        cluster."""
        if self._workers is not None:
            return self._workers.run_on_first(function, *arguments)
        return self.connect().run_task(function, *arguments)

    def run_tasks(self, function: Callable[..., Any], arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        """As ``run_task``, one task for each tuple of arguments; side by side where no workers hold the
        CPUs."""
        if self._workers is not None:
            return [self._workers.run_on_first(function, *call) for call in arguments]
        return self.connect().run_tasks(function, arguments)

    def workers(self, job: Job, stage: str) -> WorkerGroup:
        """The workers for stages of ``job`` after training, started if there are none.

        Raises:
            InputError: there was no room for them within ``scaling.wait_seconds``.
        """
        from mmssl_dist.launch.worker_group import WorkerGroup

        # A search trains jobs with different settings; only what the processes depend on restarts them.
        if self._workers is not None and not self._workers.serves(job):
            self.release_workers()
        if self._workers is None:
            self._workers = WorkerGroup(self.connect(), job)
        self._workers.start(stage)
        return self._workers

    def release_workers(self) -> None:
        """End the workers, so that others can have their resources."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None


@contextmanager
def lazy_cluster(job: Job, address: str | None = None, debug: bool = False) -> Iterator[LazyCluster]:
    """A Ray with room for the workers of ``job``; left, or stopped if it was started here, when the body
    ends.

    Args:
        address: of a Ray cluster; see ``connect``.

    Raises:
        InputError: at the first use: no cluster answers, it is too small, or a machine does not see the job's
            folders.
    """
    with ExitStack() as stack:

        def open_cluster() -> Cluster:
            beside = 1 if job.partition.workers == "auto" else job.partition.workers
            connected = stack.enter_context(
                connect(
                    scaling=job.scaling, storage=job.storage, address=address, debug=debug, cpu_workers=beside
                )
            )
            # workers end before the connection does: Ray starts anew for whoever asks it for something later
            stack.callback(cluster.release_workers)
            require_shared(job)
            return connected

        target = cluster_target(address)
        opening = f"connecting to the Ray cluster at {target}" if target else "starting Ray on this machine"
        cluster = LazyCluster(open_cluster, opening)
        yield cluster


def not_needed() -> LazyCluster:
    """For lookups, which run nothing."""

    def refuse() -> Cluster:
        # An assertion, as only a change of this code can lead here.
        raise AssertionError("a lookup connects to no cluster")

    return LazyCluster(refuse)
