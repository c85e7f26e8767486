"""Charts as inline SVG: nothing is fetched, nothing runs, and they print as they look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 30, 42
_COLOURS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#66aa00")
_TICKS = 4


def line_chart(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    x_label: str,
    *,
    chosen: float | None = None,
    least_span: float = 0.0,
) -> str:
    """One line per series over ``x``; values that are not finite are left out. A point shows its value on
    hover.

    Args:
        series: name -> as many values as ``x`` has.
        chosen: an ``x`` to mark, if the chart reaches it.
        least_span: of the vertical axis, as a share of the largest value, so that noise does not look like a
            signal.
    """
    values = [value for line in series.values() for value in line if math.isfinite(value)]
    if not values:
        return ""
    ticks = _ticks(*_widened(_span(values), least_span))
    low, high = ticks[0], ticks[-1]
    first, last = _span(x)
    parts = [_frame(title, ticks, x_label)]
    parts += [_label(_across(at, first, last), f"{at:g}") for at in _some(x)]
    if chosen is not None and first <= chosen <= last:
        parts.append(_mark(_across(chosen, first, last), f"chosen: {x_label} {chosen:g}"))
    for index, (name, line) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [
            (_across(at, first, last), _up(value, low, high), f"{name}, {x_label} {at:g}: {value:.4g}")
            for at, value in zip(x, line, strict=True)
            if math.isfinite(value)
        ]
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="2.5" fill="{colour}">{_hover(text)}</circle>'
            for across, up, text in points
        ]
    return _svg(title, parts) + (_legend(list(series)) if len(series) > 1 else "")


def bar_chart(
    title: str, bars: Mapping[str, float], x_label: str, note: Mapping[str, str] | None = None
) -> str:
    """One bar per entry, from zero up; ``note``: text above a bar, in one line or two, by default its
    value."""
    finite = {name: value for name, value in bars.items() if math.isfinite(value)}
    if not finite:
        return ""
    # Where all bars are zero the axis still needs a length; a tenth more is for the notes.
    ticks = _ticks(0.0, (max(*finite.values(), 0.0) or 1.0) * 1.1)
    parts = [_frame(title, ticks, x_label)]
    step = (_WIDTH - _LEFT - _RIGHT) / len(finite)
    for index, (name, value) in enumerate(finite.items()):
        left, top = _LEFT + step * (index + 0.15), _up(value, 0.0, ticks[-1])
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{step * 0.7:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - top:.1f}" fill="{_COLOURS[0]}">'
            f"{_hover(f'{name}: {value:.4g}')}</rect>"
        )
        middle = left + step * 0.35
        parts.append(_label(middle, name))
        label = (note or {}).get(name, _number(value))
        for above, line in enumerate(reversed(label.split("\n"))):
            up = top - 3 - 12 * above
            parts.append(f'<text x="{middle:.1f}" y="{up:.1f}" text-anchor="middle">{escape(line)}</text>')
    return _svg(title, parts)


def _frame(title: str, ticks: Sequence[float], x_label: str) -> str:
    lines = [f'<text x="{_LEFT}" y="16" class="title">{escape(title)}</text>']
    for value in ticks:
        up = _up(value, ticks[0], ticks[-1])
        lines.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}" class="grid"/>')
        label = _tick(value, ticks[1] - ticks[0])
        lines.append(f'<text x="{_LEFT - 5}" y="{up + 4:.1f}" text-anchor="end">{label}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(lines)


def _mark(across: float, text: str) -> str:
    ends = f'x1="{across:.1f}" x2="{across:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"'
    return f'<line {ends} class="chosen">{_hover(text)}</line>'


def _hover(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _widened(span: tuple[float, float], least: float) -> tuple[float, float]:
    """The span, made at least this share of its largest value wide; values that are not negative stay so."""
    low, high = span
    missing = max(0.0, least * max(abs(low), abs(high)) - (high - low)) / 2
    return (max(0.0, low - missing) if low >= 0 else low - missing), high + missing


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers at equal distances, the first at most ``low`` and the last at least ``high``."""
    # Steps of 1, 2, 2.5 or 5 times a power of ten read as round numbers.
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough * 0.9)
    # Rounding must not add a tick beyond a bound that is a multiple of the step.
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [index * step for index in range(first, last + 1)]


def _tick(value: float, step: float) -> str:
    """As many digits as ticks ``step`` apart need to differ."""
    if not 1e-4 <= step < 1e7:
        return f"{value:.3g}"
    digits = next(digits for digits in range(7) if math.isclose(step * 10**digits, round(step * 10**digits)))
    return f"{value:,.{digits}f}"


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )


def _legend(names: Sequence[str]) -> str:
    entries = (
        f'<span><i style="background:{_COLOURS[index % len(_COLOURS)]}"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(entries)}</p>'


def _label(across: float, text: str) -> str:
    return f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{escape(text)}</text>'


def _some(x: Sequence[float]) -> list[float]:
    """At most six of the values, the ends among them."""
    ordered = sorted(set(x))
    count = min(6, len(ordered))
    return [ordered[round(index * (len(ordered) - 1) / max(1, count - 1))] for index in range(count)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the largest, with air around them where they are one."""
    low, high = min(values), max(values)
    if math.isclose(low, high, rel_tol=1e-9):
        air = abs(high) * 0.1 or 1.0
        return (max(low - air, 0.0) if low >= 0 else low - air), high + air  # there are no negative seconds
    return low, high


def _across(value: float, first: float, last: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - first) / (last - first)


def _up(value: float, low: float, high: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / (high - low))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
