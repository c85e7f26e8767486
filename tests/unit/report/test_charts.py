"""Charts place values where they belong, and hold up for what is odd."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from mmssl_dist.report.charts import bar_chart, line_chart


def drawing(text: str) -> ET.Element:
    return ET.fromstring(text.partition("</svg>")[0] + "</svg>")


def test_lines_go_from_left_to_right_and_higher_is_higher():
    svg = line_chart("loss", [1, 2, 4], {"a": [1.0, 3.0, 2.0], "b": [2.0, 2.0, 2.0]}, "epoch")
    first, second = (line.get("points") for line in drawing(svg).iter("polyline"))
    points = [tuple(map(float, point.split(","))) for point in first.split()]
    across, up = zip(*points, strict=True)
    assert (across[1] - across[0]) * 2 == pytest.approx(across[2] - across[1], abs=0.2)
    assert up[1] < up[2] < up[0]
    assert up[0] - up[2] == pytest.approx(up[2] - up[1], abs=0.2)
    assert len({point.split(",")[1] for point in second.split()}) == 1
    assert re.findall(r"</i>(\w)</span>", svg) == ["a", "b"]


def test_bars_are_as_high_as_their_values_and_say_them():
    svg = drawing(bar_chart("recall", {"low": 0.1, "high": 0.4}, "group", {"low": "0.1 (7)"}))
    low, high = (float(bar.get("height", "")) for bar in svg.iter("rect"))
    assert high == pytest.approx(4 * low, rel=0.02)
    assert {"0.1 (7)", "0.4"} <= {text.text for text in svg.iter("text")}


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [float("nan"), 1.0], [1e12, -1e12], [1e-9, 2e-9]])
def test_odd_values_still_give_a_drawing(values):
    svg = line_chart("x", list(range(len(values))), {"x": values}, "epoch")
    points = [line.get("points", "") for line in drawing(svg).iter("polyline")]
    numbers = [float(each) for each in re.split("[ ,]", " ".join(points))]
    assert numbers
    assert all(0 <= number <= 420 for number in numbers)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0.5414, 0.5422, ["0.5414", "0.5416", "0.5418", "0.5420", "0.5422"]),
        (0.0, 52_000.0, ["0", "20,000", "40,000", "60,000"]),
        (-3.0, 11.0, ["-5", "0", "5", "10", "15"]),
    ],
)
def test_an_axis_has_few_round_numbers_that_differ(low, high, labels):
    svg = drawing(line_chart("x", [1, 2], {"a": [low, high]}, "epoch"))
    assert [text.text for text in svg.iter("text") if text.get("text-anchor") == "end"] == labels


@pytest.mark.parametrize("scale", [1e-12, 1e-5, 1e-3, 0.7, 1.0, 13.0, 999.0, 1e4, 1e8, 1e15])
@pytest.mark.parametrize("shift", [0.0, 1.0, 17.0])
def test_values_lie_within_the_axis(scale, shift):
    values = [scale * (shift + at) for at in (0.0, 0.3, 1.0)]
    svg = drawing(line_chart("x", [1, 2, 3], {"a": values}, "epoch"))
    ticks = [text.text for text in svg.iter("text") if text.get("text-anchor") == "end"]
    assert 3 <= len(ticks) <= 8
    assert len(set(ticks)) == len(ticks)
    heights = [float(circle.get("cy", "")) for circle in svg.iter("circle")]
    assert all(30 <= height <= 188 for height in heights)


def test_small_changes_stay_small_on_an_axis_of_some_width():
    svg = drawing(line_chart("x", [1, 2], {"a": [0.5556, 0.5564]}, "epoch", least_span=0.1))
    first, second = (float(circle.get("cy", "")) for circle in svg.iter("circle"))
    assert 0 < first - second < 10


def test_a_chosen_value_is_marked_where_it_lies():
    svg = drawing(line_chart("x", [1, 2, 3], {"a": [1.0, 2.0, 3.0]}, "epoch", chosen=2))
    (mark,) = (line for line in svg.iter("line") if line.get("class") == "chosen")
    assert mark.get("x1") == [circle.get("cx") for circle in svg.iter("circle")][1]
    assert "chosen" not in line_chart("x", [1, 2, 3], {"a": [1.0, 2.0, 3.0]}, "epoch", chosen=9)


def test_a_note_of_two_lines_is_read_from_above():
    svg = drawing(bar_chart("recall", {"low": 0.1}, "group", {"low": "0.1\n(7)"}))
    first, second = (
        next(text for text in svg.iter("text") if text.text == labels) for labels in ("0.1", "(7)")
    )
    assert float(first.get("y", "")) < float(second.get("y", ""))
    assert first.get("x") == second.get("x")


def test_nothing_to_draw_and_names_that_are_markup():
    assert line_chart("x", [1], {"x": [float("inf")]}, "epoch") == ""
    assert bar_chart("x", {}, "group") == ""
    assert "<b>" not in line_chart("<b>", [1, 2], {"<b>": [1, 2], "c": [2, 1]}, "<b>")
    drawing(bar_chart("a & <b>", {"<i>": 1.0}, "&"))


def test_an_axis_goes_below_zero_only_with_its_values() -> None:
    def lowest(*values: float) -> float:
        svg = drawing(line_chart("seconds", [1, 2], {"a": values}, "epoch"))
        ticks = [text.text for text in svg.iter("text") if text.get("text-anchor") == "end"]
        return min(float(tick or "") for tick in ticks)

    assert lowest(0.0, 10.0) == 0.0
    assert lowest(-1.0, 10.0) <= -1.0
