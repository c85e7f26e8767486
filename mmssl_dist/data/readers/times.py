"""Times of interactions: what the columns of all files hold, and one sortable number for each time.

A column holds moments or numbers. Moments become the codes of ``moments``; decimal numbers become int64 too,
in the smallest unit that any of them has, and floats stay float64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.ids import is_number, is_text, scalar_text, storage_type
from mmssl_dist.data.readers.id_types import Example, Where
from mmssl_dist.data.readers.moments import YEAR_1690, YEAR_2250, are_moments, is_moment, moments
from mmssl_dist.errors import InputError

RULE = "times are numbers, dates or ISO timestamps, all of one kind"
REMEDY = "Write the time as 2026-01-31, 2026-01-31T14:05 or 31.01.2026 14:05."
_DECIMAL = r"^[+-]?(?:[0-9]+(?:\.(?P<decimals>[0-9]*))?|\.(?P<only>[0-9]+))$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_MOST_DIGITS = 17  # of a decimal number that float64 still tells from its neighbours
# Year, month, day, hour, and perhaps minute and second
_CALENDAR = re.compile(
    r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])([0-5][0-9]){0,2}"
)
EPOCHS = {
    "seconds": (10**8, 10**10),
    "milliseconds": (10**11, 10**13),
    "microseconds": (10**14, 10**16),
    "nanoseconds": (10**17, 10**19),
}
"""Numbers from 1973 to 2286, by the unit in which they count since 1970."""
PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""How many of a unit of ``EPOCHS`` are a second."""


@dataclass(frozen=True)
class TimeFormat:
    """What the times of a column are, in all files.

    Attributes:
        kind: moments, or numbers of any unit.
        decimals: of numbers, the digits kept after the point; None: they are compared as float64.
    """

    kind: Literal["moment", "number"]
    decimals: int | None = 0

    @property
    def type(self) -> pa.DataType:
        """int64 or float64: what a time becomes."""
        return pa.float64() if self.kind == "number" and self.decimals is None else pa.int64()


@dataclass(frozen=True, kw_only=True)
class TimeSummary:
    """What is known of the times of a file, or of a block of one.

    Attributes:
        moment, number: the first of each kind, if there is one.
        other: the first that is neither.
        decimals: the most digits after a point, of numbers written as decimals.
        floats: some numbers are binary floats, or have an exponent.
        least, largest: of the numbers; None where unknown.
    """

    moment: Example | None = None
    number: Example | None = None
    other: Example | None = None
    decimals: int = 0
    floats: bool = False
    least: float | None = None
    largest: float | None = None


def time_summary(raw: pa.Array, where: Where) -> TimeSummary:
    """The summary of the times ``raw``, of which nulls are ignored.

    Raises:
        InputError: times cannot have this type.
    """
    raw_type = raw.type
    if not len(raw) or raw.null_count == len(raw):
        return TimeSummary()
    if is_text(raw_type):
        return _text_summary(raw.cast(pa.string()), where)
    first = int(pc.index(raw.is_valid(), pa.scalar(True)).as_py())
    example = Example(partial(where, first), scalar_text(raw[first]))
    if is_moment(raw_type):
        return TimeSummary(moment=example)
    require_time_type(raw_type, where(first))
    low, high = pc.min_max(raw.cast(pa.float64(), safe=False)).values()
    return number_summary(raw_type, example, (low.as_py(), high.as_py()))


def number_summary(
    raw: pa.DataType, example: Example, bounds: tuple[float, float] | tuple[None, None]
) -> TimeSummary:
    """The summary of a column of numbers of type ``raw`` between ``bounds``."""
    return TimeSummary(
        number=example,
        decimals=max(0, raw.scale) if pa.types.is_decimal(raw) else 0,
        floats=pa.types.is_floating(raw),
        least=bounds[0],
        largest=bounds[1],
    )


def require_time_type(raw: pa.DataType, where: str) -> None:
    """Raise an InputError unless a column of type ``raw`` can hold times."""
    stored = storage_type(raw)
    if not (is_number(stored) or is_text(stored) or is_moment(stored) or pa.types.is_null(stored)):
        raise InputError(where, f"times of type {raw}", RULE, "Convert the column to a timestamp.")


