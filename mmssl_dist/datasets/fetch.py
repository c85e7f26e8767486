"""Public data sets from where their makers keep them: downloads that resume, checksums, archives that stay
inside.

A set is complete exactly when its ``fetched.json`` is there, which has the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmssl_dist.datasets.movielens import write_movielens
from mmssl_dist.errors import InputError, StorageFault

_logger = logging.getLogger(__name__)

FETCH_RECORD = "fetched.json"
_BEFORE = "fetched-before.json"
_PART = ".part"
_SECONDS = 60
_CHUNK = 1 << 20
_MOST_UNPACKED = 1 << 30  # a small archive may unpack to any size
_TERMS = (
    "MovieLens of GroupLens: for research, not for commercial use, not to be passed on, and to be cited "
    "(Harper and Konstan, The MovieLens Datasets, 2015); its README has the terms."
)


@dataclass(frozen=True)
class PublicSet:
    """A data set that can be fetched. ``jobs/`` has a job of its name, which trains on it.

    Attributes:
        base: URL below which its files are.
        files: by name, the known checksum as "sha256:..." or "md5:...", or None where none is known.
        note: licence, and what to know of it.
        write_tables: makes tables that its job reads from what is in a folder.
    """

    base: str
    files: Mapping[str, str | None]
    note: str
    write_tables: Callable[[Path], None] | None = None


SETS = {
    "movielens-100k": PublicSet(
        "https://files.grouplens.org/datasets/movielens",
        {"ml-100k.zip": "md5:0e33842e24a9c977be4e0107933c0723"},
        _TERMS,
        write_movielens,
    ),
    "movielens-1m": PublicSet(
        "https://files.grouplens.org/datasets/movielens",
        {"ml-1m.zip": "md5:c4d9eecfca2ab87c1945afe126590906"},
        _TERMS,
        write_movielens,
    ),
}


@dataclass(frozen=True)
class FetchedFile:
    """A file that is there.

    Attributes:
        verified: its checksum was known, and is right.
    """

    name: str
    bytes: int
    sha256: str
    verified: bool


def fetch(name: str, folder: Path, base: str | None = None) -> list[FetchedFile]:
    """Bring the set ``name`` into ``folder``, unpack its archives and write its tables; what is there and
    whole is not fetched again.

    Args:
        base: URL to take the place of the set's own.

    Raises:
        InputError: no such set, a file differs from its checksum, or an archive would leave its folder.
        StorageFault: the server did not answer, or broke off; the same command resumes.
    """
    data_set = SETS.get(name)
    if data_set is None:
        raise InputError("NAME", name, f"known sets are {', '.join(SETS)}", "Name one of these.")
    folder.mkdir(parents=True, exist_ok=True)
    locked = _read_lock(folder, name)
    # While files change the folder is not complete; the old hashes still serve to recognise what is whole.
    if (folder / FETCH_RECORD).exists():
        (folder / FETCH_RECORD).replace(folder / _BEFORE)
    records = []
    for file, checksum in data_set.files.items():
        wanted = checksum or (f"sha256:{locked[file]}" if file in locked else None)
        _bring(f"{(base or data_set.base).rstrip('/')}/{file}", folder / file, wanted)
        if file.endswith(".zip"):
            extract(folder / file, folder)
        records.append(
            FetchedFile(
                file, (folder / file).stat().st_size, _digest(folder / file, "sha256"), bool(checksum)
            )
        )
    if data_set.write_tables is not None:
        data_set.write_tables(folder)
    content = {"name": name, "files": {record.name: vars(record) for record in records}}
    partial = folder / f"{FETCH_RECORD}{_PART}"
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(folder / FETCH_RECORD)
    (folder / _BEFORE).unlink(missing_ok=True)
    return records


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into ``folder``, all of it or nothing.

    Raises:
        InputError: it is not an archive, holds links or names that lead elsewhere, or would take more than
            1 GB.
    """
    # Beside its place and moved at the end: a half-way failure must leave nothing that looks whole.
    aside = folder / f"{archive.name}.unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                _require_inside(archive, member)
            # What the archive declares; zipfile refuses members that turn out larger.
            size = sum(member.file_size for member in members)
            if size > _MOST_UNPACKED:
                raise InputError(
                    str(archive),
                    f"{size} bytes unpacked",
                    f"an archive holds at most {_MOST_UNPACKED}",
                    "Unpack it yourself if you trust it.",
                )
            opened.extractall(aside)
    # zipfile passes on zlib's error for a damaged member, and has a plain RuntimeError for an encrypted one.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, RuntimeError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise InputError(
            str(archive), error, "it must be a zip archive", "Delete it and fetch it again."
        ) from error
    for path in sorted(aside.iterdir()):
        # ``replace`` moves no folder over one that has something in it.
        destination = folder / path.name
        if destination.is_dir():
            shutil.rmtree(destination)
        path.replace(destination)
    aside.rmdir()


