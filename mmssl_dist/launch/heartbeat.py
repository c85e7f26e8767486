"""Heartbeats between the workers, so that a worker whose collective fails can name the one that is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import Store

from mmssl_dist.exchange.worker import Worker

_BEAT_SECONDS = 1.0
# Ten beats: a worker that is swapping or compiling may miss some, and must not be taken for dead.
_SILENT_SECONDS = 10.0
_KEY = "mmssl/pulse"


class LostWorkerError(RuntimeError):
    """Other workers stopped responding: a collective with them failed or timed out."""


@contextmanager
def heartbeat(worker: Worker, store: Store) -> Iterator[None]:
    """Beat while the body runs; if it fails in a collective, find out which workers no longer beat.

    Args:
        store: shared by all workers, kept by the first of them.

    Raises:
        LostWorkerError: from the body's RuntimeError, if there are such workers.
    """
    own = _connection(store)
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while True:
            try:
                own.set(f"{_KEY}/{worker.rank}", str(count))
            except dist.DistError:
                return  # worker 0 is gone; this one fails in its next collective
            # Waits on the event and does not sleep, so that the end of the body ends the thread at once.
            if ended.wait(_BEAT_SECONDS):
                return
            count += 1

    # A daemon, so that a thread blocked in a call to the store does not keep the process from ending.
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    except RuntimeError as error:
        # torch's collectives raise plain RuntimeErrors and DistErrors; a subclass is the program's own error
        if type(error) is not RuntimeError and not isinstance(error, dist.DistError):
            raise
        # Over a new connection: the thread's own may be blocked in a call to the store that just went away.
        silent = silent_workers(_connection(store), worker)
        if not silent:
            raise
        names = ", ".join(map(str, silent))
        raise LostWorkerError(
            f"worker {names} sent no heartbeat for {_SILENT_SECONDS:g} s while worker {worker.rank} waited "
            f"for it ({str(error).splitlines()[0]})"
        ) from error
    finally:
        ended.set()
        thread.join(_SILENT_SECONDS)


def silent_workers(store: Store, worker: Worker) -> Sequence[int]:
    """Ranks that do not beat during this call, which takes some seconds; [0], who keeps the store, if the
    store does not answer."""

    def beats() -> dict[int, bytes]:
        keys = {rank: f"{_KEY}/{rank}" for rank in range(worker.world_size) if rank != worker.rank}
        return {rank: store.get(key) if store.check([key]) else b"" for rank, key in keys.items()}

    try:
        # Two readings instead of times of beats: clocks of machines differ, counters that stand still do not.
        before = beats()
        time.sleep(_SILENT_SECONDS)
        after = beats()
    except dist.DistError:
        return [0]
    return [rank for rank, count in before.items() if count == after[rank]]


def _connection(store: Store) -> Store:
    """A separate connection: a store serves one call at a time, and a rendezvous may block in one."""
    own: Store = store.clone()  # type: ignore[attr-defined]  # torch's stubs lack it
    own.set_timeout(timedelta(seconds=_SILENT_SECONDS))
    return own
