"""The job that made a run, from the run's output."""

from __future__ import annotations

from mmssl_dist.config import Job, read_job
from mmssl_dist.errors import InputError
from mmssl_dist.storage.location import Location


def read_run_job(run: Location) -> Job:
    """The job that made the run at ``run``.

    Raises:
        InputError: the output has no job.yaml, or one that is not a job.
    """
    source = run / "job.yaml"
    if not source.exists():
        raise InputError(
            source.url, "no such file", "a run's output has the job that made it", "Name the output of a job."
        )
    try:
        text = source.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(source.url, error, "a job is UTF-8 text", "Re-run the job.") from error
    return read_job(text, source.url)
