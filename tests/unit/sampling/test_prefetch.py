"""Batches made ahead: in order, from one thread, never past an epoch's end, and errors arrive."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sampling.prefetch import Prefetcher


class Made(tuple[int, int]):
    """A batch: (epoch, step), with as many edges as they say."""

    @property
    def graph(self) -> SimpleNamespace:
        return SimpleNamespace(num_edges=10 * self[0] + self[1])


@dataclass(kw_only=True)
class Recorder:
    """Stands in for a sampler: its batches are (epoch, step)."""

    steps: int = 5
    fails_at: int | None = None
    calls: list[tuple[int, int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    niceness: set[int] = field(default_factory=set)
    gate: threading.Event | None = None
    inside: threading.Event = field(default_factory=threading.Event)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def batch(self, epoch: int, step: int) -> Made:
        self.threads.add(threading.get_ident())
        self.niceness.add(_niceness())
        self.calls.append((epoch, step))
        if self.gate is not None:
            self.inside.set()
            assert self.gate.wait(60)
        if step == self.fails_at:
            raise ValueError(f"step {step}")
        return Made((epoch, step))


def _niceness() -> int:
    """Of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def prefetcher(recorder: Recorder, depth: int) -> Prefetcher:
    return Prefetcher(cast(BatchSampler, recorder), depth)


@pytest.mark.parametrize("depth", [0, 1, 2, 9])
def test_in_order_from_one_thread(depth):
    recorder = Recorder()
    batches = prefetcher(recorder, depth)
    wanted = [(epoch, step) for epoch in range(3) for step in range(5)]
    result = [batch for epoch in range(3) for batch in batches.epoch(epoch)]
    assert result == recorder.calls == wanted
    assert len(recorder.threads) == 1
    assert recorder.threads != {threading.get_ident()}
    seconds, edges = batches.take()
    assert (len(seconds), edges) == (15, sum(10 * epoch + step for epoch, step in wanted))
    assert min(seconds) >= 0
    assert batches.take() == ([], 0)
    batches.close()


def test_the_step_goes_first_where_both_want_a_core():
    recorder, before = Recorder(), _niceness()
    list(prefetcher(recorder, 1).epoch(0))
    assert recorder.niceness == {min(before + 5, 19)}
    assert _niceness() == before


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_never_further_ahead_than_its_depth(depth):
    recorder = Recorder(steps=6)
    batches = prefetcher(recorder, depth)
    for number, _ in enumerate(batches.epoch(0)):
        batches._thread.submit(int).result()  # what was asked for so far is made
        assert len(recorder.calls) == min(number + 1 + depth, 6)
    assert len(recorder.calls) == 6  # the epoch is over: nothing of the next one
    batches.close()


def test_an_error_arrives_at_its_step():
    batches = prefetcher(Recorder(fails_at=3), 2)
    epoch = batches.epoch(0)
    assert [next(epoch) for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(ValueError, match="step 3"):
        next(epoch)
    batches.close()


def test_close_ends_what_waits_after_the_batch_in_progress():
    recorder = Recorder(steps=8)
    batches = prefetcher(recorder, 4)
    epoch = batches.epoch(0)
    next(epoch)
    batches._thread.submit(int).result()
    assert len(recorder.calls) == 5
    recorder.gate = threading.Event()
    next(epoch)
    next(epoch)
    assert recorder.inside.wait(60)  # batch 5 is in progress now, held by the gate, and 6 waits
    release = threading.Timer(0.2, recorder.gate.set)
    release.start()
    batches.close()
    assert recorder.gate.is_set()
    assert recorder.calls == [(0, step) for step in range(6)]
    release.join()
    with pytest.raises(RuntimeError, match="shutdown"):
        list(epoch)


def test_an_empty_epoch():
    batches = prefetcher(Recorder(steps=0), 2)
    assert list(batches.epoch(0)) == []
    batches.close()
