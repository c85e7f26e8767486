"""Several runs of one job, as a rule with different seeds: mean and standard error of each metric."""

from __future__ import annotations

import json
import reprlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location


@dataclass(frozen=True)
class Summary:
    """One metric over n runs. ``error`` is the standard error of the mean, None for a single run."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def error(self) -> float | None:
        """Standard error of the mean."""
        return statistics.stdev(self.values) / len(self.values) ** 0.5 if len(self.values) > 1 else None


def read_metrics(run: Location) -> Mapping[str, Mapping[str, float]]:
    """``evaluation/metrics.json`` of a run.

    Raises:
        InputError: there is none, or it is not readable.
    """
    source = run / "evaluation" / "metrics.json"
    if not source.exists():
        raise InputError(
            source.url,
            "no such file",
            "only evaluated runs have metrics",
            "Run `mmssl-dist evaluate` on the job.",
        )
    try:
        metrics = json.loads(source.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(
            source.url, error, "metrics are JSON", "Run `mmssl-dist evaluate --force`."
        ) from error
    if not isinstance(metrics, dict) or not all(_are_metrics(metrics.get(split, {})) for split in HELD_OUT):
        raise InputError(
            source.url,
            reprlib.repr(metrics),
            "metrics are numbers, by split and by name",
            "Run `mmssl-dist evaluate --force`.",
        )
    return metrics


def summarize(runs: Sequence[Mapping[str, Mapping[str, float]]], split: str) -> dict[str, Summary]:
    """Each metric of ``split`` that all runs have, over the runs."""
    common = [name for name in runs[0].get(split, {}) if all(name in run.get(split, {}) for run in runs)]
    return {name: Summary(tuple(run[split][name] for run in runs)) for name in common}


def summary_lines(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """A Markdown table: a line per split and metric, with mean, standard error and the single values."""
    lines = ["| split | metric | mean | standard error | runs |", "|---|---|---|---|---|"]
    for split in HELD_OUT:
        for name, summary in summarize(runs, split).items():
            error = "" if summary.error is None else f"{summary.error:.4f}"
            values = " ".join(f"{value:.4f}" for value in summary.values)
            lines.append(f"| {split} | {name} | {summary.mean:.4f} | {error} | {values} |")
    return lines


def _are_metrics(values: object) -> bool:
    # Not ``isinstance``, for which a boolean is an integer.
    return isinstance(values, dict) and all(type(value) in (int, float) for value in values.values())
