"""Python streams that Arrow reads in threads of its own, and the end of the process.

Such a thread may release a stream milliseconds after the last row has been returned. It needs Python's lock
for that, and a thread that asks for the lock of an ending interpreter aborts the process: "terminate called
without an active exception", exit status 134, with all work done. So the interpreter waits before it ends.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from io import IOBase
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

_LIMIT_S = 1.0
"""A stream that Python itself still holds, as a traceback does, is not waited for any longer."""

_PAUSE_S = 0.005
"""At least this long, for buffers of Python's bytes, which Arrow releases likewise and nothing counts."""

_Stream = TypeVar("_Stream", bound=IOBase)

_lock = threading.Lock()
_lent: list[weakref.ref[IOBase]] = []  # without callbacks, which would run in Arrow's threads


def lend(stream: _Stream) -> _Stream:
    """The same stream, for Arrow to read; the end of the process waits until it is released."""
    with _lock:
        _lent[:] = [*(reference for reference in _lent if reference() is not None), weakref.ref(stream)]
    return stream


@atexit.register
def _wait_for_release() -> None:
    end = time.monotonic() + _LIMIT_S
    time.sleep(_PAUSE_S)  # without Python's lock, so that Arrow's threads get it
    while any(reference() is not None for reference in _lent) and time.monotonic() < end:
        time.sleep(_PAUSE_S)


class LendingHandler(pafs.FSSpecHandler):  # type: ignore[misc]
    """A filesystem of fsspec for Arrow, which lends its streams."""

    def open_input_stream(self, path: str) -> pa.PythonFile:
        """See ``pyarrow.fs.FileSystemHandler``."""
        return self._lent(path)

    def open_input_file(self, path: str) -> pa.PythonFile:
        """See ``pyarrow.fs.FileSystemHandler``."""
        return self._lent(path)

    def _lent(self, path: str) -> pa.PythonFile:
        if not self.fs.isfile(path):
            raise FileNotFoundError(path)
        return pa.PythonFile(lend(self.fs.open(path, mode="rb")), mode="r")
