"""The table of metrics: the model beside its baselines, for a terminal with rich and for anything else as
text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from mmssl_dist.data.columns import HELD_OUT

MetricRows = Mapping[str, Mapping[str, float]]


def rows_of_split(metrics: Mapping[str, Any], split: str, model: str) -> dict[str, dict[str, float]]:
    """The metrics of one split by who ranked: the model, on all items and on cold and warm ones apart, then
    baselines.

    Args:
        metrics: content of metrics.json: metrics by split, the same under "cold" and "warm" where there are
            cold items to find, and by baseline under "baselines".
        split: "validation" or "test".
        model: the name of the trained model.
    """
    groups = {f"{model}, {group}": metrics.get(group, {}) for group in ("cold", "warm")}
    others = groups | metrics.get("baselines", {})
    return {model: metrics[split]} | {name: means[split] for name, means in others.items() if split in means}


def metrics_table(rows: MetricRows, title: str) -> Table:
    """A table of one line per cut-off and ranking, one column per metric.

    Args:
        rows: the model, "popularity", ... -> {"recall@20": 0.08, ...}, the model first.
        title: line above the table.
    """
    head, body = cells(rows)
    table = Table(title=title, title_justify="left")
    for column, name in enumerate(head):
        table.add_column(name, justify="left" if column == 0 else "right")
    for index, line in enumerate(body):
        last_of_cutoff = (index + 1) % len(rows) == 0
        table.add_row(
            *line, style="bold" if line[0] == next(iter(rows)) else None, end_section=last_of_cutoff
        )
    return table


def metrics_text(rows: MetricRows, title: str) -> str:
    """The same table as lines of plain text, without trailing blanks."""
    head, body = cells(rows)
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [title]
    for line in (head, *body):
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join((first.strip().ljust(widths[0]), *rest)).rstrip())
    return "\n".join(lines)


def show_metrics(metrics: Mapping[str, Any], model: str, stream: TextIO) -> None:
    """Write a table for each split in ``metrics`` (content of metrics.json) of ``model`` to ``stream``."""
    for split in HELD_OUT:
        if split not in metrics:
            continue
        rows, title = rows_of_split(metrics, split, model), f"{split.capitalize()} metrics"
        if stream.isatty():
            Console(file=stream).print(metrics_table(rows, title))
        else:
            stream.write(metrics_text(rows, title) + "\n")


def cells(rows: MetricRows) -> tuple[list[str], list[list[str]]]:
    """Column names and lines of cells; cut-offs ascending, metrics in the order of the first row."""
    names = [name.rsplit("@", 1) for name in next(iter(rows.values()))]
    measures = list(dict.fromkeys(measure for measure, _ in names))
    cutoffs = sorted({int(k) for _, k in names})
    body = [
        [ranker, str(k), *(_cell(means.get(f"{measure}@{k}")) for measure in measures)]
        for k in cutoffs
        for ranker, means in rows.items()
    ]
    return ["", "K", *measures], body


def _cell(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.4f}"


def cutoff(metric: str) -> int:
    """K of a metric such as recall@20."""
    return int(metric.split("@")[1])
