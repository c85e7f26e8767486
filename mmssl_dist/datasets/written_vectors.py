"""Vectors in tables, recognized by how other programs write them: lists of numbers, texts such as [0.1, 0.2],
or a column for each value."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.readers.vector_rows import ANY_NUMBER

_LEAST_COLUMNS = 8  # with consecutive numbers; fewer may be anything, such as price1 and price2
_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)")
_LIST = r"^[\[({][-+0-9.,;eE\s]+[\])}]$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_FRACTION = r"[.eE]"


def are_vectors(values: pa.Array) -> bool:
    """Whether texts, or lists of texts, are vectors: numbers of which some have a fraction, unlike tags."""
    if pa.types.is_list(values.type):
        pattern, texts = _NUMBER, values.flatten()
    else:
        pattern, texts = _LIST, values
    texts = texts.drop_null()
    return bool(
        len(texts)
        and pc.all(pc.match_substring_regex(texts, pattern)).as_py()
        and pc.any(pc.match_substring_regex(texts, _FRACTION)).as_py()
    )


def columns_of_values(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that may have one value of a vector each, by the pattern that means them."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        if (match := _NUMBERED.fullmatch(name)) and ANY_NUMBER not in name:
            groups[f"{match[1]}{ANY_NUMBER}{match[3]}"].append((int(match[2]), name))
    return {
        pattern: [name for _, name in sorted(group)]
        for pattern, group in groups.items()
        if len(group) >= _LEAST_COLUMNS and _consecutive([number for number, _ in group])
    }


def _consecutive(numbers: Sequence[int]) -> bool:
    first = min(numbers)
    return sorted(numbers) == list(range(first, first + len(numbers)))