def joined_times(summaries: Iterable[TimeSummary]) -> TimeSummary:
    """The summary of several blocks or files; of two values in question the earlier summary's is kept."""
    joined = TimeSummary()
    for summary in summaries:
        bounds = [
            [value for value in pair if value is not None]
            for pair in ((joined.least, summary.least), (joined.largest, summary.largest))
        ]
        joined = replace(
            joined,
            moment=joined.moment or summary.moment,
            number=joined.number or summary.number,
            other=joined.other or summary.other,
            decimals=max(joined.decimals, summary.decimals),
            floats=joined.floats or summary.floats,
            least=min(bounds[0], default=None),
            largest=max(bounds[1], default=None),
        )
    return joined


def agreed_format(files: Sequence[TimeSummary]) -> TimeFormat:
    """The format of the times of all ``files``.

    Raises:
        InputError: a value is not a time, some are moments and some numbers, or numbers count seconds in one
            file and milliseconds in another; names both places.
    """
    joined = joined_times(files)
    if joined.other:
        raise InputError(
            joined.other.locate(),
            joined.other.value,
            RULE,
            REMEDY,
        )
    if joined.moment and joined.number:
        raise InputError(
            joined.number.locate(),
            f"the number {joined.number.value}",
            f"{RULE}; in {joined.moment.locate()} it is {joined.moment.value}",
            "Write all files with the same kind of time.",
        )
    if not joined.number:
        return TimeFormat("moment" if joined.moment else "number")
    _require_one_unit(files)
    bound = max(abs(joined.least or 0), abs(joined.largest or 0))
    fits = joined.decimals == 0 or bound * 10.0**joined.decimals < 2.0**63 * (1 - 1e-9)  # bounds are rounded
    return TimeFormat("number", joined.decimals if fits and not joined.floats else None)


