"""Raw columns to canonical ones: ids, times, splits; the first bad value is named with its file and row."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import ITEM_ID, ROW, SPLIT, SPLITS, TIME, USER_ID
from mmssl_dist.data.ids import canonical_type, one_array, shown
from mmssl_dist.errors import InputError

Where = Callable[[int], str]
"""Names the place of the i-th value of a column."""

INTEGER_PATTERN = r"^(0|-?[1-9][0-9]{0,17})$"
_SPLIT_NAMES = {"0": 0, "1": 1, "2": 2, **{name: code for code, name in enumerate(SPLITS)}}
_SPLIT_RULE = "a split is 0, 1, 2 or train, validation, test"


def to_ids(column: pa.ChunkedArray, wanted: pa.DataType, where: Where) -> pa.Array:
    """``column`` as ids of type ``wanted``; NaN becomes null, and the two zeros one."""
    ids = _plain(column, where)
    if pa.types.is_floating(ids.type):
        ids = pc.if_else(
            pc.is_nan(ids), pa.scalar(None, ids.type), pc.add(ids, pa.scalar(0.0, ids.type))
        )  # -0 is 0
    if ids.type == wanted:
        _require_text(ids, where)
        return ids
    if pa.types.is_string(ids.type) and wanted == pa.int64():
        _require(
            pc.match_substring_regex(ids, INTEGER_PATTERN),
            ids,
            where,
            "ids of this column are integers, as in its first rows",
            "Mend the id, or use Parquet with a text column for ids that only look like numbers.",
        )
        return ids.cast(wanted)
    if canonical_type(ids.type) != wanted:
        raise InputError(
            where(0),
            f"ids of type {ids.type}",
            f"ids of a column have one type, here {wanted}",
            "Write all files with the same types.",
        )
    try:
        return ids.cast(wanted)
    except pa.ArrowInvalid as error:
        first = next(
            (i for i, value in enumerate(ids.to_pylist()) if value is not None and value >= 2**63), 0
        )
        raise InputError(where(first), ids[first], f"ids fit into {wanted}", "Write them as text.") from error


def to_times(column: pa.ChunkedArray, wanted: pa.DataType, where: Where) -> pa.Array:
    """``column`` as int64 or float64 times without nulls; dates and timestamps become microseconds since
    1970."""
    raw = _plain(column, where)
    _require(
        pc.is_valid(raw), raw, where, "every interaction has a time", "Fill in the time or drop the row."
    )
    try:
        times = _times(raw, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        bad = next((i for i in range(len(raw)) if not _is_time(raw[i : i + 1], wanted)), 0)
        raise InputError(
            where(bad),
            shown(raw[bad]),
            "times are numbers, dates or ISO timestamps, all of one kind",
            "Mend the time.",
        ) from error
    if pa.types.is_floating(wanted):
        _require(pc.is_finite(times), raw, where, "times are finite", "Mend the time.")
    return times


def time_type(raw: pa.ChunkedArray) -> pa.DataType:
    """int64 or float64: what times like ``raw`` (the first rows of a column) become."""
    kind = raw.type.value_type if pa.types.is_dictionary(raw.type) else raw.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float64()
    texts = pc.drop_null(raw.cast(pa.string())) if _is_text(kind) else None
    if texts is None or pc.all(pc.match_substring_regex(texts, INTEGER_PATTERN)).as_py() is not False:
        return pa.int64()
    return pa.float64() if _is_time(texts, pa.float64()) else pa.int64()


def to_splits(column: pa.ChunkedArray, where: Where) -> pa.Array:
    """``column`` as int8 codes of the splits."""
    raw = _plain(column, where)
    if not (_is_text(raw.type) or pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type)):
        raise InputError(
            where(0), f"a split of type {raw.type}", _SPLIT_RULE, "Write the column as numbers or text."
        )
    texts = raw
    if pa.types.is_floating(raw.type):
        numbers = raw.cast(pa.float64())
        whole = pc.equal(numbers, pc.floor(numbers))
        texts = pc.if_else(whole, numbers, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)
    codes = pc.index_in(
        pc.utf8_trim_whitespace(texts.cast(pa.string())), value_set=pa.array(list(_SPLIT_NAMES))
    )
    _require(pc.is_valid(codes), raw, where, _SPLIT_RULE, "Mend the value.")
    return pa.array(np.asarray(list(_SPLIT_NAMES.values()), np.int8)[codes.to_numpy(zero_copy_only=False)])


def canonical_table(
    columns: dict[str, pa.ChunkedArray],
    types: dict[str, pa.DataType],
    rows: np.ndarray,
    where: Callable[[int], str],
) -> pa.Table:
    """The table of an interaction reader from raw ``columns``.

    Args:
        columns: raw columns by canonical name: user_id, item_id, and time, split where asked for.
        types: canonical types of user_id, item_id and, where asked for, time.
        rows: [n] int64, numbers of the rows in their file.
        where: names the place of a row of the file.
    """

    def at(index: int) -> str:
        return where(int(rows[index]) if len(rows) else 0)

    made = {name: to_ids(columns[name], types[name], at) for name in (USER_ID, ITEM_ID)}
    if TIME in columns:
        made[TIME] = to_times(columns[TIME], types[TIME], at)
    if SPLIT in columns:
        made[SPLIT] = to_splits(columns[SPLIT], at)
    return pa.table({**made, ROW: pa.array(rows, pa.int64())})


def _plain(column: pa.ChunkedArray, where: Where) -> pa.Array:
    array = one_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        return array.cast(pa.float32())  # Arrow computes little with halves
    if not _is_text(array.type):
        return array
    try:  # Parquet promises UTF-8, and its readers believe it
        array = array.cast(pa.string())
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        place = re.search(r"index (\d+)", str(error))
        raise InputError(
            where(int(place[1]) if place else 0),
            "bytes that are no UTF-8",
            "texts are UTF-8",
            "Write the file again.",
        ) from error
    return array


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _times(raw: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_string(raw.type):
        raw = pc.utf8_trim_whitespace(raw)
        try:
            return raw.cast(wanted)
        except pa.ArrowInvalid:
            raw = raw.cast(pa.timestamp("us"))
    if pa.types.is_temporal(raw.type):
        raw = raw.cast(pa.timestamp("us", getattr(raw.type, "tz", None)), safe=False).cast(pa.int64())
    return raw.cast(wanted, safe=False) if pa.types.is_floating(wanted) else raw.cast(wanted)


def _is_time(raw: pa.Array | pa.ChunkedArray, wanted: pa.DataType) -> bool:
    try:
        _times(raw, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _require_text(ids: pa.Array, where: Where) -> None:
    """Ids that are neither integers, text nor bytes are told apart by their text, so they need to have
    one."""
    if pa.types.is_temporal(ids.type):
        try:
            ids.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise InputError(
                where(0),
                f"{ids.type} values out of range ({str(error)[:80]})",
                "ids of dates and times lie in a known calendar",
                "Write them as text.",
            ) from error


def _require(holds: pa.Array, values: pa.Array, where: Where, rule: str, remedy: str) -> None:
    """Raise for the first value for which ``holds`` is false; nulls in it pass."""
    if pc.all(holds).as_py() is False:
        first = int(pc.index(holds, pa.scalar(False)).as_py())
        raise InputError(where(first), shown(values[first]), rule, remedy)
