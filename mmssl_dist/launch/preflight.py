"""Looks before the leap: what can be known to fail is said before any work starts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mmssl_dist.config import Job
from mmssl_dist.data.files import RawFiles, find_files
from mmssl_dist.data.images import check_images
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.titles import check_titles
from mmssl_dist.errors import InputError, StorageError
from mmssl_dist.storage import Location, RunFolder, open_location, require_answer
from mmssl_dist.storage.paths import absolute

T = TypeVar("T")


def resolved(job: Job) -> Job:
    """The job with local paths made absolute: workers have working directories of their own."""
    data = job.data.model_copy(update={"path": absolute(job.data.path)})
    tracking = job.tracking
    if tracking.mlflow is not None and ":" not in tracking.mlflow:
        tracking = tracking.model_copy(update={"mlflow": absolute(tracking.mlflow)})
    return job.model_copy(update={"data": data, "output": absolute(job.output), "tracking": tracking})


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
    if not root.is_local:
        for file in (files.interactions[0], *(each[0] for each in files.features.values())):
            _named("data.path", partial(file.location.read_start, 1))
    return files


def check_headers(job: Job, files: RawFiles) -> None:
    """Open every raw file and look at its header, for what needs no row to be seen.

    Raises:
        InputError: a file is not what its name says, or has not the columns, types or shapes that the job
            needs.
    """
    open_sources(job.data, files, whole=False)
    check_titles(job.data, files.titles)
    check_images(job.data, files.images)


def check_output(job: Job) -> None:
    """Check that the output can be listed, and that an object can be written there, read back and deleted.

    Raises:
        StorageError: it cannot; for object storage it names the bucket or the missing permission.
    """
    folder = RunFolder.of(job).root
    probe = folder / f".probe-{uuid.uuid4().hex}"
    content = uuid.uuid4().bytes * 256  # pyarrow cannot show a refusal longer than what it asked for
    if folder.is_local:
        _try_local(job.output, probe, content)
        return
    require_answer(job.storage)
    _named("output", folder.look)
    _named("output", lambda: probe.write_bytes(content), job.output)
    try:
        same = _named("output", probe.read_bytes, job.output) == content
    except StorageError:
        _remove_quietly(probe)
        raise
    _named("output", probe.remove, job.output)
    _require_same(job.output, same)


def _require_apart(job: Job, files: RawFiles) -> None:
    """``config.rules`` compares what the two are called; here links and file names count too."""
    for file in files.all():
        for stage in RunFolder.of(job).stages():
            if stage.location.holds(file.location):
                raise InputError(
                    "data.path",
                    file.name,
                    f"output/{stage.kind} is emptied by its stage",
                    "Keep raw files elsewhere.",
                )


def _named(key: str, call: Callable[[], T], url: str | None = None) -> T:
    """``call()``; its error starts with the YAML path of the setting that led there."""
    try:
        return call()
    except StorageError as error:
        raise StorageError(f"{key} ({url or error.where})", error.value, error.rule, error.remedy) from error


def _try_local(output: str, probe: Location, content: bytes) -> None:
    try:
        probe.write_bytes(content)
        same = probe.read_bytes() == content
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.value
        raise StorageError(
            "output",
            output,
            f"it must be a folder that can be written ({reason})",
            "Choose another output, or mend its permissions.",
        ) from error
    finally:
        _remove_quietly(probe)
    _require_same(output, same)


def _require_same(output: str, same: bool) -> None:
    if not same:
        raise StorageError(
            "output", output, "what is written must be read back the same", "Choose another output."
        )


def _remove_quietly(probe: Location) -> None:
    try:
        probe.remove()
    except StorageError:
        return  # where nothing could be written nothing can be deleted; the write's error is the one to show
