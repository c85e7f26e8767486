"""Columns of a table to vectors, by a fit: what the items of one day show of distinct values and of sizes of
numbers. It is published with the vectors, so that items of a later day are encoded in the same way."""

# n items, F values of a vector

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmssl_dist.config.data_sections import FeatureType, Modality
from mmssl_dist.data.readers.base import MAX_DIMENSION
from mmssl_dist.data.readers.tabular import ColumnValues, values_of
from mmssl_dist.embedding.column_summaries import ColumnSummary, logarithms
from mmssl_dist.errors import InputError

FARTHEST = 8.0
"""Standard deviations that a standardized number is limited to; with one beyond, logarithms are taken."""
MISSING, INFINITE, UNKNOWN, LIMITED = "missing", "infinite", "not in the fit", "limited"
DEFINITION = {"features", "one_hot", "hashed", "separator", "decimal"}
"""Settings of a modality that say what its columns are."""
_EXAMPLES = 5
_logger = logging.getLogger(__name__)

Occurrences = dict[str, dict[str, dict[str, Any]]]
"""By column and what is unusual of values: their number ``items``, and ``examples`` of items."""


@dataclass(frozen=True, kw_only=True)
class ColumnFit:
    """How the values of one column become dimensions.

    Attributes:
        feature_type: the column's.
        values: a category or tags column with a dimension for each distinct value: these, sorted.
        hashed: otherwise the number of dimensions that they are hashed into.
        logarithm, mean, deviation: what a number column is standardized by.
    """

    feature_type: FeatureType
    values: tuple[str, ...] | None = None
    hashed: int = 0
    logarithm: bool = False
    mean: float = 0.0
    deviation: float = 0.0

    @property
    def width(self) -> int:
        """Dimensions: of a number column its value and whether it is missing."""
        if self.feature_type == "boolean":
            return 1
        if self.feature_type == "number":
            return 2
        return self.hashed if self.values is None else len(self.values)

    def standardized(self, number: float) -> float:
        """In standard deviations from the mean, before it is limited; 0 in a column of equal numbers."""
        if self.logarithm:
            number = float(logarithms(np.float64(number)))
        return (number - self.mean) / self.deviation if self.deviation else 0.0

    def describe(self) -> str:
        """A few words for people."""
        if self.feature_type == "boolean":
            return "boolean"
        if self.feature_type == "number":
            return "standardized logarithm" if self.logarithm else "standardized"
        return f"hashed into {self.hashed}" if self.values is None else f"{len(self.values)} values"


@dataclass(frozen=True)
class TableFit:
    """How the columns of a modality become vectors, by name and in the order of their dimensions."""

    columns: Mapping[str, ColumnFit]

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> TableFit:
        """What ``facts`` wrote."""
        return cls(
            {
                name: ColumnFit(**{**fit, "values": None if fit["values"] is None else tuple(fit["values"])})
                for name, fit in facts.items()
            }
        )

    def facts(self) -> dict[str, Any]:
        """As JSON values, for a manifest."""
        return {name: {**asdict(fit), "values": _listed(fit.values)} for name, fit in self.columns.items()}

    @property
    def dimension(self) -> int:
        """F."""
        return sum(fit.width for fit in self.columns.values())

    def vectors(self, items: Sequence[ColumnValues]) -> np.ndarray:
        """Float32 [n, F] of the values of n items, as ``data.readers.tabular`` reads them."""
        vectors = np.zeros((len(items), self.dimension), np.float32)
        first = 0
        for name, fit in self.columns.items():
            block = vectors[:, first : first + fit.width]
            _FILL[fit.feature_type](block, name, fit, [item.get(name) for item in items])
            first += fit.width
        return vectors

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """As an ``Encoder``, of what ``item_texts`` wrote."""
        return self.vectors([values_of(text) for text in texts])

    def occurrences(self, ids: Sequence[str], items: Sequence[ColumnValues]) -> Occurrences:
        """What is unusual of the items' values; ``ids`` for the examples."""
        counted: Occurrences = {}
        for name, fit in self.columns.items():
            known = None if fit.values is None else frozenset(fit.values)
            for item_id, values in zip(ids, items, strict=True):
                occurrence = _occurrence(fit, known, values.get(name))
                if occurrence is not None:
                    entry = counted.setdefault(name, {}).setdefault(occurrence, {"items": 0, "examples": []})
                    entry["items"] += 1
                    if len(entry["examples"]) < _EXAMPLES:
                        entry["examples"].append(item_id)
        return counted


