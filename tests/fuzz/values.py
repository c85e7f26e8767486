"""Columns of ids of every kind, with nulls and repetitions, as hypothesis draws them."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

_DAYS = st.dates()
_MOMENTS = st.datetimes(min_value=datetime.datetime(1700, 1, 1), max_value=datetime.datetime(2200, 1, 1))
_TEXTS = st.text(max_size=6) | st.sampled_from(
    [
        "",
        " ",
        "0",
        "00",
        "-1",
        "1.0",
        "NULL",
        "nan",
        "é",
        "e\u0301",
        "\x00",
        "\ufeff",
        "\u202e",
        "..",
        "../x",
        "a,b",
        'q"',
        "x\ny",
    ]
)
_DECIMALS = st.integers(-(10**9), 10**9).map(lambda n: decimal.Decimal(n) / 100)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1) | st.integers(0, 3)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "text": (pa.string(), _TEXTS),
    "large text": (pa.large_string(), _TEXTS),
    "text view": (pa.string_view(), _TEXTS),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), _TEXTS),
    "bytes": (pa.binary(), st.binary(max_size=4)),
    "large bytes": (pa.large_binary(), st.binary(max_size=4)),
    "bytes view": (pa.binary_view(), st.binary(max_size=4)),
    "fixed bytes": (pa.binary(2), st.binary(min_size=2, max_size=2)),
    "truth": (pa.bool_(), st.booleans()),
    "half": (pa.float16(), st.floats(width=16)),
    "float": (pa.float32(), st.floats(width=32)),
    "double": (pa.float64(), st.floats()),
    "decimal": (pa.decimal128(20, 2), _DECIMALS),
    "long decimal": (pa.decimal256(50, 2), _DECIMALS),
    "date": (pa.date32(), _DAYS),
    "days": (pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    "moment": (pa.timestamp("us"), _MOMENTS),
    "moments": (pa.timestamp("ns"), st.integers(-(2**63), 2**63 - 1)),
    "far moments": (pa.timestamp("us"), st.integers(-(2**63), 2**63 - 1)),
    "zoned": (pa.timestamp("us", "Europe/Berlin"), _MOMENTS),
    "nowhere": (pa.timestamp("us", "Mars/Base"), st.integers(0, 10)),
    "time": (pa.time64("us"), st.integers(0, 86_399_999_999)),
    "duration": (pa.duration("us"), st.integers(-(2**62), 2**62)),
    "null": (pa.null(), st.none()),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
    "struct": (pa.struct([("a", pa.int64())]), st.fixed_dictionaries({"a": st.integers(0, 3)})),
}


@st.composite
def columns(draw: Callable[[Any], Any], id_type: str, size: int, nulls: bool = True) -> pa.Array:
    """``size`` values of ``kind`` out of a few, so that some repeat."""
    dtype, values = KINDS[id_type]
    pool = draw(st.lists(values, min_size=1, max_size=5))
    element = st.sampled_from(pool) | st.none() if nulls else st.sampled_from(pool)
    drawn = draw(st.lists(element, min_size=size, max_size=size))
    if pa.types.is_dictionary(dtype):
        return pa.array(drawn, pa.string()).dictionary_encode()
    if pa.types.is_date32(dtype) and any(isinstance(value, int) for value in drawn):
        return pa.array(drawn, pa.int32()).cast(dtype)
    return pa.array(drawn, dtype)
