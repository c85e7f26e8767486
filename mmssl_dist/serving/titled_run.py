"""A run opened with titles and columns of its items, and the choice of items that the command line makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM_ID
from mmssl_dist.data.files import TABLE_SUFFIXES, RawFile
from mmssl_dist.errors import InputError
from mmssl_dist.serving.id_file import open_id_file
from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.item_table import (
    UnreadTable,
    job_columns,
    job_tags,
    job_titles,
    read_item_table,
    read_some_titles,
    some_job_titles,
)
from mmssl_dist.serving.run import Run, open_run
from mmssl_dist.storage import open_location
from mmssl_dist.storage.paths import absolute


@dataclass(frozen=True, kw_only=True)
class ItemChoice:
    """Which items may be listed, and where their titles and columns are: files, and conditions on columns.

    Attributes:
        items: table of items, as ``open_titled_run`` takes it.
        allow, block: files of item ids, in the column that the run's job calls ``data.columns.item``, or
            else in a column ``item_id``.
        where: as of ``ItemFilter``.
    """

    items: str | None = None
    allow: str | None = None
    block: str | None = None
    where: Mapping[str, Sequence[str] | Mapping[str, str]] = field(default_factory=dict)

    @property
    def filters(self) -> bool:
        """Whether some items may not be listed."""
        return self.allow is not None or self.block is not None or bool(self.where)

    def absolute(self) -> ItemChoice:
        """With absolute paths, for processes elsewhere."""

        def place(url: str | None) -> str | None:
            return None if url is None else absolute(url)

        return replace(self, items=place(self.items), allow=place(self.allow), block=place(self.block))

    def candidates(self, url: str, storage: Storage) -> ItemFilter | None:
        """The filter, for the run at ``url``; None where every item may be listed.

        Raises:
            InputError: a file of ids cannot be read, or has no row.
        """
        if not self.filters:
            return None
        names = (job_columns(open_location(url, storage)).item, ITEM_ID)

        def read(file: str, option: str) -> pa.Array:
            return open_id_file(open_location(file, storage), names, option).ids()

        return ItemFilter(
            allow=None if self.allow is None else read(self.allow, "--allow"),
            block=() if self.block is None else read(self.block, "--block"),
            where=self.where,
        )


def require_listed(run: Run, candidates: ItemFilter) -> np.ndarray:
    """bool [I], the items that may be listed.

    Raises:
        InputError: there are none, or a condition names a column or a value that the table cannot have.
    """
    mask = candidates.mask(run.items, run.item_table)
    if not mask.any():
        raise InputError(
            "--allow, --block and --where",
            "conditions that no item of the run meets",
            "all lists would be empty",
            "Check the columns and the ids of the files.",
        )
    return mask


def open_titled_run(
    url: str, storage: Storage | None = None, items: str | None = None, few_lists: bool = False
) -> Run:
    """``open_run`` with a table of items, read when first needed: the file ``items``, else the titles that
    the run's job names.

    Args:
        few_lists: read the titles of the items shown alone, each time; by default all, once.

    Raises:
        InputError: as ``open_run`` does, or there is no such file of items.
    """
    storage = storage or Storage()
    location = open_location(url, storage)
    read_table, read_titles = partial(job_titles, location), partial(some_job_titles, location)
    if items is not None:
        files, settings = [items_file(items, storage)], job_columns(location)
        read_table = partial(read_item_table, files, settings=settings, tags=job_tags(location))
        read_titles = partial(read_some_titles, files, settings=settings)
    if not few_lists:
        return open_run(url, storage, read_table)
    return open_run(url, storage, lambda ids: UnreadTable(ids, read_titles, partial(read_table, ids)))


def items_file(url: str, storage: Storage) -> RawFile:
    """The file of items at ``url``.

    Raises:
        InputError: there is none, or its name ends in no known format.
    """
    location = open_location(url, storage)
    info = location.info()
    if not info.is_file or not location.path.endswith(TABLE_SUFFIXES):
        raise InputError(
            "--items",
            location.url,
            f"one file with a column of item ids, ending in {', '.join(TABLE_SUFFIXES)}",
            "Check the path.",
        )
    return RawFile(location=location, size=int(info.size), modified=info.mtime_ns)
