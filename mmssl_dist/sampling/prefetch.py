"""Batches made ahead of the step, by one thread for the life of the run."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from mmssl_dist.sampling.batch import Batch, BatchSampler

_NICENESS = 5
"""Of the sampling thread above the step's: the step gets three quarters of a core that both want."""


class Prefetcher:
    """Calls a sampler from a thread of its own, always the same one, at most ``depth`` batches ahead.

    Collectives of the sampler therefore run in the order of the steps on every worker. Nothing is sampled
    past the end of an epoch, because the views of the next one are published between the two. On a GPU the
    thread has a stream of its own, so that the step's kernels wait for no draw.
    """

    def __init__(self, sampler: BatchSampler, depth: int) -> None:
        self.sampler, self.depth = sampler, depth
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="sampler", initializer=_yield_to_step
        )
        self._stream: torch.cuda.Stream | None = None
        if sampler.device.type == "cuda":
            self._stream = torch.cuda.Stream(sampler.device)  # type: ignore[no-untyped-call]
        self._seconds: list[float] = []
        self._edges = 0

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from step ``first`` on, in order."""
        pending: deque[Future[Batch]] = deque()
        for step in range(first, self.sampler.steps):
            pending.append(self._thread.submit(self._sample, epoch, step))
            # One more than ``depth`` is submitted before the first is waited for: the thread samples while
            # the caller trains on the batch that it gets.
            if len(pending) > self.depth:
                yield self._ready(pending.popleft())
        while pending:
            yield self._ready(pending.popleft())

    def take(self) -> tuple[list[float], int]:
        """Seconds that each batch since the last call took to sample, and the edges sampled."""
        # Without a lock: it is called between epochs, when the thread has nothing to sample.
        taken = self._seconds, self._edges
        self._seconds, self._edges = [], 0
        return taken

    def _sample(self, epoch: int, step: int) -> Batch:
        started = time.perf_counter()
        with torch.cuda.stream(self._stream):  # nothing where there is none
            batch = self.sampler.batch(epoch, step)
            if self._stream is not None:
                # The step uses the batch on another stream, which knows nothing of this one's work.
                self._stream.synchronize()
        self._seconds.append(time.perf_counter() - started)
        self._edges += batch.graph.num_edges
        return batch

    def _ready(self, future: Future[Batch]) -> Batch:
        batch = future.result()
        if self._stream is not None:
            step = torch.cuda.current_stream(self._stream.device)
            for tensor in _tensors(batch):
                tensor.record_stream(step)  # else the next batch may take its memory before the step is done
        return batch

    def close(self) -> None:
        """Stop after the batch in progress, if any."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _yield_to_step() -> None:
    # In a step every worker waits for the slowest, again and again. A batch is waited for only where none is
    # ready, so sampling takes the time in which the step waits.
    if sys.platform == "linux":  # where threads have priorities of their own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def _tensors(value: object) -> Iterator[Tensor]:
    """Those in a tensor, or in a dataclass, tuple or mapping of what has any."""
    if isinstance(value, Tensor):
        yield value
        return
    parts: Iterable[object] = ()
    if dataclasses.is_dataclass(value):
        parts = vars(value).values()
    elif isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, tuple):
        parts = value
    for part in parts:
        yield from _tensors(part)
