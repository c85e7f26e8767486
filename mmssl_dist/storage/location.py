"""One way to files, wherever they are: URLs of stores and servers, or paths, as pyarrow filesystems."""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError, MmsslError, StorageError, StorageFault
from mmssl_dist.storage.cache import make_room, mark_used, one_at_a_time
from mmssl_dist.storage.content import (
    FileRecord,
    RecordedStream,
    file_digest,
    npy_header,
    renamed_on_success,
)
from mmssl_dist.storage.remote import (
    delete_folder,
    has_buckets,
    is_read_only,
    is_web,
    same_filesystem_of,
    scheme_of,
)
from mmssl_dist.storage.remote_errors import explain_remote, of_client, shown_text
from mmssl_dist.storage.s3_errors import explain
from mmssl_dist.storage.web_server import http_info

_logger = logging.getLogger(__name__)

_CHUNK = 1 << 24
_SILENT_SECONDS = 10.0

_FULL = (errno.ENOSPC, errno.EDQUOT)
ADVICE = "Check the URL, the credentials and the `storage` section."

T = TypeVar("T")


@dataclass(frozen=True)
class Location:
    """A file or folder: a pyarrow filesystem, the path in it, and the URL to name it by in messages.

    ``storage``: what a remote filesystem was opened with; None for this machine's.
    """

    filesystem: pafs.FileSystem
    path: str
    url: str
    storage: Storage | None = None

    def __reduce__(self) -> tuple[Callable[..., Location], tuple[object, ...]]:
        # pyarrow forgets retries and endpoints when a filesystem is pickled; a worker opens its own, once
        if self.storage is None:
            return Location, (self.filesystem, self.path, self.url)
        return _reopened, (self.path, self.url, self.storage)

    def __truediv__(self, name: str) -> Location:
        # Names also come from manifests that somebody else may have written: none may leave its folder.
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise StorageError(
                self.url, name, "a name below a folder may not leave it", "Use a relative path."
            )
        if "\0" in name:
            raise StorageError(self.url, name, "names must not contain NUL", "Use another name.")
        return Location(self.filesystem, f"{self.path}/{name}", f"{self.url}/{name}", self.storage)

    @property
    def is_local(self) -> bool:
        """Whether it is on a filesystem of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def bucket(self) -> str:
        """First part of the path; of no meaning for a local file."""
        return self.path.split("/")[0]

    @property
    def scheme(self) -> str:
        """Such as s3; "file" for this machine's."""
        return "file" if self.is_local else scheme_of(self.url)

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there."""
        return is_read_only(self.scheme)

    def info(self) -> pafs.FileInfo:
        """What the filesystem says of it; of type NotFound where there is nothing."""
        if is_web(self.scheme):
            return self._ask(lambda: http_info(self.path))
        info: pafs.FileInfo = self._ask(lambda: self.filesystem.get_file_info(self.path))
        if info.type == pafs.FileType.NotFound:
            self._require_bucket()
        return info

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return bool(self.info().type != pafs.FileType.NotFound)

    def is_folder(self) -> bool:
        """Whether there is a folder; a web server has no folders, so that any URL may be one."""
        if is_web(self.scheme):
            return True
        return bool(self.info().type == pafs.FileType.Directory)

    def files(self) -> list[pafs.FileInfo]:
        """Every file below this folder, sorted by path; empty when there is no such folder."""
        if is_web(self.scheme):
            raise StorageError(
                self.url,
                "no such file",
                "a web server cannot list folders; wildcards are not supported",
                "Name every file, or use a storage that can be listed.",
            )
        selector = pafs.FileSelector(self.path, recursive=True, allow_not_found=True)
        infos: list[pafs.FileInfo] = self._ask(lambda: self.filesystem.get_file_info(selector))
        if not infos:
            self._require_bucket()
        return sorted((f for f in infos if f.type == pafs.FileType.File), key=lambda f: f.path)

    def broken_links(self) -> list[str]:
        """Paths below this folder, relative to it, of symbolic links that lead nowhere: a listing leaves them
        out silently."""
        if not self.is_local:
            return []
        folders = os.walk(self.path, followlinks=False)
        links = (os.path.join(folder, name) for folder, _, names in folders for name in names)
        broken = (path for path in links if os.path.islink(path) and not os.path.exists(path))
        return sorted(os.path.relpath(path, self.path) for path in broken)

    def look(self) -> None:
        """List this folder's first level, for what the storage says to that; nothing there is fine."""
        if is_web(self.scheme):
            return
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        if not self._ask(lambda: self.filesystem.get_file_info(selector)):
            self._require_bucket()

    def read_start(self, size: int) -> bytes:
        """The first ``size`` bytes of the file."""

        def read() -> bytes:
            with self.filesystem.open_input_file(self.path) as stream:
                return bytes(stream.read(size))

        return self._run(read)

    def holds(self, other: Location) -> bool:
        """Whether ``other`` is this folder or below it, whatever the two are called and linked to."""
        # abfss is abfs over TLS
        if self.scheme.replace("abfss", "abfs") != other.scheme.replace("abfss", "abfs"):
            return False
        ours, theirs = (os.path.realpath(one.path) if one.is_local else one.path for one in (self, other))
        return ours == theirs or theirs.startswith(f"{ours.rstrip('/')}/")

    def relative(self, info: pafs.FileInfo) -> str:
        """The name of a file from ``files()`` below this folder."""
        return str(info.path).removeprefix(self.path).lstrip("/")

    def read_bytes(self) -> bytes:
        """The content of a file."""

        def read() -> bytes:
            with self.filesystem.open_input_file(self.path) as stream:
                return bytes(stream.read())

        return self._run(read)

    def record(self) -> FileRecord:
        """Size and SHA-256 of the file as it is now, read in pieces."""

        def read() -> FileRecord:
            recorded = RecordedStream()
            with self.filesystem.open_input_stream(self.path) as stream:
                while piece := stream.read(_CHUNK):
                    recorded.write(piece)
            return recorded.record()

        return self._run(read)

    def write_bytes(self, data: bytes | memoryview | pa.Buffer) -> FileRecord:
        """Write a whole file; a local one appears under its name only when complete."""
        view = memoryview(data).cast("B")

        def write() -> FileRecord:
            with self._writing() as stream:
                recorded = RecordedStream(stream)
                for start in range(0, len(view), _CHUNK):
                    recorded.write(view[start : start + _CHUNK])
            return recorded.record()

        return self._run(write, is_write=True)

    def write_array(self, array: np.ndarray) -> FileRecord:
        """Write ``array`` as a ``.npy`` file without a second copy of it in memory."""
        contiguous = np.ascontiguousarray(array)
        body = contiguous.reshape(-1)
        step = max(1, _CHUNK // max(1, contiguous.itemsize))
        pieces = (body[start : start + step] for start in range(0, len(body), step))
        return self.write_rows(contiguous.shape, contiguous.dtype, pieces)

    def write_rows(self, shape: tuple[int, ...], dtype: np.dtype, pieces: Iterable[np.ndarray]) -> FileRecord:
        """Write an array as a ``.npy`` file that is never whole in memory.

        Args:
            shape: of the array. dtype: of the array. pieces: its rows, some at a time, in order.
        """
        header = npy_header(shape, dtype)

        def write() -> FileRecord:
            with self._writing() as stream:
                recorded = RecordedStream(stream)
                recorded.write(header)
                for piece in pieces:
                    recorded.write(np.ascontiguousarray(piece, dtype).reshape(-1).view(np.uint8).data)
                # within the block: what is too short never gets its name
                assert recorded.bytes == len(header) + math.prod(shape) * dtype.itemsize
            return recorded.record()

        return self._run(write, is_write=True)

    def localize(self, cache: Path, record: FileRecord | None = None) -> Path:
        """A local file with this content, downloaded below ``cache`` unless it is local already; open it
        soon.

        ``cache`` keeps to ``storage.cache_gb``: a file that nobody asked for in a while may go.

        Raises:
            ArtifactError: the content is not what ``record`` says.
        """
        if self.is_local:
            target = Path(self.path)
        else:
            target = (
                cache / hashlib.sha256(self.url.encode()).hexdigest()[:16] / PurePosixPath(self.path).name
            )
            if _is_whole(target, record):
                mark_used(target)
                return target
            with one_at_a_time(target):
                if not _is_whole(target, record):  # another process may have downloaded it meanwhile
                    self._download(cache, target, record)
        if not target.is_file():
            raise self._absent(record)
        if record is not None and file_digest(target) != record.sha256:
            raise ArtifactError(
                f"{self.url}: content differs from its manifest (SHA-256); the file was truncated or "
                "changed after it was published. Run the stage that made it again."
            )
        return target

    def _download(self, cache: Path, target: Path, record: FileRecord | None) -> None:
        info = self.info()
        if info.type == pafs.FileType.NotFound:
            raise self._absent(record)
        make_room(cache, int(info.size or 0), int((self.storage or Storage()).cache_gb * 1e9))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        local = pafs.LocalFileSystem()
        try:
            self._run(
                lambda: pafs.copy_files(
                    self.path, str(partial), source_filesystem=self.filesystem, destination_filesystem=local
                )
            )
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _absent(self, record: FileRecord | None) -> MmsslError:
        if record is None:
            return StorageError(self.url, "nothing", "the file must exist", "Check the path.")
        return ArtifactError(
            f"{self.url}: gone, though its manifest names it. Run the stage that made it again."
        )

    def _lost(self) -> StorageError:
        """Why a file could not be written for something that is not there."""
        self._require_bucket()
        rule = "the folder, or the upload at a store, must stay until the file is complete"
        return StorageFault(
            self.url, "that the file disappeared while being written", rule, "Re-run the command."
        )

    def remove(self) -> None:
        """Delete the file or the folder with all below it; nothing there is fine."""
        file_type = self.info().type
        if file_type == pafs.FileType.Directory:
            self._run(lambda: delete_folder(self.filesystem, self.path))
        elif file_type == pafs.FileType.File:
            self._ask(lambda: self.filesystem.delete_file(self.path))

    def _writing(self) -> AbstractContextManager[pa.NativeFile]:
        if self.is_read_only:
            raise StorageError(
                self.url,
                f"{self.scheme}://",
                "output must go to s3://, gs://, abfs:// or a folder",
                "Choose another output.",
            )
        if not self.is_local:
            stream: AbstractContextManager[pa.NativeFile] = self.filesystem.open_output_stream(self.path)
            return stream
        return renamed_on_success(self.filesystem, self.path)

    def _require_bucket(self) -> None:
        """Distinguish a missing bucket from an empty one; stores answer both alike when asked for a key."""
        if not has_buckets(self.scheme):
            return
        try:
            file_type = self.filesystem.get_file_info(self.bucket).type
        except (OSError, pa.ArrowException):
            return  # credentials that may read objects but not look at the bucket: the objects will tell
        if file_type == pafs.FileType.NotFound:
            raise StorageError(self.url, f"no bucket {self.bucket}", "the bucket must exist", ADVICE)

    def _run(self, call: Callable[[], T], is_write: bool = False) -> T:
        try:
            return call()
        except FileNotFoundError as error:
            raise (self._lost() if is_write else self._absent(None)) from error
        except (OSError, pa.ArrowException) as error:
            raise self.refusal(error) from error
        except Exception as error:
            if not of_client(error):
                raise
            raise self.refusal(error) from error

    def _ask(self, call: Callable[[], T]) -> T:
        """``_run`` for requests that take milliseconds, unless they are sent again and again, for up to
        minutes: then it says so."""
        if self.is_local:
            return self._run(call)
        again = self.storage.retries if self.storage else 0
        timer = threading.Timer(
            _SILENT_SECONDS,
            _logger.warning,
            (
                "%s: waiting for the storage's answer for %g s now; failures are retried up to %d times",
                self.url,
                _SILENT_SECONDS,
                again,
            ),
        )
        timer.daemon = True
        timer.start()
        try:
            return self._run(call)
        finally:
            timer.cancel()

    def refusal(self, error: Exception) -> StorageError:
        """What the filesystem raised when it was asked for something here, as a user can read it."""
        if self.scheme == "s3":
            problem = explain(error, self.bucket)
        else:
            problem = None if self.is_local else explain_remote(error, self.scheme, self.bucket)
        if problem is not None and problem.wants_region:
            try:
                self.filesystem.get_file_info(self.bucket)
            except OSError as named:  # pyarrow tells a bucket's region when asked for the bucket
                problem = explain(named, self.bucket) or problem
        if self.is_local and isinstance(error, OSError) and error.errno in _FULL:
            return StorageFault(
                self.url,
                os.strerror(error.errno),
                "the disk must have room for what is written",
                "Free some space and re-run the command, or choose another output.",
            )
        if problem is None:
            error_type = StorageError if self.is_local else StorageFault
            return error_type(self.url, shown_text(error), "the storage must answer", ADVICE)
        return StorageFault(self.url, *problem) if problem.may_pass else StorageError(self.url, *problem)


def _is_whole(target: Path, record: FileRecord | None) -> bool:
    """Whether an earlier download is there with the content that ``record`` says."""
    return record is not None and target.exists() and file_digest(target) == record.sha256


def _reopened(path: str, url: str, storage: Storage) -> Location:
    return Location(same_filesystem_of(url, storage), path, url, storage)
