"""Progress lines: what tasks and workers log under ``mmssl_dist`` reaches the driver's log, and nothing else
does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

PACKAGE = "mmssl_dist"
_POLL_SECONDS = 0.3
_LAST_SECONDS = 5.0

T = TypeVar("T")


class LogRelay:
    """Holds records between those who write them and the driver; runs as a Ray actor beside the driver."""

    def __init__(self) -> None:
        self._records: list[tuple[str, int, str]] = []

    def write(self, name: str, level: int, message: str) -> None:
        """Keep one record until the driver drains it."""
        self._records.append((name, level, message))

    def drain(self) -> list[tuple[str, int, str]]:
        """The records (logger's name, level, message) written since the last call."""
        records, self._records = self._records, []
        return records


class _RelayHandler(logging.Handler):
    def __init__(self, relay: Any, level: int, prefix: str) -> None:
        super().__init__(level)
        self.relay, self.prefix = relay, prefix
        self._written: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        # nobody waits for the answer: a lost line must not hold up a worker
        self._written = self.relay.write.remote(
            record.name, record.levelno, self.prefix + self.format(record)
        )

    def flush(self) -> None:
        """Wait until the relay has what was written, so that no line comes after the end of the work."""
        import ray

        if self._written is not None:
            ray.wait([self._written], timeout=_LAST_SECONDS)


@contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    """This package's log, progress included, goes to ``handler`` as well, for what runs within."""
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.flush()


@contextmanager
def relayed_logs(relay: Any, rank: int = 0, prefix: str = "") -> Iterator[None]:
    """In a task or worker: send this package's log to the driver; of ranks above 0 only warnings, with their
    rank.

    Args:
        prefix: to start every line with.
    """
    prefix += f"worker {rank}: " if rank else ""
    handler = _RelayHandler(relay, logging.INFO if rank == 0 else logging.WARNING, prefix)
    with handled_by(handler):
        yield


def in_thread(relay: Any, work: Callable[[], T], name: str) -> T:
    """``work()`` in a thread of its own, while this one passes on what the relay holds; Ctrl-C stays with
    this one."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001, raised again by the thread that waits
            failures.append(error)

    # A daemon, so that Ctrl-C in the main thread ends the command even while Ray does not return.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()

    def done(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    follow(relay, done)
    if failures:
        raise failures[0]
    return results[0]


def follow(relay: Any, done: Callable[[float], bool]) -> None:
    """In the driver: pass on what the relay holds until ``done(seconds to wait)`` says that the work is
    over."""
    import ray

    finished = False
    while not finished:
        # Asked before the last drain, so that what was written up to the end is still passed on.
        finished = done(_POLL_SECONDS)
        for name, level, message in ray.get(relay.drain.remote()):
            logging.getLogger(name).log(level, "%s", message)
