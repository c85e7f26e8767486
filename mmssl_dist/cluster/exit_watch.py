"""Says so when this process is ended without a chance to: by Ray, which takes a driver down at once when the
Ray of its machine dies, by the kernel for want of memory, or by somebody's SIGKILL."""

from __future__ import annotations

import os
import subprocess
import sys

_TEXT = (
    "error: this command's process was ended from outside: its machine's Ray died, memory ran out, or it was "
    "killed. What is published is whole; give the same command again and it goes on."
)
# reads until the pipe closes; a byte before that means that the process ends in its own way
_WATCH = f"""
import os, sys
if not os.read(int(sys.argv[1]), 1):
    os.write(2, {(_TEXT + chr(10)).encode()!r})
"""


class LastWords:
    """A small process beside this one, which writes one line to stderr if this one is gone before
    ``close``."""

    def __init__(self) -> None:
        ours, self._end = os.pipe()  # no program started from here inherits the second
        command = [sys.executable, "-I", "-S", "-c", _WATCH, str(ours)]
        # in a session of its own: what is sent to this process's group is not for it
        self._watch = subprocess.Popen(  # noqa: S603 - our own program
            command,
            pass_fds=[ours],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ours)

    def close(self) -> None:
        """Nothing needs to be said; a second call does nothing."""
        if self._end >= 0:
            try:
                os.write(self._end, b".")
            except BrokenPipeError:
                pass  # somebody ended the watch
            os.close(self._end)
            self._end = -1
            self._watch.wait()