def to_times(column: pa.Array, wanted: TimeFormat, where: Where) -> pa.Array:
    """``column`` (plain values without nulls) as int64 or float64 of the same order.

    Raises:
        InputError: a value is not a time, of another kind than ``wanted``, or out of range.
    """
    if not len(column):
        return pa.array([], wanted.type)  # a part without rows may have any type
    try:
        times = _times(column, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        bad = next((i for i in range(len(column)) if not _is_time(column[i : i + 1], wanted)), 0)
        raise InputError(
            where(bad),
            scalar_text(column[bad]),
            RULE,
            REMEDY,
        ) from error
    if pa.types.is_floating(times.type):
        finite = pc.is_finite(times)
        if pc.all(finite).as_py() is False:
            bad = int(pc.index(finite, pa.scalar(False)).as_py())
            raise InputError(
                where(bad),
                scalar_text(column[bad]),
                "times are finite",
                REMEDY,
            )
    return times


def epoch_unit(value: float) -> str | None:
    """The key of ``EPOCHS`` for a number that counts since 1970; None for other numbers, e.g. 2024013112,
    which is a calendar hour."""
    if _CALENDAR.fullmatch(f"{value:.15g}"):
        return None
    return next((unit for unit, (low, high) in EPOCHS.items() if low <= abs(value) < high), None)


def _require_one_unit(files: Sequence[TimeSummary]) -> None:
    """Refuse numbers of which some count seconds since 1970 and others milliseconds, by their sizes.

    Compared as they are, every time in seconds would come before every one in milliseconds.
    """
    first: tuple[str, float, Example] | None = None
    for summary in files:
        for bound in (summary.least, summary.largest):
            unit = epoch_unit(bound or 0)
            if unit is None or summary.number is None or bound is None:
                continue
            if first is not None and first[0] != unit:
                raise InputError(
                    summary.number.locate(),
                    f"a time of {bound:.15g} in this file, {unit} since 1970",
                    f"times have one unit; {first[1]:.15g} in the file of {first[2].locate()} counts "
                    f"{first[0]}",
                    "Convert one of them, or write timestamps.",
                )
            first = first or (unit, bound, summary.number)


def _text_summary(raw: pa.Array, where: Where) -> TimeSummary:
    texts = pc.utf8_trim(raw, " \t")
    moment = are_moments(texts)
    number = pc.match_substring_regex(texts, _FLOAT)
    summary = TimeSummary(
        moment=_first(moment, raw, where),
        number=_first(number, raw, where),
        other=_first(pc.invert(pc.or_(moment, number)), raw, where),
    )
    if summary.number is None:
        return summary
    numbers = texts.filter(number)
    parts = pc.extract_regex(numbers, _DECIMAL)  # null for numbers with an exponent
    lengths = [pc.max(pc.utf8_length(parts.field(name))).as_py() or 0 for name in ("decimals", "only")]
    low, high = pc.min_max(pc.replace_substring_regex(numbers, r"^\+", "").cast(pa.float64())).values()
    return replace(
        summary,
        decimals=max(lengths),
        floats=parts.null_count > 0,
        least=low.as_py(),
        largest=high.as_py(),
    )


def _first(holds: pa.Array, values: pa.Array, where: Where) -> Example | None:
    index = int(pc.index(holds, pa.scalar(True)).as_py())
    return None if index < 0 else Example(partial(where, index), scalar_text(values[index]))


def _times(raw: pa.Array, wanted: TimeFormat) -> pa.Array:
    if wanted.kind == "moment":
        return moments(raw)
    if is_text(raw.type):
        raw = pc.replace_substring_regex(pc.utf8_trim(raw, " \t"), r"^\+", "")
        if pc.all(pc.match_substring_regex(raw, _FLOAT)).as_py() is False:
            raise pa.ArrowInvalid("not a number")
        if wanted.decimals is None:
            digits = pc.replace_substring_regex(raw, r"([eE].*|^-?[0.]*|\.)", "")
            if pc.max(pc.utf8_length(digits)).as_py() not in range(_MOST_DIGITS + 1) and len(raw):
                raise pa.ArrowInvalid("more digits than float64 has")
    elif not is_number(raw.type):
        raise pa.ArrowInvalid("not a number")
    if wanted.decimals is None:
        return raw.cast(pa.float64())  # a safe cast: integers beyond 2**53 are refused
    if wanted.decimals == 0 and not pa.types.is_decimal(raw.type):
        return raw.cast(pa.int64())
    scaled = raw.cast(pa.decimal128(38, wanted.decimals))
    return pa.Array.from_buffers(pa.int64(), len(scaled), [None, _low_words(scaled)])


def _low_words(scaled: pa.Array) -> pa.Buffer:
    """The unscaled values of a decimal128 array without nulls, as int64."""
    # A decimal128 is two words in two's complement, low one first; a value fits if the high one is its sign.
    words = np.frombuffer(scaled.buffers()[1], np.int64)
    words = words[2 * scaled.offset : 2 * (scaled.offset + len(scaled))].reshape(-1, 2)
    if (words[:, 1] != words[:, 0] >> 63).any():
        raise pa.ArrowInvalid("a number beyond int64")
    return pa.py_buffer(np.ascontiguousarray(words[:, 0]))


def time_text(value: float, times: TimeFormat) -> str:
    """A time as ``to_times`` gives it, for people: an ISO timestamp in UTC, or the number as written."""
    if times.decimals is None:
        return f"{value:,}"
    if times.kind == "number":
        return f"{value / 10**times.decimals:,.{times.decimals}f}"
    if YEAR_1690 * 10**9 <= value < YEAR_2250 * 10**9:
        return f"{np.datetime64(int(value), 'ns').astype('datetime64[s]')}Z"
    return "a time before 1690" if value < 0 else "a time after 2250"


def moment_text(value: float, times: TimeFormat, newest: float) -> str:
    """A time as ``to_times`` gives it: a timestamp in UTC, also for numbers that count since 1970 in the unit
    of the ``newest``, or another number, written alike for columns of all types."""
    if times.kind == "moment":
        return time_text(value, times)
    scale = 10 ** (times.decimals or 0)
    unit = epoch_unit(newest / scale)
    if unit is None:
        return f"{value / scale:,.15g}"
    return f"{np.datetime64(int(value / scale // PER_SECOND[unit]), 's')}Z"


def _is_time(raw: pa.Array, wanted: TimeFormat) -> bool:
    try:
        _times(raw, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True
