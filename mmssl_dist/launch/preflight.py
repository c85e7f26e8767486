"""Checks before any work starts: what is bound to fail is reported at once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mmssl_dist.config import Job
from mmssl_dist.config.data_sections import Data
from mmssl_dist.config.named_paths import named_paths
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.bucket_count import require_buckets
from mmssl_dist.data.files import RawFile, RawFiles, find_files
from mmssl_dist.data.images import check_images, check_picture_folder
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.open import EMBEDDED, open_feature_files, open_interactions
from mmssl_dist.data.readers.raw_content import open_content
from mmssl_dist.data.titles import check_titles
from mmssl_dist.embedding.inputs import encoded, encoder_of
from mmssl_dist.embedding.weights import check_encoder
from mmssl_dist.errors import InputError, Problems, StorageError
from mmssl_dist.storage import Location, RunFolder, open_location, require_answer
from mmssl_dist.storage.paths import absolute

T = TypeVar("T")
# They take no files, also where their permissions allow it.
_KERNEL_FILESYSTEMS = ("proc", "sysfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf")
_EMPTY = ("no vector", "no row below the header")  # what readers find in files without rows


def resolved(job: Job) -> Job:
    """The job with local paths made absolute: workers have working directories of their own."""
    for key, path in named_paths(job).items():
        job = _with_path(job, key.split("."), absolute(path))
    return job


def _with_path(section: Any, names: Sequence[str], value: str) -> Any:
    """A copy of a section, or of a table of sections, with ``value`` at the end of ``names``."""
    if not names:
        return value
    first, *rest = names
    if isinstance(section, Mapping):
        return {**section, first: _with_path(section[first], rest, value)}
    return section.model_copy(update={first: _with_path(getattr(section, first), rest, value)})


def check_data(job: Job) -> RawFiles:
    """The raw files; checks that they are there and stay there, that their folder can be listed and a file of
    each kind read.

    Raises:
        InputError: they are not, or lie where a stage empties its folder; names the setting, and for object
            storage the bucket or the missing permission.
    """
    root = open_location(job.data.path, job.storage)
    if not root.is_local:
        require_answer(job.storage)
        _named("data.path", root.look)
    files = _named("data.path", lambda: find_files(job))
    _require_apart(job, files)
    require_buckets(job, files)
    if not root.is_local:
        # One byte of one file of each kind shows missing permissions; asking for all of them would take
        # minutes on S3.
        for file in (files.interactions[0], *(parts[0] for parts in files.features.values())):
            _named("data.path", partial(file.location.read_start, 1))
    return files


def check_headers(job: Job, files: RawFiles) -> None:
    """Open every raw file and look at its header, for what needs no row to be seen.

    Raises:
        InputError: files are not what their names say, or lack the columns, types or shapes that the job
            needs; names all of them.
    """
    problems = Problems()
    _check_sources(job.data, files, problems)
    for name in encoded(job):
        problems.attempt(partial(check_encoder, encoder_of(job, name), job.storage))
    for file in files.titles:
        problems.attempt(partial(check_titles, job.data, (file,)))
    for file in files.images:
        problems.attempt(partial(check_images, job.data, (file,)))
    problems.attempt(lambda: check_picture_folder(job))
    problems.raise_all("data")


def _check_sources(data: Data, files: RawFiles, problems: Problems) -> None:
    """Open all files together, and where that fails each alone, so that every bad header is named."""
    together = Problems()
    together.attempt(lambda: open_sources(data, files, whole=False))
    if not together.errors:
        return
    alone = Problems()
    for file in files.interactions:
        alone.attempt(partial(open_interactions, data, _among(data, files, file), whole=False))
    for name, modality in data.modalities.items():
        for file in files.features.get(name, ()):
            columns = EMBEDDED if modality.has_content else modality
            alone.attempt(
                partial(
                    open_feature_files,
                    f"data.modalities.{name}.file",
                    (file,),
                    columns,
                    data.columns.types.item,
                )
            )
    for name, content in files.content.items():
        key, modality = f"data.modalities.{name}", data.modalities[name]
        for file in content.tables:
            alone.attempt(partial(open_content, key, modality, replace(content, tables=(file,))))
    # A part may be empty where others are not, so that alone is the fault of all files together only
    faults = [error for error in alone.errors if error.value not in _EMPTY]
    problems.errors += faults or together.errors


def _among(data: Data, files: RawFiles, file: RawFile) -> tuple[RawFile, ...]:
    """``file`` with those that the layout reads beside it."""
    return files.interactions if data.layout == "mmssl" else (file,)


def check_output(job: Job) -> None:
    """Check that the output can be listed, and that an object can be written there, read back and deleted.

    Raises:
        StorageError: it cannot; for object storage it names the bucket or the missing permission.
    """
    check_writable(job.output, job.storage, "output")


def check_writable(url: str, storage: Storage, setting: str) -> None:
    """``check_output`` of the folder that ``setting`` names."""
    folder = open_location(url, storage)
    # With a dot, which readers of tables pass over
    probe = folder / f".probe-{uuid.uuid4().hex}"
    # Random, so that an object left by somebody else, or by a cache on the way, is not taken for ours.
    content = uuid.uuid4().bytes * 256  # pyarrow cannot show a refusal longer than what it asked for
    if folder.is_local:
        _try_local(url, probe, content, setting)
        return
    require_answer(storage)
    _named(setting, folder.look)
    _named(setting, lambda: probe.write_bytes(content), url)
    try:
        same = _named(setting, probe.read_bytes, url) == content
    except StorageError:
        _remove_quietly(probe)
        raise
    _named(setting, probe.remove, url)
    _require_same(url, same, setting)


def check_output_folder(job: Job) -> None:
    """``check_local_folder`` of the output."""
    check_local_folder(job.output, job.storage, "output")


def check_local_folder(url: str, storage: Storage, setting: str) -> None:
    """Check that the folder that ``setting`` names could be written if it is local, without writing there.

    Raises:
        StorageError: it is a file or below one, or its permissions do not allow it.
    """
    if not open_location(url, storage).is_local:
        return
    folder = Path(absolute(url))
    # The folder itself may not exist yet; where it will be made decides whether it can be.
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise _unwritable(url, "Not a directory", setting)
    # By what the system says and not by writing, since validate must leave no trace.
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise _unwritable(url, "Read-only file system", setting)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(url, "Permission denied", setting)
    if (filesystem := _filesystem(nearest)) in _KERNEL_FILESYSTEMS:
        raise _unwritable(url, f"{nearest} is the kernel's own, of type {filesystem}", setting)


def _filesystem(folder: Path) -> str | None:
    """The type of the filesystem of ``folder``; None where the system does not say it as Linux does."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    # "24 29 0:22 / /proc rw,relatime shared:13 - proc proc rw": the type is behind the dash.
    types = [fields[fields.index("-") + 1] for fields in map(str.split, mounts) if fields[2] == number]
    return types[0] if types else None


