"""The split of a job that names none: given where ``.inter`` files carry the label that MMRec writes."""

from __future__ import annotations

from collections.abc import Iterable

from mmssl_dist.config.data_sections import Data, Split
from mmssl_dist.config.job import Job
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.delimited import header
from mmssl_dist.data.readers.text import bare

LABEL = "x_label"
_CHOICES = {"method", "validation", "test"}  # with one of them a job asks for a split


def with_labelled_split(job: Job, interactions: Iterable[RawFile]) -> Job:
    """``job`` with the split method given, if it leaves the method open and its ``.inter`` files have labels.

    Raises:
        InputError: a file has no header.
    """
    if job.data.layout != "inter" or _is_chosen(job.data):
        return job
    label = job.data.columns.split or LABEL
    if not any(label in (*map(bare, header(file)), *file.keys) for file in interactions):
        return job
    split = Split.model_validate({**job.data.split.model_dump(), "method": "given"})
    return job.model_copy(update={"data": job.data.model_copy(update={"split": split})})


def _is_chosen(data: Data) -> bool:
    return "split" in data.model_fields_set and bool(_CHOICES & data.split.model_fields_set)
