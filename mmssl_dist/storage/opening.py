"""Opens the location of a URL or a path: its scheme decides what it is reached with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import StorageError
from mmssl_dist.storage.location import ADVICE, Location
from mmssl_dist.storage.remote import SCHEMES, filesystem_of, path_of
from mmssl_dist.storage.remote_errors import explain_remote, shown_text


def open_location(url: str, storage: Storage) -> Location:
    """The location of ``url``; remote ones as the ``storage`` section says, credentials from the standard
    chain of each cloud.

    Raises:
        StorageError: a scheme that is not supported or needs a package that is not installed, or a URL that
            names no bucket, container or server.
    """
    if "\0" in url or not url.isprintable():
        raise StorageError(
            repr(url), "an unprintable character", "a URL is printable text", "Change the URL."
        )
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _local(url, url)
    if scheme == "file":
        if not rest.startswith("/"):
            raise StorageError(
                url, rest, "file URLs must have no host and an absolute path", "Write file:///path."
            )
        return _local(unquote(rest), url)
    if scheme not in SCHEMES:
        names = ", ".join(f"{name}://" for name in SCHEMES)
        raise StorageError(
            url, scheme, f"a URL must start with {names} or file:///; a path has no scheme", "Change the URL."
        )
    path = path_of(url)
    try:
        return Location(filesystem_of(url, storage), path, url.rstrip("/"), storage)
    except (OSError, pa.ArrowException) as error:
        problem = None if scheme == "s3" else explain_remote(error, scheme, path.split("/")[0])
        raise StorageError(
            url, *(problem or (shown_text(error), "the storage must answer", ADVICE))
        ) from error


def _local(name: str, url: str) -> Location:
    if not name:
        raise StorageError(repr(url), "no path", "a URL or a path is needed", "Name a file or folder.")
    try:
        path = Path(name).expanduser().absolute()
    except RuntimeError as error:  # ~someone without a home
        raise StorageError(url, name, "the home folder must be known", "Write the path out.") from error
    return Location(pafs.LocalFileSystem(), str(path), url.rstrip("/") or "/")
