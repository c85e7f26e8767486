"""Batches made ahead of the step, by one thread for the life of the run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from mmssl_dist.sampling.batch import Batch, BatchSampler


class Prefetcher:
    """Calls a sampler from a thread of its own, always the same one, at most ``depth`` batches ahead.

    Collectives of the sampler therefore run in the order of the steps on every worker. Nothing is sampled
    past the end of an epoch, because the views of the next one are published between the two.
    """

    def __init__(self, sampler: BatchSampler, depth: int) -> None:
        self.sampler, self.depth = sampler, depth
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sampler")
        self._seconds: list[float] = []
        self._edges = 0

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from step ``first`` on, in order."""
        pending: deque[Future[Batch]] = deque()
        for step in range(first, self.sampler.steps):
            pending.append(self._thread.submit(self._sample, epoch, step))
            if len(pending) > self.depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def take(self) -> tuple[list[float], int]:
        """Seconds that each batch since the last call took to sample, and the edges sampled."""
        taken = self._seconds, self._edges
        self._seconds, self._edges = [], 0
        return taken

    def _sample(self, epoch: int, step: int) -> Batch:
        started = time.perf_counter()
        batch = self.sampler.batch(epoch, step)
        self._seconds.append(time.perf_counter() - started)
        self._edges += batch.graph.num_edges
        return batch

    def close(self) -> None:
        """Stop after the batch in progress, if any."""
        self._thread.shutdown(wait=True, cancel_futures=True)
