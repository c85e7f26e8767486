"""Moments as int64 codes in the order of time: dates, timestamps and texts of either.

The codes keep every nanosecond from 1690 to 2250 and every microsecond of the ten thousand years around;
without a zone moments are UTC.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.ids import is_text

_MOMENT = (
    r"^(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<clock>[0-9]{2}(?::[0-9]{2}(?::[0-9]{2})?)?)(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?: ?(?:[Zz]|UTC|GMT|(?P<sign>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-9]{2}))?))?$"
)
_DOTTED = r"^[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}"
_DAY_FIRST = (
    (r"^([0-9])\.([0-9]{1,2}\.[0-9]{4})", r"0\1.\2"),
    (r"^([0-9]{2})\.([0-9])\.([0-9]{4})", r"\1.0\2.\3"),
    (r"^([0-9]{2}\.[0-9]{2}\.[0-9]{4}),? ([0-9]:)", r"\1 0\2"),
    (r"^([0-9]{2})\.([0-9]{2})\.([0-9]{4}),?", r"\3-\2-\1"),
)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
YEAR_1690, YEAR_2250 = -8_835_868_800, 8_835_955_200
"""The years between which codes are nanoseconds, in seconds since 1970."""


def is_moment(raw: pa.DataType) -> bool:
    """Whether values of type ``raw`` are dates or timestamps."""
    return bool(pa.types.is_date(raw) or pa.types.is_timestamp(raw))


def moments(raw: pa.Array) -> pa.Array:
    """The codes of dates, timestamps or texts without nulls.

    Raises:
        ArrowInvalid: a value is no moment, or out of range.
    """
    if is_text(raw.type):
        return _text_moments(pc.utf8_trim(raw, " \t"))
    if pa.types.is_date(raw.type):
        raw = raw.cast(pa.timestamp("s" if pa.types.is_date32(raw.type) else "ms"))
    if not pa.types.is_timestamp(raw.type):
        raise pa.ArrowInvalid("not a moment")
    return pa.array(_codes(raw.cast(pa.int64()).to_numpy(zero_copy_only=False), raw.type.unit))


def are_moments(texts: pa.Array) -> pa.Array:
    """bool, null where a text is: whether each is written like a moment."""
    iso = pc.match_substring_regex(texts, _MOMENT)
    return iso if pc.all(iso).as_py() else pc.match_substring_regex(_day_last(texts), _MOMENT)


def _text_moments(texts: pa.Array) -> pa.Array:
    quick = _quick_moments(texts)
    if quick is not None:
        return quick
    texts = _day_last(texts)
    quick = _quick_moments(texts)
    return _matched_moments(texts) if quick is None else quick


def _day_last(texts: pa.Array) -> pa.Array:
    """``texts`` with every 31.1.2026 9:05 as 2026-01-31 09:05; where points are written, days come
    first."""
    for pattern, replacement in _DAY_FIRST:
        if not pc.any(pc.match_substring_regex(texts, _DOTTED)).as_py():
            break
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _quick_moments(texts: pa.Array) -> pa.Array | None:
    """The codes by Arrow's own casts, which take most ISO texts and are several times faster than a pattern;
    None where they do not take all."""
    for moment_type in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        try:
            return moments(texts.cast(moment_type))
        except pa.ArrowInvalid:
            continue
    return None


def _matched_moments(texts: pa.Array) -> pa.Array:
    parts = pc.extract_regex(texts, _MOMENT)
    if parts.null_count:
        raise pa.ArrowInvalid("not an ISO timestamp")
    day, clock, fraction, sign, hours, minutes = (
        parts.field(name) for name in ("day", "clock", "fraction", "sign", "hours", "minutes")
    )
    clock = pc.if_else(pc.equal(clock, ""), "00", clock)
    seconds = pc.binary_join_element_wise(day, clock, "T").cast(pa.timestamp("s")).cast(pa.int64())
    nanoseconds = pc.utf8_rpad(fraction, 9, "0").cast(pa.int64())
    hours, minutes = (pc.if_else(pc.equal(part, ""), "0", part).cast(pa.int64()) for part in (hours, minutes))
    if (pc.max(minutes).as_py() or 0) > 59 or (pc.max(hours).as_py() or 0) > 23:
        raise pa.ArrowInvalid("not an offset of a zone")
    ahead = pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60))
    # An offset says how far ahead of UTC the clock is, so it is subtracted.
    utc = pc.add(seconds, pc.if_else(pc.equal(sign, "-"), ahead, pc.negate(ahead)))
    values, rest = (part.to_numpy(zero_copy_only=False) for part in (utc, nanoseconds))
    fine = (values >= YEAR_1690) & (values < YEAR_2250)
    coarse = _codes(values * 10**6 + rest // 1000, "us")
    return pa.array(np.where(fine, np.where(fine, values, 0) * 10**9 + rest, coarse))


def _codes(values: np.ndarray, unit: str) -> np.ndarray:
    """[n] int64, counts of ``unit`` since 1970, as int64 in the same order.

    From 1690 to 2250 these are nanoseconds; beyond, on both sides, there is one step per microsecond.
    """
    per_second = _PER_SECOND[unit]
    # Nanoseconds reach from 1677 to 2262; the codes leave room on both sides for coarser ones.
    low, high = YEAR_1690 * per_second, YEAR_2250 * per_second
    fine = (values >= low) & (values < high)
    codes = np.where(fine, values, 0) * (10**9 // per_second)
    if fine.all():
        return codes
    beyond = np.where(values >= high, values - high, np.where(values < low, values - low, 0))
    if unit == "ns":
        steps = beyond // 1000
    else:
        room = (2**63 - 1 - YEAR_2250 * 10**9) // (10**6 // per_second)
        if (np.abs(beyond) > room).any():
            raise pa.ArrowInvalid("a moment more than 12,000 years away")
        steps = beyond * (10**6 // per_second)
    return np.where(fine, codes, np.where(beyond < 0, YEAR_1690, YEAR_2250) * 10**9 + steps)
