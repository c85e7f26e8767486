"""The trials of a search as a table: for people, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from mmssl_dist.report.progress import duration
from mmssl_dist.storage import Location
from mmssl_dist.tuning.trials import Trial, best_first, row


def write_trials(folder: Location, trials: Sequence[Trial]) -> None:
    """``trials.csv`` and ``trials.json``: a line per trial, in the order given; JSON has the metric of every
    epoch."""
    rows = [row(trial) for trial in trials]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    (folder / "trials.csv").write_bytes(text.getvalue().encode())
    whole = [{**row, "values": dict(trial.values)} for row, trial in zip(rows, trials, strict=True)]
    (folder / "trials.json").write_bytes(json.dumps(whole, indent=1).encode())


def search_summary(trials: Sequence[Trial], metric: str) -> str:
    """How many trials ended in which way, and the best."""
    counts = Counter(trial.state for trial in trials)
    best = best_first(list(trials))[0]
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(trials)} trials, {states}; best validation {metric} {best.best:.4f} in trial {best.number}"


def show_trials(trials: Sequence[Trial], metric: str, stream: TextIO) -> None:
    """The table on a terminal, tab-separated lines elsewhere; the best trial first."""
    header = ["trial", "state", metric, "epoch", "epochs", "time", *trials[0].settings]
    lines = [_line(trial) for trial in trials]
    if not stream.isatty():
        stream.write("".join("\t".join(cells) + "\n" for cells in (header, *lines)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Trials by validation {metric}", *header)  # noqa: B026
    for cells in lines:
        table.add_row(*cells)
    Console(file=stream).print(table)


def _line(trial: Trial) -> list[str]:
    value = "" if trial.best is None else f"{trial.best:.4f}"
    return [
        str(trial.number),
        trial.state,
        value,
        str(trial.best_epoch or ""),
        str(trial.epochs),
        duration(trial.seconds),
        *(_shown(value) for value in trial.settings.values()),
    ]


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
