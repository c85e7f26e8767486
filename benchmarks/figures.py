"""Figures of the benchmarks: a value beside its bar and aim, and the page that shows them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

PACKAGES = ("torch", "dgl", "ray", "deepspeed", "pyarrow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number.

    Attributes:
        name: what it is, with the units of a value that is no ratio.
        better: "lower" or "higher".
        bar, aim: what it should reach; None where nothing was set.
        baseline: what it is compared with, in words with the numbers seen.
    """

    name: str
    value: float
    better: str
    bar: float | None
    aim: float | None
    baseline: str


def medians(repeats: int, *calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call; they take turns, so that what else the machine does meets all alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for mine, call in zip(seconds, calls, strict=True):
            started = perf_counter()
            call()
            mine.append(perf_counter() - started)
    return [median(mine) for mine in seconds]


def write(figures: Sequence[Figure], folder: Path, notes: Sequence[str]) -> None:
    """``folder``/benchmarks/results.json, and ``folder``/docs/benchmarks.md with machine, versions and
    ``notes``."""
    (folder / "benchmarks/results.json").write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    head = [
        "# Benchmarks",
        "",
        "Written by `make bench`. A *bar* is the value that a figure has to reach, an *aim* the better one "
        "that is wanted. A ratio compares two things that took turns in one run. Rows are 64 wide.",
        "",
        f"{os.cpu_count()} cores, {_memory():.0f} GB, {platform.machine()}, Python "
        f"{platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f"; load average {os.getloadavg()[2]:.1f} over the last quarter of an hour.",
        "",
        "| figure | value | bar | aim | beside |",
        "|---|---|---|---|---|",
    ]
    below = [line for note in notes for line in ("", note)]
    (folder / "docs/benchmarks.md").write_text("\n".join([*head, *lines_of(figures), *below]) + "\n")


def lines_of(figures: Sequence[Figure]) -> list[str]:
    """The rows of the page's table."""
    return [
        f"| {f.name} | {_shown(f)} | {_number(f.bar)} | {_number(f.aim)} | {f.baseline} |" for f in figures
    ]


def _shown(figure: Figure) -> str:
    missed = figure.bar is not None and (
        figure.value > figure.bar if figure.better == "lower" else figure.value < figure.bar
    )
    return f"{_number(figure.value)}{' (bar missed)' if missed else ''}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
