"""``data.window``: the interactions of some days, counted back from the newest one or from a given moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Window
from mmssl_dist.data.columns import BUCKET, FILE, TIME
from mmssl_dist.data.packed_rows import from_fragments, to_fragments
from mmssl_dist.data.readers.times import PER_SECOND, TimeFormat, epoch_unit, moment_text, time_text
from mmssl_dist.data.row_operations import RowDataset, map_tables
from mmssl_dist.data.rows import OUTSIDE_WINDOW, live_and_tallies, tally
from mmssl_dist.errors import InputError

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (datetime(1690, 1, 1, tzinfo=UTC), datetime(2250, 1, 1, tzinfo=UTC))
_NEWEST = "newest"


@dataclass(frozen=True)
class WindowBounds:
    """Where a window begins and ends, in the numbers of ``to_times``.

    Attributes:
        first, last: its ends.
        ends_before: ``first`` is inside and ``last`` outside, else the other way round.
    """

    first: float
    last: float
    ends_before: bool

    def holds(self, times: np.ndarray) -> np.ndarray:
        """[n] bool: which of ``times`` are inside."""
        if self.ends_before:
            inside: np.ndarray = (times >= self.first) & (times < self.last)
        else:
            inside = (times > self.first) & (times <= self.last)
        return inside


def within_window(rows: RowDataset, window: Window, times: TimeFormat) -> tuple[RowDataset, dict[str, str]]:
    """Fragments of interactions without those outside of ``window``, which become tallies; and the facts of
    the window for the manifest.

    Raises:
        InputError: the times are not such that days can be counted in them.
    """
    # Read once: the newest interaction is known when all rows have been seen, and they are used again then.
    rows = rows.materialize()
    newest = [row[_NEWEST] for row in map_tables(rows, from_fragments(_newest)).iter_rows()]
    newest = [time for time in newest if time is not None]
    if not newest:
        return rows, {}
    last = max(newest)
    bounds = window_bounds(window, times, last)
    facts = {
        "from": moment_text(bounds.first, times, last),
        "to": moment_text(bounds.last, times, last),
    }
    return map_tables(rows, from_fragments(to_fragments(partial(_inside, bounds=bounds)))), facts


def window_bounds(window: Window, times: TimeFormat, newest: float) -> WindowBounds:
    """The bounds of ``window`` over interactions of which ``newest`` is the last time.

    Raises:
        InputError: as ``within_window``.
    """
    per_second = _per_second(times, newest)
    last = newest if window.before is None else _since_1970(window.before) * per_second // 10**6
    # Whole units, exactly: nanoseconds since 1970 are beyond what float64 tells apart.
    length = round(window.days * _DAY * per_second)
    return WindowBounds(last - length, last, ends_before=window.before is not None)


def _per_second(times: TimeFormat, newest: float) -> int:
    rule = "days are counted in dates, timestamps, or numbers since 1970 in (milli-, micro-, nano-) seconds"
    if times.kind == "moment":
        if not -(2**63) < newest < 2**63 or not _is_exact(newest):
            raise InputError(
                "data.window", f"the newest time {time_text(newest, times)}", rule, "Correct the times."
            )
        return 10**9
    unit = epoch_unit(newest / 10 ** (times.decimals or 0))
    if unit is None:
        raise InputError(
            "data.window",
            f"the newest time {time_text(newest, times)}",
            rule,
            "Write data.columns.time as timestamps, or remove the window.",
        )
    return int(PER_SECOND[unit] * 10 ** (times.decimals or 0))


def _is_exact(code: float) -> bool:
    """Whether the code of a moment counts nanoseconds (``readers.times``)."""
    first, last = ((year - _EPOCH) // timedelta(microseconds=1) * 1000 for year in _YEARS)
    return first <= code < last


def _since_1970(moment: str) -> int:
    """Microseconds."""
    parsed = datetime.fromisoformat(moment)
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    if not _YEARS[0] <= parsed < _YEARS[1]:
        raise InputError(
            "data.window.before", moment, "it must be between 1690 and 2250", "Correct the date."
        )
    return (parsed - _EPOCH) // timedelta(microseconds=1)


def _newest(table: pa.Table) -> pa.Table:
    newest = pc.max(table[TIME].filter(pc.greater_equal(table[FILE], 0)))
    return pa.table({_NEWEST: pa.array([newest.as_py()], table.schema.field(TIME).type)})


def _inside(table: pa.Table, bounds: WindowBounds) -> pa.Table:
    live, tallies = live_and_tallies(table)
    kept = live.filter(pa.array(bounds.holds(live[TIME].to_numpy())))
    # Any bucket will do: tallies are summed over all of them.
    counted = tally(table.schema, OUTSIDE_WINDOW, live.num_rows - kept.num_rows, table[BUCKET][0].as_py())
    return pa.concat_tables([kept, tallies, counted])
