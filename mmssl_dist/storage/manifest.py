"""Publishing: data first, ``manifest.json`` last. What has no manifest is not there, however many files it
has."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from mmssl_dist.errors import ArtifactError, InputError, message_text
from mmssl_dist.storage.content import FileRecord
from mmssl_dist.storage.location import Location

MANIFEST = "manifest.json"
SCHEMA = 2
_MAX_BYTES = 1 << 28  # of a manifest: a million files
_CHECKS = 8  # files hashed at once
_DIGEST = "digest"
_SHA256 = re.compile("[0-9a-f]{64}")
_AGAIN = "Run the stage that made it again, with --force."


@dataclass(frozen=True)
class Manifest:
    """What an artifact is.

    Attributes:
        kind: "embeddings", "dataset", "partitions", "training", "evaluation" or "export".
        fingerprint: hash of everything the artifact was made from; equal inputs, equal fingerprint.
        facts: counts and figures of the stage, as JSON.
        files: every file below the artifact's folder, by relative path.
    """

    kind: str
    fingerprint: str
    facts: Mapping[str, Any]
    files: Mapping[str, FileRecord]


def fingerprint(*inputs: object) -> str:
    """SHA-256 of ``inputs``, which are JSON values, as canonical JSON."""
    # One text for equal values, whatever order a mapping was filled in.
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def begin(location: Location) -> None:
    """Make room for a new artifact: the manifest goes first, so that what is left never looks finished."""
    # First and by itself: a folder deleted half-way with its manifest in it would pass for a whole artifact.
    (location / MANIFEST).remove()
    location.remove()


def publish(location: Location, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write the manifest, as the file ``name``; from here on the artifact is complete."""
    # Through JSON once, so that the digest is of what a reader will parse: tuples become lists, keys texts.
    content = json.loads(json.dumps({"schema": SCHEMA, **asdict(manifest)}))
    (location / name).write_bytes(json.dumps({**content, _DIGEST: fingerprint(content)}, indent=1).encode())


def read_manifest(location: Location, kind: str, name: str = MANIFEST) -> Manifest | None:
    """The manifest of a published artifact, in its file ``name``, or None where nothing is published.

    Raises:
        ArtifactError: there is a manifest, but not one this version can read.
    """
    source = location / name
    info = source.info()
    if info.type == pafs.FileType.NotFound:
        return None
    try:
        # Before it is read: the output may be a bucket that others write to.
        if (info.size or 0) > _MAX_BYTES:
            raise ValueError(f"{info.size} bytes, where a manifest has at most {_MAX_BYTES}")
        return _parsed(source.read_bytes(), kind)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{source.url}: not a readable manifest ({message_text(error)}). Delete it and run the "
            "stage again."
        ) from error


def require_manifest(location: Location, kind: str, command: str) -> Manifest:
    """The manifest of a published artifact.

    Raises:
        InputError: nothing is published there; says which ``command`` makes it.
    """
    manifest = read_manifest(location, kind)
    if manifest is None:
        raise InputError(
            location.url,
            "no manifest",
            f"the {kind} must be published first",
            f"Run `mmssl-dist {command}` on this job.",
        )
    return manifest


def require_whole(location: Location, manifest: Manifest) -> None:
    """Check that every file of an artifact is there in its size; reads none.

    Raises:
        ArtifactError: one is gone, or of another size than the manifest says.
    """
    # One listing for all files: asking for each would be a request per file.
    sizes = {location.relative(info): info.size for info in location.files()}
    for name, record in manifest.files.items():
        if name not in sizes:
            raise ArtifactError(f"{location.url}/{name}: gone, though its manifest names it. {_AGAIN}")
        if sizes[name] != record.bytes:
            raise ArtifactError(
                f"{location.url}/{name}: {sizes[name]} bytes, where its manifest says {record.bytes}; "
                f"the file was truncated or changed after it was published. {_AGAIN}"
            )


def require_intact(location: Location, manifest: Manifest) -> None:
    """Check the content of every file of an artifact; reads each once, some at a time.

    Raises:
        ArtifactError: one is not what the manifest says.
    """
    with ThreadPoolExecutor(_CHECKS) as pool:
        for name, record in pool.map(lambda name: (name, (location / name).record()), manifest.files):
            if record != manifest.files[name]:
                raise ArtifactError(
                    f"{location.url}/{name}: content differs from its manifest (SHA-256); the file was "
                    f"changed after it was published. {_AGAIN}"
                )


def in_shares(manifest: Manifest, count: int) -> list[Manifest]:
    """``manifest`` in at most ``count`` pieces, with all its files among them and about the same bytes in
    each; none is without files."""
    sizes, pieces = [0] * count, [dict[str, FileRecord]() for _ in range(count)]
    # Largest first, each to the share with least so far; names settle ties, so shares are reproducible.
    for name, record in sorted(manifest.files.items(), key=lambda file: (-file[1].bytes, file[0])):
        smallest = sizes.index(min(sizes))
        pieces[smallest][name] = record
        sizes[smallest] += record.bytes
    return [replace(manifest, files=files) for files in pieces if files]


def _parsed(text: bytes, kind: str) -> Manifest:
    content = json.loads(text)
    if content["schema"] != SCHEMA or content["kind"] != kind:
        raise ValueError(f"expected a {kind} manifest of schema {SCHEMA}")
    # Against bits that flip and edits by hand; whoever can forge a manifest can forge its digest too.
    if content.pop(_DIGEST) != fingerprint(content):
        raise ValueError("its content is not what was written")
    del content["schema"]
    if not isinstance(content["fingerprint"], str) or not isinstance(content["facts"], dict):
        raise ValueError("the fingerprint is text, and facts are a mapping")
    files = dict(_records(content.pop("files")))
    return Manifest(files=files, **content)


def _records(files: Mapping[str, Any]) -> Iterator[tuple[str, FileRecord]]:
    for name, fields in files.items():
        record = FileRecord(**fields)
        parts = PurePosixPath(name).parts
        # Names are joined to the folder, and the output may be a bucket that others write to.
        if not parts or parts[0] == "/" or ".." in parts or not name.isprintable():
            raise ValueError(f"the file {name!r} is not below the artifact's folder")
        if type(record.bytes) is not int or record.bytes < 0 or not _SHA256.fullmatch(str(record.sha256)):
            raise ValueError(f"the record of {name!r} has no size and SHA-256")
        yield name, record
