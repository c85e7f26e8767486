"""The checkpoint that training publishes: where it is, and whether it is undamaged."""

from __future__ import annotations

from dataclasses import replace

from mmssl_dist.storage import (
    FileRecord,
    Location,
    Manifest,
    RunFolder,
    require_intact,
    require_manifest,
    require_whole,
)
from mmssl_dist.storage.manifest import MANIFEST


def checkpoint_of(folder: RunFolder, training: Manifest) -> tuple[Location, Manifest]:
    """The published checkpoint's folder, and the manifest with its files named relative to that folder."""
    name = training.facts["checkpoint"]
    location = folder.training.location / name
    files = {path.removeprefix(f"{name}/"): record for path, record in training.files.items()}
    return location, replace(training, files=files)


def checkpoint_records(artifact: Location, folder: Location) -> dict[str, FileRecord]:
    """Record of every file of the checkpoint in ``folder``, by its path below ``artifact``.

    Raises:
        ArtifactError: a file is missing or differs from its manifest.
    """
    manifest = require_manifest(folder, "checkpoint", "train")
    # Sizes first: a missing file is found without hashing the others.
    require_whole(folder, manifest)
    require_intact(folder, manifest)
    # The checkpoint's own manifest is a file of the artifact too, though it can't list itself.
    records = {**manifest.files, MANIFEST: (folder / MANIFEST).record()}
    prefix = folder.path.removeprefix(artifact.path).strip("/")
    return {f"{prefix}/{name}": record for name, record in records.items()}
