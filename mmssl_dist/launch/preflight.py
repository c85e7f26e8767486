"""Looks before the leap: what can be known to fail is said before any work starts."""

from __future__ import annotations

import uuid
from pathlib import Path

from mmssl_dist.config import Job
from mmssl_dist.errors import StorageError
from mmssl_dist.storage import Location, open_location


def resolved(job: Job) -> Job:
    """The job with local paths made absolute: workers have working directories of their own."""
    data = job.data.model_copy(update={"path": absolute(job.data.path)})
    return job.model_copy(update={"data": data, "output": absolute(job.output)})


def absolute(url: str) -> str:
    """A plain path made absolute; URLs are as they were."""
    return url if "://" in url else str(Path(url).expanduser().absolute())


def check_output(job: Job) -> None:
    """Check that the output can be written: an object is written there, read back and deleted.

    Raises:
        StorageError: it cannot.
    """
    folder = open_location(job.output, job.storage)
    probe = folder / f".probe-{uuid.uuid4().hex}"
    content = uuid.uuid4().bytes
    try:
        probe.write_bytes(content)
        same = probe.read_bytes() == content
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.value
        raise StorageError("output", job.output, f"it must be a folder that can be written ({reason})",
                           "Choose another output, or mend its permissions.") from error
    finally:
        _remove_quietly(probe)
    if not same:
        raise StorageError("output", job.output, "what is written must be read back the same", "Choose another output.")


def _remove_quietly(probe: Location) -> None:
    try:
        probe.remove()
    except StorageError:
        return  # where nothing could be written nothing can be deleted; the write's error is the one to show