def _require_inside(archive: Path, member: zipfile.ZipInfo) -> None:
    # Backslashes and drive letters lead out of a folder on Windows.
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    leaves = not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0]
    # The upper half of external_attr is the Unix mode.
    if leaves or stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(
            str(archive),
            f"a member {member.filename!r}",
            "archives stay in their folder and hold no links",
            "Don't use this archive.",
        )


def _bring(url: str, target: Path, checksum: str | None) -> None:
    """Download ``url`` to ``target`` unless it is there and whole."""
    if target.exists() and checksum is not None and _matches(target, checksum):
        _logger.info("fetch: %s is already there", target.name)
        return
    partial = target.with_name(target.name + _PART)
    if checksum is None:
        partial.unlink(missing_ok=True)  # nothing could tell whether its end fits its beginning
    resumed = partial.exists()
    _download(url, partial)
    # A server that changed the file in between continues another one; only the checksum shows that.
    if resumed and checksum is not None and not _matches(partial, checksum):
        partial.unlink()  # its beginning was of another file
        _download(url, partial)
    if checksum is not None and not _matches(partial, checksum):
        algorithm, _, expected_digest = checksum.partition(":")
        digest = _digest(partial, algorithm)
        partial.unlink()
        raise InputError(
            url,
            f"{algorithm.upper()} {digest}",
            f"it must be {expected_digest}: the file was changed, or damaged in transit",
            "Try again; if that does not help, the file is not the one that was checked.",
        )
    partial.replace(target)
    _logger.info("fetch: %s, %d bytes", target.name, target.stat().st_size)


def _download(url: str, partial: Path) -> None:
    """Bring ``partial`` to its end: from where it stands if the server can, else from the start."""
    if not url.startswith(("http://", "https://")):
        raise InputError("--base-url", url, "files are fetched over http or https", "Give such a URL.")
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310, see above
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310
            # A server may ignore the range and send the whole file, or send another range.
            resumes = response.status == 206 and (response.headers.get("Content-Range") or "").startswith(
                f"bytes {have}-"
            )
            length = response.headers.get("Content-Length")
            with partial.open("ab" if resumes else "wb") as stream:
                start = stream.tell()
                shutil.copyfileobj(response, stream, _CHUNK)
                stream.flush()
                # Before it is counted: a resumed download trusts the size of what is there.
                os.fsync(stream.fileno())
            received = partial.stat().st_size - start
        if length is not None and received != int(length):
            raise StorageFault(
                url, f"{received} bytes", f"the server announced {length}", "Run the command again to resume."
            )
    except urllib.error.HTTPError as error:
        # 416: the server has nothing beyond what we have, or less than that; only a new start can tell which.
        if error.code == 416 and have:
            partial.unlink()
            _download(url, partial)
            return
        # The server's own trouble may pass; a wrong URL stays wrong.
        error_type = StorageFault if error.code >= 500 else InputError
        raise error_type(
            url, f"HTTP status {error.code}", "the file must be there", "Check --base-url, or try later."
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise StorageFault(
            url, reason, "the server must answer", "Run the command again to resume."
        ) from error


def _read_lock(folder: Path, name: str) -> dict[str, str]:
    """SHA-256 by file of an earlier fetch of the same set; they show whether a file has changed since."""
    file = folder / (
        FETCH_RECORD if (folder / FETCH_RECORD).exists() else _BEFORE
    )  # the latter where a fetch ended early
    try:
        content = json.loads(file.read_text())
        if content["name"] != name:
            raise InputError(
                "FOLDER", str(folder), f"it holds the set {content['name']}", "Name another folder."
            )
        return {file: str(record["sha256"]) for file, record in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(str(file), error, "it must hold what fetch wrote", "Delete it.") from error


def _matches(path: Path, checksum: str) -> bool:
    algorithm, _, expected_digest = checksum.partition(":")
    return _digest(path, algorithm) == expected_digest


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
