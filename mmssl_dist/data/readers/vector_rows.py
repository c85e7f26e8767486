"""Items and vectors of one block of rows, whatever file they come from: what every vector must be, and which
columns have its values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.readers.base import FeatureBatch
from mmssl_dist.data.readers.id_types import Where
from mmssl_dist.data.readers.numbered import require_finite
from mmssl_dist.errors import InputError

ANY_NUMBER = "*"
"""In the name of a column: the number of a value."""


def value_columns(available: Mapping[str, Sequence[str]], pattern: str) -> tuple[str, ...]:
    """The columns that ``pattern`` means, such as ``v*`` for v0, v1 and so on, by their numbers.

    None where it has no ``*``.

    Args:
        available: the columns of each file, by the name that messages give it.

    Raises:
        InputError: there is no such column, their numbers are not consecutive, or the files differ.
    """
    if ANY_NUMBER not in pattern:
        return ()
    of_files = {where: _numbered(where, names, pattern) for where, names in available.items()}
    first = next(iter(of_files.values()))
    for where, columns in of_files.items():
        if columns != first:
            raise InputError(
                where,
                f"{len(columns)} columns {pattern}",
                f"vectors of a modality have one length, here {len(first)}",
                "Write all files with the same columns.",
            )
    return first


def _numbered(where: str, available: Sequence[str], pattern: str) -> tuple[str, ...]:
    before, _, after = pattern.partition(ANY_NUMBER)
    of_value = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    columns = sorted((int(match[1]), name) for name in available if (match := of_value.fullmatch(name)))
    if not columns:
        raise InputError(
            where,
            f"no column {pattern}",
            "* stands for a number in the names of the columns that have a vector's values",
            "Correct the pattern, or name the column that has the vectors.",
        )
    for (number, name), (following, other) in itertools.pairwise(columns):
        if following != number + 1:
            raise InputError(
                where,
                f"columns {name} and {other}, and none between",
                "the columns of a vector's values have consecutive numbers",
                "Write the missing column, or rename those that are not of the vector.",
            )
    return tuple(name for _, name in columns)


def joined_lists(columns: Sequence[pa.Array]) -> pa.Array:
    """One list a row of its numbers in ``columns``; null where all of them are null."""
    values = np.stack(
        [column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in columns], axis=1
    )  # NaN for null
    empty = np.all([column.is_null().to_numpy(zero_copy_only=False) for column in columns], axis=0)
    offsets = np.arange(len(values) + 1, dtype=np.int64) * len(columns)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()), mask=pa.array(empty))


def feature_batch(
    *,
    items: pa.Array,
    lists: pa.Array,
    files: np.ndarray,
    rows: np.ndarray,
    dimension: int,
    dtype: np.dtype,
    where: Where,
) -> FeatureBatch:
    """The rows that have a vector.

    Args:
        items: n ids.
        lists: n lists of numbers; a null or empty one is no vector.
        files, rows: [n], where each is.
        dimension: values of every vector.
        dtype: of the result.
        where: names the row at an index.

    Raises:
        InputError: a vector without an id, of another length, or with a value that is null or not finite.
    """
    has_vector = pc.fill_null(pc.greater(pc.list_value_length(lists), 0), False)
    # A row with neither an id nor a vector is harmless; a vector without an id was meant for somebody.
    unnamed = pc.and_(has_vector, items.is_null())
    if pc.any(unnamed).as_py():
        raise InputError(
            where(int(pc.index(unnamed, pa.scalar(True)).as_py())),
            "no item id",
            "every vector belongs to an item",
            "Fill in the id or drop the row.",
        )
    items, lists = items.filter(has_vector), lists.filter(has_vector)
    kept = np.flatnonzero(has_vector.to_numpy(zero_copy_only=False))
    files, rows = files[kept].astype(np.int32), rows[kept]
    if not len(lists):
        return FeatureBatch(items, files, rows, np.empty((0, dimension), dtype))
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if (lengths != dimension).any():
        index = int(np.argmax(lengths != dimension))
        raise InputError(
            where(int(kept[index])),
            f"{lengths[index]} values",
            f"vectors of a modality have one length, here {dimension}",
            "Fix the row.",
        )
    values = lists.flatten()
    if values.null_count:
        # A null inside a vector is refused below, with its place, like any other non-finite number.
        values = pc.fill_null(values.cast(pa.float32()), float("nan"))
    with np.errstate(over="ignore"):  # what becomes infinite is found below
        vectors = values.to_numpy(zero_copy_only=False).astype(dtype).reshape(-1, dimension)
    remedy = "Replace the value, or remove the row: its item then lacks the modality."
    require_finite(vectors, lambda index: where(int(kept[index])), remedy)
    return FeatureBatch(items, files, rows, vectors)
