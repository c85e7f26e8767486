"""A folder of downloads with a size limit: what was not used for longest goes first, what is in use stays."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A file is opened, or mapped, soon after it was asked for; from then on it may lose its name.
IN_USE_SECONDS = 900.0


def downloads_folder() -> Path:
    """Folder for downloads, shared by this user's processes on this machine.

    Raises:
        PermissionError: it belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"mmssl-dist-{os.getuid()}"
    # The temporary folder is everybody's: unchecked, another user could plant files that are trusted.
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    return folder


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Makes other processes of this machine wait that want to download to ``path`` as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f"{path.name}.lock")
    with name.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by the end of the process
        try:
            yield
        finally:
            # Who has opened it before this and who comes later may now download at once, which harms nothing.
            name.unlink(missing_ok=True)


def mark_used(path: Path) -> None:
    """Note that ``path`` is wanted now; its time of change stays."""
    # Set by hand, since file systems mounted with noatime or relatime do not keep the time of access.
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def make_room(folder: Path, wanted: int, limit: int) -> int:
    """Delete downloads below ``folder`` so that ``wanted`` more bytes stay within ``limit``; returns bytes
    deleted.

    Those used within the last quarter of an hour stay, even where that exceeds the limit: a worker may be
    about to
    open them. Several processes may do this at once.
    """
    files = []
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another worker was faster
            continue
        if path.is_file():
            files.append((status.st_atime, status.st_size, path))
    excess = sum(size for _, size, _ in files) + wanted - limit
    deleted = 0
    oldest_in_use = time.time() - IN_USE_SECONDS
    # By time of use, the oldest first; sizes and names only break ties.
    for used, size, path in sorted(files):
        if deleted >= excess or used > oldest_in_use:
            break
        # A process that has the file open or mapped keeps its content; only the name goes.
        path.unlink(missing_ok=True)
        deleted += size
    return deleted
