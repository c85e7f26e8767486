"""What prepare would say of a small dataset, by its own passes in this process."""

from __future__ import annotations

from typing import Any

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import dataset_facts, numbered_rows
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.row_operations import TaskFailure

NO_SPLIT = {"validation": 0.0, "test": 0.0}


def facts(job: Job) -> dict[str, Any]:
    """Of the dataset that prepare would publish."""
    sources = open_sources(job.data, find_files(job))
    try:
        rows = numbered_rows(job, sources.interactions, sources.features, local_numbers)
    except TaskFailure as failure:
        raise failure.cause from failure
    return dataset_facts(job, sources.interactions, sources.features, rows)


def dropped(job: Job) -> dict[str, int]:
    """Counts of rows that were dropped, by reason."""
    return {reason: count for reason, count in facts(job)["dropped"].items() if count}
