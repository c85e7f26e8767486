"""Columns of a table that are features themselves: an item's categories, tags, numbers and booleans as one
text, so that they are bucketed, compared and resumed as texts are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from mmssl_dist.config.data_sections import FeatureType, Modality
from mmssl_dist.data.ids import is_number, is_text, scalar_text, storage_type
from mmssl_dist.data.readers.id_types import Where
from mmssl_dist.data.readers.values import checked_values
from mmssl_dist.errors import InputError

ColumnValues = dict[str, Any]
"""What an item has: by column a text, a list of texts, a float (which may be infinite) or a boolean; columns
without a value are left out."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LISTED = re.compile(r"\[(?:.*,.*|\s*|\s*[\"'\[{].*|\s*(?:[0-9]+|null)\s*)\]", re.DOTALL)
_COMMA_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+)(?:,[0-9]*)?|,[0-9]+)(?:[eE][+-]?[0-9]+)?"
)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "t", "y", "1"), True),
    **dict.fromkeys(("false", "no", "f", "n", "0"), False),
}
_RULES: dict[FeatureType, str] = {
    "category": "a category is a text, a whole number or a boolean",
    "tags": "tags are lists of texts or whole numbers (in a text as JSON), or texts with separators",
    "number": "a number is written in digits, with a point and without units",
    "boolean": "a boolean is true or false, yes or no, 1 or 0",
}
_COMMA_RULE = (
    'with decimal: "," a number has a comma, points between groups of three digits alone, and no units'
)
_REMEDY = (
    "Correct the value, give the column another type in features, or add a word for missing values to "
    "data.columns.null_values."
)


def item_texts(
    columns: Mapping[str, pa.Array], settings: Modality, null_values: Sequence[str], where: Where
) -> pa.Array:
    """The values of each row's item as ``values_of`` reads them; null where there is none.

    Args:
        columns: plain columns by name, those of ``settings.features``.
        null_values: texts that stand for a missing value, as an empty one always does.
        where: names the row at an index.

    Raises:
        InputError: a value is not of its column's type; names the first.
    """
    nulls = frozenset(null_values) | {""}
    parsed = {
        name: _parsed(column=columns[name], name=name, settings=settings, nulls=nulls, where=where)
        for name in sorted(settings.features)
    }
    texts: list[str | None] = []
    for row in zip(*parsed.values(), strict=True):
        values = {name: value for name, value in zip(parsed, row, strict=True) if value is not None}
        usable = any(not isinstance(value, float) or math.isfinite(value) for value in values.values())
        texts.append(json.dumps(values, ensure_ascii=False) if usable else None)
    return pa.array(texts, pa.string())


def values_of(text: str) -> ColumnValues:
    """What ``item_texts`` wrote."""
    values: ColumnValues = json.loads(text)
    return values


def require_feature_type(column: str, raw: pa.DataType, feature_type: FeatureType) -> None:
    """Raise an InputError unless a Parquet column of type ``raw`` can have values of ``feature_type``;
    ``column`` names it."""
    raw = storage_type(raw)
    usable = is_text(raw) or is_number(raw) or pa.types.is_boolean(raw) or pa.types.is_null(raw)
    if pa.types.is_list(raw) or pa.types.is_large_list(raw):
        inner = raw.value_type
        usable = feature_type == "tags" and bool(
            is_text(inner) or pa.types.is_integer(inner) or pa.types.is_null(inner)
        )
    if not usable:
        raise InputError(column, f"type {raw}", _RULES[feature_type], "Write the column as such values.")


def is_listed(text: str) -> bool:
    """Whether a text of tags is written as a list, as JSON or as another program shows one. A single tag in
    brackets, such as [1080p], is not a list."""
    return bool(_LISTED.fullmatch(text.strip()))


def listed_tags(text: str) -> list[str]:
    """The tags of a text that ``is_listed``.

    Raises:
        ValueError: it is not valid JSON, or not of texts and whole numbers alone.
    """
    values = json.loads(text)
    if any(isinstance(value, list | dict | float) for value in values):
        raise ValueError
    return [_category(value) for value in values if value is not None]


def _parsed(
    column: pa.Array, name: str, settings: Modality, nulls: frozenset[str], where: Where
) -> list[Any]:
    """The values of a column, None where there is none."""
    feature_type = settings.features[name]

    def where_in_column(index: int) -> str:
        return f"{where(index)}, column {name}"

    values = checked_values(pa.chunked_array([column]), where_in_column)
    require_feature_type(where_in_column(0), values.type, feature_type)
    parsers: dict[FeatureType, Callable[[Any], Any]] = {
        "category": _category,
        "tags": partial(tags_in, separator=settings.separator, nulls=nulls),
        "number": partial(_number, decimal=settings.decimal),
        "boolean": _boolean,
    }
    parse = parsers[feature_type]
    rule = _COMMA_RULE if (feature_type, settings.decimal) == ("number", ",") else _RULES[feature_type]
    parsed = list[Any]()
    for index, value in enumerate(values.to_pylist()):
        if isinstance(value, str):
            value = value.strip()
        missing = value is None or (isinstance(value, str) and value in nulls) or value != value
        try:
            parsed.append(None if missing else parse(value))
        except ValueError:
            commas = (
                feature_type == "number" and settings.decimal == "." and _COMMA_NUMBER.fullmatch(str(value))
            )
            remedy = f'For decimal commas set decimal: "," beside features. {_REMEDY}' if commas else _REMEDY
            raise InputError(where_in_column(index), scalar_text(values[index]), rule, remedy) from None
    return parsed


def _category(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    # 3.0 is 3, as pandas writes whole numbers beside missing ones
    if value != value // 1:
        raise ValueError
    return str(int(value))


def tags_in(value: Any, separator: str, nulls: frozenset[str] = frozenset({""})) -> list[str] | None:
    """The tags of a value, without repetitions, in the order of their texts; None where there is none.

    Raises:
        ValueError: a text is a list that ``listed_tags`` does not read.
    """
    if isinstance(value, str):
        value = listed_tags(value) if is_listed(value) else value.split(separator)
    elif not isinstance(value, list):
        value = [_category(value)]
    tags = {str(tag).strip() for tag in value if tag is not None} - nulls
    return sorted(tags) or None


def is_comma_number(text: str) -> bool:
    """Whether ``text`` is a number for ``decimal: ","``."""
    return bool(_COMMA_NUMBER.fullmatch(text))


def _number(value: Any, decimal: str) -> float:
    if isinstance(value, str) and not _INFINITE.fullmatch(value):
        if not (_NUMBER if decimal == "." else _COMMA_NUMBER).fullmatch(value):
            raise ValueError
        if decimal == ",":
            value = value.replace(".", "").replace(",", ".")
    return float(value)


def _boolean(value: Any) -> bool:
    text = str(value).lower() if isinstance(value, str | bool) else _category(value)
    if text not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text]
