"""What a dataset is made from, told without Ray: a dataset that is up to date needs no more than this."""

from __future__ import annotations

from mmssl_dist.config.job import Job
from mmssl_dist.data.files import RawFiles
from mmssl_dist.storage import fingerprint

KIND = "dataset"
FORMAT = 2
"""Raise when the same input would give another dataset."""


def dataset_fingerprint(job: Job, raw: RawFiles) -> str:
    """Hash of what the dataset is made from: the data section, sizes and times of the raw files."""
    # Vectors that were embedded again and are the same make the same dataset.
    files = [file.digest or (file.name, file.size, file.modified) for file in raw.of_dataset()]
    return fingerprint(KIND, FORMAT, job.data.model_dump(mode="json", exclude={"titles", "images"}), files)
