"""The content of files: what is recorded of it, headers of arrays, local files that appear when complete."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs


@dataclass(frozen=True)
class FileRecord:
    """Size and SHA-256 of a file as it was written."""

    bytes: int
    sha256: str


@contextmanager
def renamed_on_success(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """A stream into the local file ``path``, which has its name only when all is written; else nothing
    stays."""
    # With the process id, so that two commands on one output do not write into each other's file.
    partial = f"{path}.{os.getpid()}.partial"
    Path(partial).parent.mkdir(parents=True, exist_ok=True)
    stream = filesystem.open_output_stream(partial)
    try:
        try:
            yield stream
        finally:
            stream.close()
    except BaseException:
        # BaseException, so that Ctrl-C leaves no partial file either.
        os.unlink(partial)
        raise
    # On the same file system, since it is in the same folder: atomic there, and no copy.
    os.replace(partial, path)


class RecordedStream:
    """Keeps the record of what is written to ``stream``, or to nothing."""

    def __init__(self, stream: pa.NativeFile | None = None) -> None:
        self.bytes, self._stream, self._digest = 0, stream, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        if self._stream is not None:
            self._stream.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def record(self) -> FileRecord:
        """Of all that was written."""
        return FileRecord(self.bytes, self._digest.hexdigest())


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What a ``.npy`` file of a C-ordered array begins with."""
    stream = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    # Version 1.0, which every reader of .npy knows; its header takes 64 KiB, far more than a shape needs.
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def file_digest(path: Path) -> str:
    """SHA-256 of a local file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