def fitted(key: str, settings: Modality, summaries: Mapping[str, ColumnSummary]) -> TableFit:
    """The fit of columns that are as ``summaries`` show.

    Args:
        key: the modality's YAML path.
        settings: the modality.
        summaries: of each column, over all items.

    Raises:
        InputError: a column has no value at all, or the columns have more dimensions than a vector may.
    """
    columns = {}
    for name, feature_type in settings.features.items():
        summary = summaries[name]
        if not summary.count:
            raise InputError(
                f"{key}.features.{name}",
                "only missing values",
                "a column of features must have a value for at least one item",
                f"Remove the column, or check {settings.table}.",
            )
        if feature_type == "number":
            columns[name] = _number_fit(summary)
        elif feature_type == "boolean":
            columns[name] = ColumnFit(feature_type=feature_type)
        elif summary.values is None:
            columns[name] = ColumnFit(feature_type=feature_type, hashed=settings.hashed)
        else:
            columns[name] = ColumnFit(feature_type=feature_type, values=tuple(sorted(summary.values)))
        _warn_of_separator(f"{key}.features.{name}", settings, summary)
    fit = TableFit(columns)
    if fit.dimension > MAX_DIMENSION:
        raise InputError(
            f"{key}.features",
            f"columns of {fit.dimension} dimensions in all",
            f"a vector has 1 to {MAX_DIMENSION} values",
            "Lower one_hot or hashed, or remove columns.",
        )
    return fit


def _warn_of_separator(key: str, settings: Modality, summary: ColumnSummary) -> None:
    """Say where most items have another separator within a tag: their tags then are probably several."""
    for mark, items in summary.within_tags.items():
        if 2 * items > summary.count:
            _logger.warning(
                '%s: %s of %s items have "%s" within a tag, where the separator is "%s"; set separator: "%s" '
                "if it stands between tags",
                key,
                f"{items:,}",
                f"{summary.count:,}",
                mark,
                settings.separator,
                mark,
            )


def joined_occurrences(parts: Iterable[Occurrences]) -> Occurrences:
    """Counts added up, with the first examples."""
    total: Occurrences = {}
    for part in parts:
        for name, column in part.items():
            for occurrence, entry in column.items():
                mine = total.setdefault(name, {}).setdefault(occurrence, {"items": 0, "examples": []})
                mine["items"] += entry["items"]
                mine["examples"] = (mine["examples"] + entry["examples"])[:_EXAMPLES]
    return total


def hashed_dimension(column: str, value: str, dimensions: int) -> tuple[int, float]:
    """The dimension of a value, and the sign it has there.

    Both come from the first 8 bytes, little-endian, of the SHA-256 of the column's name, a zero byte and the
    value in UTF-8: the sign from the highest bit, the dimension from the rest modulo ``dimensions``.
    """
    # Tags written as JSON may hold half of a surrogate pair, which UTF-8 cannot.
    digest = hashlib.sha256(f"{column}\0{value}".encode(errors="surrogatepass")).digest()
    number = int.from_bytes(digest[:8], "little")
    return (number & (2**63 - 1)) % dimensions, 1.0 if number >> 63 else -1.0


def _number_fit(summary: ColumnSummary) -> ColumnFit:
    linear, logarithmic = summary.linear, summary.logarithmic
    assert linear is not None
    assert logarithmic is not None
    long_tail = linear.farthest > FARTHEST
    chosen = logarithmic if long_tail else linear
    return ColumnFit(feature_type="number", logarithm=long_tail, mean=chosen.mean, deviation=chosen.deviation)


def _occurrence(fit: ColumnFit, known: frozenset[str] | None, value: Any) -> str | None:
    """What is unusual of a value, if anything; ``known`` are the values of ``fit``."""
    if value is None:
        return MISSING
    if fit.feature_type == "number":
        if not math.isfinite(value):
            return INFINITE
        return LIMITED if abs(fit.standardized(value)) > FARTHEST else None
    return None if known is None or known.issuperset(_several(value)) else UNKNOWN


def _fill_values(block: np.ndarray, name: str, fit: ColumnFit, values: Sequence[Any]) -> None:
    """1 in the dimension of each value; hashed, the sum of the signs. Nothing for unknown values."""
    known: dict[str, tuple[int, float] | None] = {}
    if fit.values is not None:
        known = {value: (dimension, 1.0) for dimension, value in enumerate(fit.values)}
    for row, value in enumerate(values):
        for one in _several(value):
            if one not in known:
                # Hashes are kept, since values repeat.
                known[one] = None if fit.values is not None else hashed_dimension(name, one, fit.hashed)
            entry = known[one]
            if entry is not None:
                block[row, entry[0]] += entry[1]


def _fill_numbers(block: np.ndarray, name: str, fit: ColumnFit, values: Sequence[Any]) -> None:
    """The standardized number, and 1 where there is none."""
    for row, value in enumerate(values):
        if value is None or not math.isfinite(value):
            block[row, 1] = 1
        else:
            block[row, 0] = min(max(fit.standardized(value), -FARTHEST), FARTHEST)


def _fill_booleans(block: np.ndarray, name: str, fit: ColumnFit, values: Sequence[Any]) -> None:
    """1 for true, -1 for false."""
    block[:, 0] = [0 if value is None else 1 if value else -1 for value in values]


_FILL = {
    "category": _fill_values,
    "tags": _fill_values,
    "number": _fill_numbers,
    "boolean": _fill_booleans,
}


def _several(value: Any) -> Sequence[str]:
    """The values of a category or tags column, one or several."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
