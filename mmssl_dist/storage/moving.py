"""Files and folders under another name: copied within a store, exchanged on a local disk."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from mmssl_dist.storage.location import Location
from mmssl_dist.storage.remote_errors import of_client

_COPIES = 16  # requests at once
_AT_WORKING_DIRECTORY = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE


def copy_files(source: Location, target: Location, names: list[str]) -> None:
    """Copy the files ``names`` below ``source`` to ``target``, in the same store, which copies them itself.

    Raises:
        StorageError: it refuses.
    """

    def copy(name: str) -> None:
        place = target / name
        try:
            place.filesystem.copy_file((source / name).path, place.path)
        except (OSError, pa.ArrowException) as error:
            raise place.refusal(error) from error
        except Exception as error:
            if not of_client(error):
                raise
            raise place.refusal(error) from error

    with ThreadPoolExecutor(_COPIES) as pool:
        list(pool.map(copy, names))


def put_in_place(source: Location, target: Location) -> None:
    """Give the local folder ``source`` the name of ``target``, and an earlier folder of that name the name of
    ``source``. Linux exchanges the two at once; elsewhere, and on file systems that do not know how, there is
    no folder ``target`` for a moment.

    Raises:
        StorageError: the system refuses.
    """
    assert source.is_local
    assert target.is_local
    try:
        if not os.path.lexists(target.path):
            os.makedirs(os.path.dirname(target.path), exist_ok=True)
            os.rename(source.path, target.path)
        elif not _exchanged(source.path, target.path):
            earlier = f"{source.path}.earlier"
            os.rename(target.path, earlier)
            try:
                os.rename(source.path, target.path)
            except BaseException:
                os.rename(earlier, target.path)
                raise
            os.rename(earlier, source.path)
    except OSError as error:
        raise target.refusal(error) from error


def _exchanged(one: str, other: str) -> bool:
    """Whether the system could exchange the names of two folders."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # not Linux, or an old C library
        return False
    names = os.fsencode(one), os.fsencode(other)
    result: int = rename(_AT_WORKING_DIRECTORY, names[0], _AT_WORKING_DIRECTORY, names[1], _EXCHANGE)
    return result == 0
