"""Titles of items, for people who look at lists: read when they are shown, and for these items alone."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Columns, Data
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.ids import id_texts
from mmssl_dist.data.item_blocks import check_item_columns, item_blocks


def check_titles(data: Data, files: Iterable[RawFile]) -> None:
    """Look at the columns of the files of titles.

    Raises:
        InputError: a file cannot be read, or has no column with ids or none with titles.
    """
    for file in files:
        check_item_columns(file, data.columns, [data.columns.title])


def read_titles(data: Data, files: Iterable[RawFile], items: Iterable[object]) -> dict[str, str]:
    """The titles of some items, by the text of their id; of items named twice the last, of those without a
    title none.

    Raises:
        InputError: as ``check_titles`` does.
    """
    items = list(items)
    item_texts = {str(item) for item in items}
    return titles_of(files, data.columns, item_texts, like=items[0] if items else None)


def titles_of(
    files: Iterable[RawFile], columns: Columns, item_texts: Iterable[str], like: object
) -> dict[str, str]:
    """``read_titles`` for the items whose ids have the texts ``item_texts``, as ``id_texts`` makes them.

    Args:
        columns: names of the columns with item ids and with titles.
        like: an id of the dataset, as for ``id_texts``.
    """
    # As text, since a file of titles may keep ids in another type than the dataset.
    among = pa.array(sorted(item_texts), pa.string())
    titles: dict[str, str | None] = {}
    for file in files:
        for block in item_blocks(file, columns, [columns.title]):
            ids, texts = id_texts(block[columns.item_of_titles], like), block[columns.title].cast(pa.string())
            chosen = pc.is_in(ids, value_set=among)
            # Later rows win, as in a table where a correction was appended.
            titles |= zip(ids.filter(chosen).to_pylist(), texts.filter(chosen).to_pylist(), strict=True)
    return {item: title for item, title in titles.items() if title is not None}
