"""A run opened with titles and columns of its items."""

from __future__ import annotations

from functools import partial

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.serving.item_table import id_column_of, items_file, job_titles, read_item_table
from mmssl_dist.serving.run import Run, open_run
from mmssl_dist.storage import open_location


def open_titled_run(url: str, storage: Storage | None = None, items: str | None = None) -> Run:
    """``open_run`` with a table of items, read when first needed: the file ``items``, else the titles that
    the run's job names; raises as ``open_run``, and InputError where there is no such file."""
    storage = storage or Storage()
    location = open_location(url, storage)
    if items is None:
        return open_run(url, storage, partial(job_titles, location))
    file = items_file(items, storage)
    return open_run(url, storage, lambda ids: read_item_table([file], ids, id_column_of(location)))
