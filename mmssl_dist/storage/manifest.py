"""Publishing: data first, ``manifest.json`` last. What has no manifest is not there, however many files it has.

A manifest has the SHA-256 of every file, and of itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.storage.location import FileRecord, Location

MANIFEST = "manifest.json"
SCHEMA = 2
_OWN = "sha256"


@dataclass(frozen=True)
class Manifest:
    """What an artifact is.

    Attributes:
        kind: "dataset", "partitions", "training", "evaluation" or "export".
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
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def begin(location: Location) -> None:
    """Make room for a new artifact: the manifest goes first, so that what is left never looks finished."""
    (location / MANIFEST).remove()
    location.remove()


def publish(location: Location, manifest: Manifest) -> None:
    """Write the manifest; from here on the artifact is complete."""
    content = json.loads(json.dumps({"schema": SCHEMA, **asdict(manifest)}))  # what will be read: lists, string keys
    (location / MANIFEST).write_bytes(json.dumps({**content, _OWN: fingerprint(content)}, indent=1).encode())


def read_manifest(location: Location, kind: str) -> Manifest | None:
    """The manifest of a published artifact, or None where nothing is published.

    Raises:
        ArtifactError: there is a manifest, but not one this version can read.
    """
    source = location / MANIFEST
    if not source.exists():
        return None
    try:
        content = json.loads(source.read_bytes())
        if content["schema"] != SCHEMA or content["kind"] != kind:
            raise ValueError(f"expected a {kind} manifest of schema {SCHEMA}")
        if content.pop(_OWN) != fingerprint(content):
            raise ValueError("it was changed after it was written (SHA-256)")
        del content["schema"]
        files = {name: FileRecord(**record) for name, record in content.pop("files").items()}
        return Manifest(files=files, **content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{source.url}: not a readable manifest ({error}). Delete it and run the stage again."
        ) from error


def require_manifest(location: Location, kind: str, command: str) -> Manifest:
    """The manifest of a published artifact.

    Raises:
        InputError: nothing is published there; says which ``command`` makes it.
    """
    manifest = read_manifest(location, kind)
    if manifest is None:
        raise InputError(location.url, "no manifest", f"the {kind} must be published first",
                         f"Run `mmssl-dist {command}` on this job.")
    return manifest
