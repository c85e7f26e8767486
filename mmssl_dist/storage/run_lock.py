"""One command at a time writes to a run's folder on a disk."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mmssl_dist.errors import InputError
from mmssl_dist.storage.location import Location

# Below the output; the file stays, and the lock is free again when its process has ended, however it ended.
LOCK = ".lock"

_logger = logging.getLogger(__name__)


@contextmanager
def writing_alone(output: Location) -> Iterator[None]:
    """Until its end no other command may write to ``output``, a folder that can be written. Object storage
    has no such locks: there it is up to the user.

    Raises:
        InputError: another command is writing there.
    """
    if not output.is_local:
        yield
        return
    folder = Path(output.path)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                "output",
                f"{output.url}, in use by {file.read(200).strip() or 'another command'}",
                "one command at a time writes to a run",
                "Wait until it ends, or choose another output.",
            ) from None
        except OSError as error:  # some network file systems have no locks
            _logger.warning("output: it cannot be locked against a second command (%s)", error.strerror)
        file.truncate(0)
        moment = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {moment}\n")
        file.flush()
        yield
