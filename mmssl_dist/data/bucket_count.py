"""How many hash buckets a data set needs: a task works on one of them, which has to fit its memory and
Arrow's 32-bit offsets."""

from __future__ import annotations

from mmssl_dist.config.job import Job
from mmssl_dist.data.files import RawFiles
from mmssl_dist.errors import InputError

SETTING = "data.buckets"
_LEAST = 4
_INTERACTION_BYTES = 1 << 26
"""Of files of interactions for a bucket: some 3 million rows of text, or 8 million of small numbers. A task
takes up to 3 GB for them, and every core of a machine has one."""
_FEATURE_BYTES = 1 << 28  # of files of features, which are held twice
_REFUSED = 32  # times the files for a bucket: texts of so many rows overflow


def needed_buckets(interaction_bytes: int, feature_bytes: int) -> int:
    """Buckets for files of these sizes."""
    of_interactions = -(-interaction_bytes // _INTERACTION_BYTES)
    return max(_LEAST, of_interactions, -(-feature_bytes // _FEATURE_BYTES))


def needed_for(files: RawFiles) -> int:
    """Buckets for the files of a job's dataset; content is not counted before it is embedded."""
    features = (file for group in files.features.values() for file in group)
    return needed_buckets(sum(f.size for f in files.interactions), sum(f.size for f in features))


def with_buckets(job: Job, needed: int) -> Job:
    """``job`` with a number where ``data.buckets`` is auto."""
    if job.data.buckets != "auto":
        return job
    return job.model_copy(update={"data": job.data.model_copy(update={"buckets": needed})})


def bucket_count(job: Job) -> int:
    """The number that ``with_buckets`` has settled."""
    assert job.data.buckets != "auto", "buckets are settled before rows are read"
    return job.data.buckets


def require_buckets(job: Job, files: RawFiles) -> None:
    """Refuse buckets that are far too few, before anything is read.

    Raises:
        InputError: a bucket's share of the files is several times what a task can work on.
    """
    needed = needed_for(files)
    if job.data.buckets != "auto" and needed > _REFUSED * job.data.buckets:
        raise InputError(
            SETTING,
            job.data.buckets,
            f"files of this size need about {needed}, so that a task can hold a bucket",
            f"Set it to {needed}, or to auto.",
        )
