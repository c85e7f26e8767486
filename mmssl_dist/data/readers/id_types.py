"""The types of ids: what the columns of all files show before a row is used, and one type for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.ids import WHOLE, canonical_type, is_uuid
from mmssl_dist.errors import InputError

Where = Callable[[int], str]
"""Names the row of the i-th value of a column."""

_INTEGER = r"^(0|-?[1-9][0-9]*)$"
_FRACTION = r"^[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?[0-9]+[eE][+-][0-9]+$"
_SETTINGS = {"int": pa.int64(), "string": pa.string()}


@dataclass(frozen=True)
class Example:
    """A value as the file has it, and a function that names its place, for a message."""

    locate: Callable[[], str]
    value: str


@dataclass(frozen=True, kw_only=True)
class IdSummary:
    """What is known of the ids of one column.

    Attributes:
        type: their canonical type; null where there is no value.
        source: the file and column that the type comes from, for messages.
        declared: a schema gives the type; otherwise the looks of delimited text do.
        numeric: all are integers; then ``type`` is string where one of them is beyond int64.
        text: of delimited text, the first id that is not a number, such as x7 or 007.
        fraction: of delimited text, the first number that is not an integer, such as 1.5 or 1e+06.
    """

    type: pa.DataType
    source: str
    declared: bool = True
    numeric: bool = False
    text: Example | None = None
    fraction: Example | None = None


def declared_ids(source: str, raw: pa.DataType, beyond_int64: bool = False) -> IdSummary:
    """The summary of a column of a file with a schema.

    Raises:
        InputError: values of this type cannot be ids.
    """
    ids = canonical_type(raw)
    if ids is None:
        raise InputError(
            source,
            f"type {raw}",
            "ids are integers, text or other plain values",
            "Convert the column to text.",
        )
    return IdSummary(type=pa.string() if beyond_int64 else ids, source=source, numeric=pa.types.is_int64(ids))


def text_ids(ids: pa.Array, source: str, where: Where) -> IdSummary:
    """The summary of a block of a column of delimited text; nulls show nothing."""
    if ids.null_count == len(ids):
        return IdSummary(type=pa.null(), source=source, declared=False)
    # The whole block at once: casting is many times as fast as the patterns below, and nearly always enough.
    if parse_integers(ids) is not None:
        return IdSummary(type=pa.int64(), source=source, declared=False, numeric=True)
    integer = pc.or_(pc.match_substring_regex(ids, _INTEGER), pc.match_substring_regex(ids, WHOLE))
    fraction = pc.match_substring_regex(ids, _FRACTION)
    return IdSummary(
        type=pa.string(),
        source=source,
        declared=False,
        numeric=pc.all(integer).as_py() is True,
        text=_first(pc.invert(pc.or_(integer, fraction)), ids, where),
        fraction=_first(pc.and_not(fraction, integer), ids, where),
    )


def parse_integers(ids: pa.Array) -> pa.Array | None:
    """Texts (nulls kept) as int64, or None unless each is an integer as ``integers_or_null`` has it."""
    try:
        integers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        # Only now that the cast has failed, since the pattern costs more than everything else here.
        whole = pc.match_substring_regex(ids, WHOLE)
        if pc.any(whole).as_py() is not True:
            return None
        integers = integers_or_null(ids)
        return integers if integers.null_count == ids.null_count else None
    return integers if pc.all(pc.equal(integers.cast(pa.string()), ids)).as_py() is not False else None


def integers_or_null(texts: pa.Array) -> pa.Array:
    """[n] int64: the texts that are integers as one would write them; null for others.

    "007" and "-0" are not integers, since their text could not be told from that of 7 and 0 afterwards;
    "7.0" is one, since that is how pandas writes integers beside missing values.
    """
    whole = pc.replace_substring_regex(texts, WHOLE, r"\1")
    digits = pc.utf8_length(pc.replace_substring(whole, "-", "", max_replacements=1))
    # Of texts with as many digits as the largest, the order is that of the numbers.
    largest = pc.if_else(pc.starts_with(whole, "-"), str(-(2**63)), str(2**63 - 1))
    fits = pc.or_(pc.less(digits, 19), pc.and_(pc.equal(digits, 19), pc.less_equal(whole, largest)))
    usable = pc.and_(pc.match_substring_regex(whole, _INTEGER), fits)
    return pc.if_else(usable, whole, pa.scalar(None, pa.string())).cast(pa.int64())


def joined_ids(summaries: Iterable[IdSummary], setting: str | None = None) -> IdSummary:
    """The summary of several files or blocks of one column, whose type ``setting`` decides unless it is None.

    Raises:
        InputError: schemas give two types that are not integers of several widths; names both files.
    """
    joined: IdSummary | None = None
    for summary in summaries:
        joined = summary if joined is None else _join(joined, summary, setting)
    assert joined is not None, "a column has at least one file"
    return joined


def agreed_type(
    ids: IdSummary, setting: str | None, key: str, features: IdSummary | None = None
) -> pa.DataType:
    """The type that the ids of a column get: that of the setting, else that of the features, else its own.

    Args:
        ids: of the interactions.
        setting: data.columns.types.user or .item.
        key: its YAML path.
        features: of the features, where the column has items.

    Raises:
        InputError: the ids, or those of the features, cannot have this type; names the first such id, or both
            columns.
    """
    if setting is not None:
        also = " and UUIDs" if setting == "string" else ""
        for summary in (ids, *([] if features is None else [features])):
            if not (_can_become(summary, setting) or pa.types.is_null(summary.type)):
                raise InputError(
                    summary.source,
                    f"ids of type {summary.type}",
                    f"{key} is {setting}, which integers and text{also} can become",
                    f"Remove {key}, or convert the column.",
                )
        agreed = _SETTINGS[setting]
        if pa.types.is_int64(agreed):
            _require_integers(ids, f"{key} is int")
        return agreed
    if features is None or pa.types.is_null(features.type):
        return _own_type(ids)
    if pa.types.is_null(ids.type) or features.type == ids.type:
        return features.type
    if ids.numeric and features.numeric:
        return features.type
    if not ids.declared and pa.types.is_string(features.type):
        return pa.string()
    if not ids.declared and pa.types.is_int64(features.type):
        _require_integers(ids, f"they are integers in {features.source}")
    raise InputError(
        ids.source,
        f"ids of type {ids.type}",
        f"item ids have one type; those of {features.source} are {features.type}",
        "Write both with the same type, or set data.columns.types.item.",
    )


def _can_become(ids: IdSummary, setting: str) -> bool:
    """Whether ids can have the type that the job sets."""
    return ids.numeric or pa.types.is_string(ids.type) or (setting == "string" and is_uuid(ids.type))


def _own_type(ids: IdSummary) -> pa.DataType:
    if pa.types.is_null(ids.type):
        return pa.int64()  # all rows will be dropped
    if ids.fraction and not ids.text:
        raise InputError(
            ids.fraction.locate(),
            repr(ids.fraction.value),
            "ids are integers or text, and all ids of this column are numbers",
            "Write the ids as integers, or set data.columns.types to string.",
        )
    return ids.type


def _require_integers(ids: IdSummary, because: str) -> None:
    wrong = ids.text or ids.fraction
    if not ids.declared and wrong:
        raise InputError(
            wrong.locate(),
            repr(wrong.value),
            f"ids of this column are integers, since {because}",
            "Correct the id, or write the integers as text, with leading zeros where these ids have them.",
        )


def _join(first: IdSummary, second: IdSummary, setting: str | None) -> IdSummary:
    if pa.types.is_null(first.type) or pa.types.is_null(second.type):
        return second if pa.types.is_null(first.type) else first
    decided = setting is not None and all(_can_become(summary, setting) for summary in (first, second))
    agree = first.type == second.type or (first.numeric and second.numeric)
    if first.declared and not agree and not decided:
        raise InputError(
            second.source,
            f"ids of type {second.type}",
            f"ids of a column have one type in all files, {first.type} in {first.source}",
            "Write all files with the same types, with leading zeros alike; or set data.columns.types.",
        )
    return replace(
        second if pa.types.is_int64(first.type) else first,
        numeric=first.numeric and second.numeric,
        text=first.text or second.text,
        fraction=first.fraction or second.fraction,
    )


def _first(holds: pa.Array, values: pa.Array, where: Where) -> Example | None:
    index = int(pc.index(holds, pa.scalar(True)).as_py())
    return None if index < 0 else Example(partial(where, index), values[index].as_py())
