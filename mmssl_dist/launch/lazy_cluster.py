"""Ray at its first use: a command with nothing to do starts none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mmssl_dist.cluster.connection import Cluster, connect
from mmssl_dist.cluster.shared_paths import require_shared
from mmssl_dist.config import Job


class LazyCluster:
    """The Ray of one command.

    Args:
        open_cluster: connects, or starts a Ray on this machine; called at most once.
    """

    def __init__(self, open_cluster: Callable[[], Cluster]) -> None:
        self._open = open_cluster
        self._cluster: Cluster | None = None

    def connect(self) -> Cluster:
        """The connected Ray."""
        if self._cluster is None:
            self._cluster = self._open()
        return self._cluster


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
            cluster = stack.enter_context(connect(job.scaling, job.storage, address, debug))
            require_shared(job)
            return cluster

        yield LazyCluster(open_cluster)


def not_needed() -> LazyCluster:
    """For lookups, which run nothing."""

    def refuse() -> Cluster:
        raise AssertionError("a lookup connects to no cluster")

    return LazyCluster(refuse)