def _unwritable(folder: str, reason: str, setting: str = "output") -> StorageError:
    return StorageError(
        setting,
        folder,
        f"it must be a folder that can be written ({reason})",
        f"Choose another {_noun(setting)}, or fix its permissions.",
    )


def _require_apart(job: Job, files: RawFiles) -> None:
    """``config.rules`` compares what the two are called; here links and file names count too."""
    read = [("data.path", file.name, file.location) for file in files.all()]
    if job.export.users is not None:
        users = open_location(job.export.users, job.storage)
        read.append(("export.users", users.url, users))
    for setting, name, location in read:
        for stage in RunFolder.of(job).stages():
            if stage.location.holds(location):
                raise InputError(
                    setting, name, f"output/{stage.kind} is emptied by its stage", "Keep the file elsewhere."
                )


def _named(key: str, call: Callable[[], T], url: str | None = None) -> T:
    """``call()``; its error starts with the YAML path of the setting that led there."""
    try:
        return call()
    except StorageError as error:
        raise StorageError(f"{key} ({url or error.where})", error.value, error.rule, error.remedy) from error


def _try_local(folder: str, probe: Location, content: bytes, setting: str) -> None:
    try:
        probe.write_bytes(content)
        same = probe.read_bytes() == content
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.value
        raise _unwritable(folder, str(reason), setting) from error
    finally:
        _remove_quietly(probe)
    _require_same(folder, same, setting)


def _require_same(folder: str, same: bool, setting: str) -> None:
    if not same:
        rule = "what is written must read back unchanged"
        raise StorageError(setting, folder, rule, f"Choose another {_noun(setting)}.")


def _noun(setting: str) -> str:
    return "output" if setting == "output" else "folder"


def _remove_quietly(probe: Location) -> None:
    try:
        probe.remove()
    except StorageError:
        return  # where nothing could be written nothing can be deleted; the write's error is the one to show
