"""Which setting of a job reads what is in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from mmssl_dist.config.data_sections import Data
from mmssl_dist.config.job import Job
from mmssl_dist.data.globs import fixed_part, matches_glob
from mmssl_dist.errors import StorageError
from mmssl_dist.storage import Location, open_location


def reading_setting(job: Job, folder: Location, name: str) -> str | None:
    """The setting that reads from ``folder``, or would read a file ``name`` (a path) below it; None where
    there is none. Links count; no file is opened.

    Raises:
        InputError: data.path or export.users is not a valid path or URL.
    """
    root = open_location(job.data.path, job.storage)
    for key, pattern in _patterns(job.data):
        try:
            target, start = root / pattern, fixed_part(root, pattern)
        except StorageError:
            continue  # it leaves data.path, which the check of raw files names
        if target.holds(folder) or folder.holds(target) or folder.holds(start):
            return key
        if root.holds(folder) and matches_glob(
            (*_below(root, folder), *PurePosixPath(name).parts), PurePosixPath(pattern).parts
        ):
            return key
    if job.export.users is not None:
        users = open_location(job.export.users, job.storage)
        if users.holds(folder) or folder.holds(users):
            return "export.users"
    return None


def _patterns(data: Data) -> Iterator[tuple[str, str]]:
    """What settings name below data.path, or what is read where they do not."""
    if data.interactions is not None:
        yield "data.interactions", data.interactions
    elif data.layout == "table":
        yield "data.interactions", "interactions.parquet"
    else:
        yield "data.path", "train.json" if data.layout == "mmssl" else "*.inter"
    for key, pattern in (("data.titles", data.titles), ("data.images", data.images)):
        if pattern is not None:
            yield key, pattern
    for name, modality in data.modalities.items():
        for field in ("file", "table", "files"):
            pattern = getattr(modality, field)
            if pattern is not None:
                yield f"data.modalities.{name}.{field}", pattern


def _below(root: Location, folder: Location) -> tuple[str, ...]:
    if root.is_local:
        return PurePosixPath(
            os.path.relpath(os.path.realpath(folder.path), os.path.realpath(root.path))
        ).parts
    return PurePosixPath(folder.path.removeprefix(root.path).lstrip("/")).parts
