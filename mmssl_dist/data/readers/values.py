"""Raw columns to canonical ones: ids, times, splits; the first bad value is named with its file and row."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import ITEM_ID, RATING, ROW, SPLIT, SPLITS, TIME, USER_ID
from mmssl_dist.data.ids import (
    EXACT_FLOAT,
    canonical_type,
    is_number,
    is_text,
    is_uuid,
    plain_values,
    scalar_text,
    uuid_texts,
)
from mmssl_dist.data.readers.id_types import Where, parse_integers
from mmssl_dist.data.readers.times import TimeFormat, to_times
from mmssl_dist.errors import InputError

_SPLIT_CODES = {"0": 0, "1": 1, "2": 2, **{name: code for code, name in enumerate(SPLITS)}}
_NUMBER = r"^[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*$"
_SPLIT_RULE = "a split is 0, 1, 2 or train, validation, test"


def to_ids(column: pa.ChunkedArray, wanted: pa.DataType, where: Where) -> pa.Array:
    """``column`` as ids of type ``wanted``; nulls stay, and NaN becomes null.

    Raises:
        InputError: a value is not an id of this type; names the first.
    """
    ids = checked_values(column, where)
    if is_number(ids.type) and not pa.types.is_integer(ids.type):
        ids = _whole_numbers(ids, where)
    # Before any comparison of types: a part without values agrees with every type
    if ids.null_count == len(ids):
        return pa.nulls(len(ids), wanted)  # whatever its type: pandas makes floats of a column without values
    # Text beside numbers is common: one file is CSV and another Parquet.
    if is_text(ids.type) and pa.types.is_int64(wanted):
        return _integers_of_text(ids, where)
    if is_number(ids.type) and pa.types.is_string(wanted):
        return ids.cast(wanted)
    if is_uuid(ids.type) and pa.types.is_string(wanted):
        return uuid_texts(ids)
    if canonical_type(ids.type) != wanted:
        raise InputError(
            where(0),
            f"ids of type {ids.type}",
            f"ids of a column have one type, here {wanted}",
            "Write all files with the same types, with leading zeros alike; or set data.columns.types.",
        )
    _require_calendar(ids, where)
    try:
        return ids.cast(wanted)
    except pa.ArrowInvalid as error:
        values = ids.to_pylist()
        # Arrow's message has no row, so the first bad value is looked for; speed no longer matters here.
        first = next(i for i, v in enumerate(values) if v is not None and not -(2**63) <= v < 2**63)
        raise InputError(
            where(first),
            values[first],
            f"ids of this column are integers that fit into {wanted}",
            "Set data.columns.types to string, or write the ids as text in all files.",
        ) from error


def to_splits(column: pa.Array, where: Where) -> pa.Array:
    """``column`` (plain values) as int8 codes of the splits."""
    if not len(column):
        return pa.array([], pa.int8())
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(
            where(0), f"a split of type {column.type}", _SPLIT_RULE, "Write the column as numbers or text."
        )
    texts = column
    if pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64())
        whole = pc.equal(numbers, pc.floor(numbers))
        # 1.0 is 1, as pandas writes integers beside missing values; 1.5 becomes null, which no code has.
        texts = pc.if_else(whole, numbers, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)
    codes = pc.index_in(
        pc.utf8_trim_whitespace(texts.cast(pa.string())), value_set=pa.array(list(_SPLIT_CODES))
    )
    _require(
        holds=pc.is_valid(codes), values=column, where=where, rule=_SPLIT_RULE, remedy="Correct the value."
    )
    return pa.array(np.asarray(list(_SPLIT_CODES.values()), np.int8)[codes.to_numpy(zero_copy_only=False)])


def to_ratings(column: pa.Array, where: Where) -> pa.Array:
    """``column`` (plain values) as float64.

    Raises:
        InputError: a value is missing, not a number or not finite; names the first.
    """
    rule, remedy = "every interaction has a rating, a finite number", "Fill in the rating or drop the row."
    if not len(column):
        return pa.array([], pa.float64())  # a part without rows may have any type
    _require(holds=column.is_valid(), values=column, where=where, rule=rule, remedy=remedy)
    if not (is_text(column.type) or is_number(column.type)):
        raise InputError(where(0), f"ratings of type {column.type}", rule, "Write the ratings as numbers.")
    texts = column.cast(pa.string())
    numbers = pc.match_substring_regex(texts, _NUMBER) if is_text(column.type) else column.is_valid()
    _require(holds=numbers, values=column, where=where, rule=rule, remedy=remedy)
    ratings = pc.replace_substring_regex(pc.utf8_trim(texts, " \t"), r"^\+", "").cast(pa.float64())
    _require(holds=pc.is_finite(ratings), values=column, where=where, rule=rule, remedy=remedy)
    return ratings


def checked_values(column: pa.ChunkedArray, where: Where) -> pa.Array:
    """The plain values of a column, texts as valid UTF-8 of type string, halves as float32.

    Raises:
        InputError: a text is not UTF-8.
    """
    array = plain_values(column)
    if pa.types.is_float16(array.type):
        return array.cast(pa.float32())  # Arrow computes little with halves
    if not is_text(array.type):
        return array
    try:  # Parquet promises UTF-8, and its readers believe it
        array = array.cast(pa.string())
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        # The only place where Arrow says which value it was.
        index = re.search(r"index (\d+)", str(error))
        raise InputError(
            where(int(index[1]) if index else 0),
            "bytes that are not valid UTF-8",
            "texts are UTF-8",
            "Write the file again.",
        ) from error
    return array


def canonical_table(
    columns: dict[str, pa.ChunkedArray],
    types: dict[str, pa.DataType],
    times: TimeFormat | None,
    rows: np.ndarray,
    where: Where,
) -> pa.Table:
    """The table of an interaction reader from raw ``columns``.

    Rows with a null id are dropped later, so nothing is asked of their time, split and rating: these are 0.

    Args:
        columns: raw columns by canonical name: user_id, item_id, and time, split, rating where asked for.
        types: canonical types of user_id and item_id.
        times: what the times are, where asked for.
        rows: [n] int64, numbers of the rows in their file.
        where: names the place of the row at an index in ``rows``.
    """
    table = {name: to_ids(columns[name], types[name], where) for name in (USER_ID, ITEM_ID)}
    live = np.flatnonzero(
        pc.and_(table[USER_ID].is_valid(), table[ITEM_ID].is_valid()).to_numpy(zero_copy_only=False)
    )

    def at_live(index: int) -> str:
        return where(int(live[index]) if len(live) else 0)

    # Of a row that will be dropped neither is looked at: a bad time beside a missing id is no error
    for name in (TIME, SPLIT, RATING):
        if name in columns:
            values = checked_values(columns[name], where)
            if len(live) < len(rows):
                values = values.take(pa.array(live))
            if name == TIME:
                assert times is not None
                made = to_times(_require_times(values, at_live), times, at_live)
            else:
                made = (to_splits if name == SPLIT else to_ratings)(values, at_live)
            table[name] = _scattered(made, live, len(rows))
    return pa.table({**table, ROW: pa.array(rows, pa.int64())})


def _scattered(values: pa.Array, rows: np.ndarray, count: int) -> pa.Array:
    if len(rows) == count:
        return values
    scattered = np.zeros(count, values.type.to_pandas_dtype())
    scattered[rows] = values.to_numpy(zero_copy_only=False)
    return pa.array(scattered)


def _require_times(raw: pa.Array, where: Where) -> pa.Array:
    rule = "every interaction has a time"
    _require(
        holds=raw.is_valid(), values=raw, where=where, rule=rule, remedy="Fill in the time or drop the row."
    )
    return raw


def _whole_numbers(ids: pa.Array, where: Where) -> pa.Array:
    """Floats as int64, or decimals as such without digits after the point."""
    if pa.types.is_floating(ids.type):  # pandas makes them of integers beside missing values
        ids = pc.if_else(pc.is_nan(ids), pa.scalar(None, ids.type), ids)
        whole = pc.and_(
            pc.equal(pc.floor(ids), ids), pc.less_equal(pc.abs(ids), pa.scalar(EXACT_FLOAT, ids.type))
        )
        rule = "ids are integers or text; floats only where they are integers up to 2**53"
        _require(holds=whole, values=ids, where=where, rule=rule, remedy="Write the ids as integers or text.")
        return ids.cast(pa.float64()).cast(pa.int64())
    try:
        # The widest type that Arrow has, so that no decimal is refused for its width.
        return ids.cast(pa.decimal256(76, 0))
    except pa.ArrowInvalid as error:
        first = next(i for i, value in enumerate(ids.to_pylist()) if value is not None and value % 1)
        rule = "ids are integers or text; decimals only where they are integers"
        raise InputError(
            where(first), scalar_text(ids[first]), rule, "Write the ids as integers or text."
        ) from error


def _integers_of_text(ids: pa.Array, where: Where) -> pa.Array:
    integers = parse_integers(ids)
    if integers is not None:
        return integers
    # One by one, on the way to an error only.
    first = next(i for i in range(len(ids)) if parse_integers(ids[i : i + 1]) is None)
    raise InputError(
        where(first),
        scalar_text(ids[first]),
        "ids of this column are integers that fit into int64, without leading zeros",
        "Correct the id, or set data.columns.types to string and write all ids of this column as text.",
    )


def _require_calendar(ids: pa.Array, where: Where) -> None:
    """The text of dates and times distinguishes them where ids are hashed, so they need to have one."""
    if pa.types.is_temporal(ids.type):
        try:
            ids.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise InputError(
                where(0),
                f"{ids.type} values out of range ({str(error)[:80]})",
                "ids that are dates or times must be within the range of the calendar",
                "Write them as text.",
            ) from error


def _require(holds: pa.Array, values: pa.Array, where: Where, rule: str, remedy: str) -> None:
    """Raise for the first value for which ``holds`` is false; nulls in it pass."""
    if pc.all(holds).as_py() is False:
        first = int(pc.index(holds, pa.scalar(False)).as_py())
        raise InputError(where(first), scalar_text(values[first]), rule, remedy)
