"""What the values of a column show, in little memory: the summaries of parts of a table are joined."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl_dist.config.data_sections import FeatureType, Modality
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.readers.tabular import ColumnValues, values_of

SEPARATORS = (",", "|", ";")
"""Those that texts of tags have as a rule."""
_LARGEST = 1e100  # beyond, squares overflow; such numbers are far from the others whatever their size


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of numbers: how many, their mean, the sum of squared differences from it, least and greatest."""

    count: int
    mean: float
    squares: float
    least: float
    greatest: float

    @classmethod
    def of(cls, numbers: np.ndarray) -> Moments:
        """Of [n] float64, at least one."""
        # Sums are exact, so they do not depend on the order of the numbers.
        mean = math.fsum(numbers) / len(numbers)
        squares = math.fsum((numbers - mean) ** 2)
        return cls(
            count=len(numbers),
            mean=mean,
            squares=squares,
            least=float(numbers.min()),
            greatest=float(numbers.max()),
        )

    def joined(self, other: Moments) -> Moments:
        """Of the numbers of both (Chan, Golub and LeVeque, 1979)."""
        count, apart = self.count + other.count, other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + apart * other.count / count,
            squares=self.squares + other.squares + apart * apart * self.count * other.count / count,
            least=min(self.least, other.least),
            greatest=max(self.greatest, other.greatest),
        )

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 of equal numbers, whatever rounding makes of their mean."""
        return math.sqrt(self.squares / self.count) if self.least < self.greatest else 0.0

    @property
    def farthest(self) -> float:
        """Standard deviations between the mean and the number that is farthest from it."""
        deviation = self.deviation
        return max(self.greatest - self.mean, self.mean - self.least) / deviation if deviation else 0.0


@dataclass(frozen=True, kw_only=True)
class ColumnSummary:
    """What a column shows.

    Attributes:
        count: items with a value.
        values: distinct values of a category or tags column; None if there are more than are kept.
        linear, logarithmic: of the finite values of a number column, and of their logarithms; None without
            one.
        within_tags: of a tags column, items that have one of ``SEPARATORS`` within a tag, by separator.
    """

    count: int = 0
    values: frozenset[str] | None = frozenset()
    linear: Moments | None = None
    logarithmic: Moments | None = None
    within_tags: Mapping[str, int] = field(default_factory=dict)

    def joined(self, other: ColumnSummary, most: int) -> ColumnSummary:
        """Of both parts; of up to ``most`` distinct values all are kept."""
        both = None if self.values is None or other.values is None else self.values | other.values
        return ColumnSummary(
            count=self.count + other.count,
            values=None if both is None or len(both) > most else both,
            linear=_joined(self.linear, other.linear),
            logarithmic=_joined(self.logarithmic, other.logarithmic),
            within_tags=dict(Counter(self.within_tags) + Counter(other.within_tags)),
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON values, for ``of_json``."""
        return {**asdict(self), "values": None if self.values is None else sorted(self.values)}

    @classmethod
    def of_json(cls, summary: Mapping[str, Any]) -> ColumnSummary:
        """What ``as_json`` wrote."""
        values = summary["values"]
        linear, logarithmic = (
            None if one is None else Moments(**one) for one in (summary["linear"], summary["logarithmic"])
        )
        return cls(
            count=summary["count"],
            values=None if values is None else frozenset(values),
            linear=linear,
            logarithmic=logarithmic,
            within_tags=summary["within_tags"],
        )


def logarithms(numbers: Any) -> Any:
    """log(1 + x), of negative numbers -log(1 - x); float64 of any shape."""
    return np.copysign(np.log1p(np.abs(numbers)), numbers)


def summarize_columns(items: Sequence[ColumnValues], settings: Modality) -> dict[str, ColumnSummary]:
    """What the columns of ``settings.features`` show for some items."""
    summaries = {}
    for name, feature_type in settings.features.items():
        values = [item[name] for item in items if name in item]
        if feature_type == "number":
            summaries[name] = _of_numbers(values)
        elif feature_type == "boolean":
            summaries[name] = ColumnSummary(count=len(values))
        else:
            several = {one for value in values for one in ((value,) if isinstance(value, str) else value)}
            fits = len(several) <= settings.one_hot
            summaries[name] = ColumnSummary(
                count=len(values),
                values=frozenset(several) if fits else None,
                within_tags=_within_tags(feature_type, values),
            )
    return summaries


def _within_tags(feature_type: FeatureType, values: Sequence[Sequence[str]]) -> dict[str, int]:
    if feature_type != "tags":
        return {}
    counts = {mark: sum(any(mark in tag for tag in tags) for tags in values) for mark in SEPARATORS}
    return {mark: count for mark, count in counts.items() if count}


def summary_rows(batch: pa.Table, source: ContentSource) -> Iterator[pa.Table]:
    """What the pieces whose numbers are in ``batch`` show, a row each: piece, and summaries for
    ``summaries_of_json``."""
    settings = source.columns
    for number in batch["id"].to_pylist():
        reads = source.read_content(source.pieces[number])
        items = ([values_of(text) for text in read.content.drop_null().to_pylist()] for read in reads)
        total = joined_summaries((summarize_columns(some, settings) for some in items), settings)
        text = json.dumps({name: summary.as_json() for name, summary in total.items()})
        yield pa.table({"piece": [number], "summaries": [text]})


def summaries_of_json(text: str) -> dict[str, ColumnSummary]:
    """What ``summary_rows`` wrote."""
    return {name: ColumnSummary.of_json(summary) for name, summary in json.loads(text).items()}


def joined_summaries(
    parts: Iterable[Mapping[str, ColumnSummary]], settings: Modality
) -> dict[str, ColumnSummary]:
    """By column, over all parts, in their order."""
    total = dict.fromkeys(settings.features, ColumnSummary())
    for part in parts:
        total = {name: summary.joined(part[name], settings.one_hot) for name, summary in total.items()}
    return total


def _of_numbers(values: Sequence[float]) -> ColumnSummary:
    numbers = np.asarray([value for value in values if math.isfinite(value)], np.float64)
    if not len(numbers):
        return ColumnSummary()
    # Logarithms need no bound: that of the largest float is 710.
    linear = Moments.of(numbers.clip(-_LARGEST, _LARGEST))
    return ColumnSummary(count=len(numbers), linear=linear, logarithmic=Moments.of(logarithms(numbers)))


def _joined(one: Moments | None, other: Moments | None) -> Moments | None:
    if one is None or other is None:
        return one or other
    return one.joined(other)
