"""Ends of this process from outside.

SIGTERM ends a command in order, with one line on how to resume. An end that leaves no chance (Ray takes a
driver down at once when the Ray of its machine dies, memory runs out, somebody sends SIGKILL) is reported by
a small process beside this one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_TERMINATED = 128 + signal.SIGTERM
RESUME = "What is published is complete; run the same command again to resume."
"""What an end from outside means for a command that publishes."""
DETACHED = "A job that was submitted runs on; `mmssl-dist jobs list` shows it."
"""The same for a command that follows a job elsewhere."""
_TEXT = (
    "error: this command's process was ended from outside: its machine's Ray died, memory ran out, or it was "
    f"killed. {RESUME}\n"
).encode()
# reads until the pipe closes; a byte before that means that the process ends in its own way
_WATCH = f"""
import os, sys
if not os.read(int(sys.argv[1]), 1):
    os.write(2, {_TEXT!r})
"""


class Terminated(BaseException):
    """SIGTERM arrived; like ``KeyboardInterrupt``, no ordinary handler of errors catches it."""


@contextmanager
def terminable(note: str = "") -> Iterator[None]:
    """Until its end SIGTERM writes one line, which ends with ``note``, and raises ``Terminated`` in the main
    thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the end
        os.write(2, _stopped(note))  # at once: what sent it may allow three seconds
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def kept_sigterm() -> Iterator[None]:
    """While its body starts Ray, SIGTERM raises ``Terminated``; at its end the handler is the one from
    before.

    Ray installs its own: one that ends Python with status 15, and one in C++ that writes a stack.

    Raises:
        Terminated: SIGTERM arrived at Ray's handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    ending = False
    try:
        yield
    except Terminated:
        ending = True
        raise
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        ending = True
        os.write(2, _stopped(RESUME))  # nearly all commands that start Ray publish
        raise Terminated from error
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if ending else before)


def _stopped(note: str) -> bytes:
    return f"{f'stopped by SIGTERM. {note}'.rstrip()}\n".encode()


class ExitWatch:
    """A small process beside this one, which writes one line to stderr if this one is gone before
    ``close``."""

    def __init__(self) -> None:
        ours, self._end = os.pipe()  # no program started from here inherits the second
        # Isolated, without site packages: it must start at once, and no file of the user's may change it.
        command = [sys.executable, "-I", "-S", "-c", _WATCH, str(ours)]
        # in a session of its own: what is sent to this process's group is not for it
        self._watch = subprocess.Popen(  # noqa: S603 - our own program
            command,
            pass_fds=[ours],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Only the watch may hold the reading end, or it would never see the pipe close.
        os.close(ours)

    def close(self) -> None:
        """End the watch, which writes nothing; a second call does nothing."""
        if self._end >= 0:
            try:
                # A byte: this process ends in its own way. The end of the pipe without one: it was ended
                os.write(self._end, b".")
            except BrokenPipeError:
                pass  # somebody ended the watch
            os.close(self._end)
            self._end = -1
            self._watch.wait()
