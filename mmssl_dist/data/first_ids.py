"""Ids of items that begin at 1, beside features that are rows of a matrix, which begins at 0."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mmssl_dist.data.readers import FeatureSource
from mmssl_dist.data.rows import ITEM_0, ITEM_AFTER_LAST, ITEM_BEYOND
from mmssl_dist.errors import InputError


def matrix_rows(features: Iterable[FeatureSource]) -> int | None:
    """Of the largest matrix whose rows number the items; None without any."""
    return max((source.rows for source in features if source.rows is not None), default=None)


def check_first_ids(counts: Mapping[str, int], features: Collection[FeatureSource]) -> None:
    """Raise an InputError where the ids of items seem to begin at 1: the last one has the number of a
    matrix's rows for its id, and nobody interacted with item 0. Every item would get the vector of the one
    after it, whatever becomes of the last one.

    Args:
        counts: ``FIRST_IDS`` over all interactions as they were read.
        features: of every modality.
    """
    rows = matrix_rows(features)
    if rows is None or not counts[ITEM_AFTER_LAST] or counts[ITEM_BEYOND] or counts[ITEM_0]:
        return
    matrix = next(source for source in features if source.rows == rows)
    raise InputError(
        matrix.files[0].name,
        f"item {rows} without a row, and no item 0 among the interactions",
        f"row r belongs to item r, 0 to {rows - 1}, and these ids seem to begin at 1",
        "Subtract 1 from every item id, or write the vectors to Parquet with their ids.",
    )
