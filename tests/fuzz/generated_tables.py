"""Folders for generated tables, and ids as they were written."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        (Path(name) / "raw").mkdir()
        yield Path(name)


def key(value: Any) -> Any:
    """Equal for equal ids: of floats their bits' meaning, so that no two zeros differ and NaN is null."""
    if isinstance(value, float):
        return None if math.isnan(value) else value + 0.0
    return value


def as_written(array: pa.Array) -> list[Any]:
    """Ids as comparable Python values: dates and moments as numbers, since Python has none as late or as
    fine."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return [key(value) for value in array.to_pylist()]
