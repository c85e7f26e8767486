"""How many hash buckets a data set needs: a task works on one of them, which has to fit its memory and
Arrow's 32-bit offsets."""

from __future__ import annotations

from collections.abc import Sequence

from mmssl_dist.config.job import Job
from mmssl_dist.data.files import RawFile, RawFiles
from mmssl_dist.errors import InputError

_SETTING = "data.buckets"
_LEAST = 4
_INTERACTION_BYTES = 1 << 26
"""Of text for a bucket, some 3 million interactions, or a quarter of it in Parquet, some 2 to 8 million. A
task takes up to 3 GB for them, and every core of a machine has one."""
_PACKED = 4  # bytes of text that one of Parquet or of a compressed file stands for
_PLAIN_SUFFIXES = (".csv", ".tsv", ".inter", ".json", ".jsonl", ".ndjson")
_FEATURE_BYTES = 1 << 28  # of files of features, which are held twice
_REFUSED = 32  # times the files for a bucket: texts of so many rows overflow


def needed_buckets(interaction_bytes: int, feature_bytes: int) -> int:
    """Buckets for files of these sizes."""
    of_interactions = -(-interaction_bytes // _INTERACTION_BYTES)
    return max(_LEAST, of_interactions, -(-feature_bytes // _FEATURE_BYTES))


def needed_for(files: RawFiles) -> int:
    """Buckets for the files of a job's dataset; content is not counted before it is embedded."""
    features = (file for group in files.features.values() for file in group)
    return needed_buckets(interaction_bytes(files.interactions), sum(f.size for f in features))


def interaction_bytes(files: Sequence[RawFile]) -> int:
    """Of files of interactions, as text."""
    return sum(file.size * (1 if file.location.path.endswith(_PLAIN_SUFFIXES) else _PACKED) for file in files)


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
            _SETTING,
            job.data.buckets,
            f"files of this size need about {needed}, so that a task can hold a bucket",
            f"Set it to {needed}, or to auto.",
        )
