"""Columns of items with several tags in a text: a filter compares tag by tag, as training read them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mmssl_dist.config import Job
from mmssl_dist.data.ids import is_text
from mmssl_dist.data.readers.tabular import tags_in
from mmssl_dist.errors import InputError


def separators(job: Job) -> dict[str, str]:
    """What stands between the tags of each column that a job declares as tags."""
    return {
        column: modality.separator
        for modality in job.data.modalities.values()
        for column, feature_type in modality.features.items()
        if feature_type == "tags"
    }


def with_tags(table: pa.Table, tags: Mapping[str, str]) -> pa.Table:
    """``table`` with lists of tags in the place of the texts of the columns ``tags``.

    Raises:
        InputError: a text is a list that is not valid JSON of texts and whole numbers.
    """
    for column in tags.keys() & set(table.column_names):
        if is_text(table.schema.field(column).type):
            lists = [
                None if text is None else _tags(text, tags[column], column)
                for text in table[column].to_pylist()
            ]
            index = table.schema.get_field_index(column)
            table = table.set_column(index, column, pa.array(lists, pa.list_(pa.string())))
    return table


def _tags(text: str, separator: str, column: str) -> list[str] | None:
    try:
        return tags_in(text, separator)
    except ValueError:
        raise InputError(
            f"items, column {column}",
            text,
            "tags are texts with separators, or a JSON list of texts or whole numbers",
            "Correct the value.",
        ) from None
