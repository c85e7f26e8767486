"""What a dataset is made from, without Ray: a dataset that is up to date needs no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_count import needed_for, with_buckets
from mmssl_dist.data.files import RawFile, RawFiles
from mmssl_dist.storage import fingerprint

DATASET_KIND = "dataset"
FORMAT = 3
"""Raise when the same input would give another dataset."""
_APART: Mapping[str, Any] = {"titles": True, "images": True, "columns": {"title", "title_item"}}
"""Settings of the data section that a dataset does not depend on: what people see of items."""


def dataset_fingerprint(job: Job, raw: RawFiles) -> str:
    """Hash of what the dataset is made from: the data section, sizes and times of the raw files."""
    job = with_buckets(job, needed_for(raw))  # a number, whether it was given or follows from the files
    # Vectors that were embedded again and are the same make the same dataset.
    files = [file.digest or _stamp(file) for file in raw.of_dataset()]
    # The mark before fractions shows in the vectors that are embedded; it is read with vectors in text.
    unread = {
        name: {"decimal"}
        for name, modality in job.data.modalities.items()
        if modality.file is None or modality.decimal == "."
    }
    settings = job.data.model_dump(mode="json", exclude={**_APART, "modalities": unread})
    return fingerprint(DATASET_KIND, FORMAT, settings, files)


def _stamp(file: RawFile) -> tuple[object, ...]:
    # A column that is renamed changes no file
    names = [] if file.columns is None else [[column.name, column.field_id] for column in file.columns]
    return (file.name, file.size, file.modified, *names)
