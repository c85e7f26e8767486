"""Numbers of a column of items between bounds, such as a stock above 0 or a price of at most 50."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Columns
from mmssl_dist.data.ids import is_number, is_text
from mmssl_dist.data.readers.tabular import is_comma_number
from mmssl_dist.errors import InputError

COMPARISONS = {
    "gte": pc.greater_equal,
    "gt": pc.greater,
    "lte": pc.less_equal,
    "lt": pc.less,
}
"""What a bound is called, and how a value is compared with it."""
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def numbers_of(values: pa.Array, column: str) -> pa.Array:
    """A column as float64, null where it has no value: of numbers, or of texts that are all numbers with
    points, or all numbers with decimal commas.

    Raises:
        InputError: the column has something else.
    """
    if is_text(values.type):
        return _parsed(pc.utf8_trim_whitespace(values.cast(pa.string())), column)
    if not is_number(values.type):
        raise _no_number(column, f"values of type {values.type}")
    return values.cast(pa.float64(), safe=False)


def within(numbers: pa.Array, bounds: Mapping[str, object], column: str) -> np.ndarray:
    """bool [n]: the ``numbers`` that meet all ``bounds``, by the keys of ``COMPARISONS``; false for null.

    Raises:
        InputError: a bound is unknown, or no number.
    """
    result = np.ones(len(numbers), bool)
    if not bounds or not bounds.keys() <= COMPARISONS.keys():
        raise InputError(
            f"where.{column}",
            f"bounds {', '.join(bounds) or 'without a name'}",
            f"bounds are {', '.join(COMPARISONS)}",
            'Write, for example, {"gte": 1}.',
        )
    for name, bound in bounds.items():
        met = COMPARISONS[name](numbers, pa.scalar(_number(bound, column)))
        result &= pc.fill_null(met, False).to_numpy(zero_copy_only=False)
    return result


def _parsed(texts: pa.Array, column: str) -> pa.Array:
    missing = pc.is_in(texts, value_set=pa.array(Columns().null_values, pa.string()))
    texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
    written = pc.match_substring_regex(texts, _NUMBER)
    if pc.all(written).as_py() is not False:
        return texts.cast(pa.float64())
    if all(map(is_comma_number, pc.unique(texts.drop_null()).to_pylist())):
        return pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".").cast(pa.float64())
    raise _no_number(column, repr(texts[pc.index(written, pa.scalar(False)).as_py()].as_py()))


def _number(bound: object, column: str) -> float:
    try:
        if isinstance(bound, bool) or not isinstance(bound, int | float | str):
            raise ValueError
        number = float(bound)
        if math.isnan(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError(
            f"where.{column}", repr(bound), "a bound is a number, with a point", "Write, for example, 49.90."
        ) from None
    return number


def _no_number(column: str, found: str) -> InputError:
    return InputError(
        f"where.{column}",
        found,
        "only numbers can be compared with a bound",
        "Name a column of numbers, or filter by values.",
    )
