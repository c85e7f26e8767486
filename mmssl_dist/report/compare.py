"""Runs beside each other, user by user: a Markdown table of means, differences to a baseline, and how sure
they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.errors import InputError
from mmssl_dist.evaluation.user_columns import MODEL, POPULARITY
from mmssl_dist.report.paired import (
    SMALLEST_P,
    ConfidenceInterval,
    holm,
    interval,
    resampled_means,
    sign_flip_p,
)
from mmssl_dist.report.runs import Summary
from mmssl_dist.report.same_model import require_same_models
from mmssl_dist.report.user_metrics import UserValues, read_users, require_same_users
from mmssl_dist.storage import Location


@dataclass(frozen=True)
class Contender:
    """Runs under one name, as a rule of one setting by seed: their values are averaged user by user."""

    name: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class ContenderMetric:
    """One metric of a contender.

    Attributes:
        name: the contender's.
        users: float64 [n] of each user, averaged over the runs.
        seeds: mean over users of each run.
    """

    name: str
    users: np.ndarray
    seeds: Summary


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contender beside the baseline; what is None does not apply to the baseline itself.

    Attributes:
        p: of the paired sign-flip test. corrected: the same by Holm, None unless there are several.
    """

    name: str
    seeds: Summary
    mean_interval: ConfidenceInterval
    difference: float | None = None
    difference_interval: ConfidenceInterval | None = None
    p: float | None = None
    corrected: float | None = None


def parse_contenders(arguments: Sequence[str], baseline: str | None) -> list[Contender]:
    """From RUN or NAME=RUN,RUN,..., the baseline first: the one of that name, or the first given.

    Raises:
        InputError: a name without runs, a name given twice, no such baseline.
    """
    contenders: dict[str, Contender] = {}
    for argument in arguments:
        name, sign, runs = argument.partition("=")
        named = bool(sign) and "/" not in name  # a path may hold "=" too
        contender = Contender(name, tuple(runs.split(","))) if named else Contender(argument, (argument,))
        if not contender.name or not all(contender.runs):
            raise InputError(
                "RUN",
                argument,
                "runs have the form RUN or NAME=RUN,RUN,...",
                "Write a run's output after each comma.",
            )
        if contender.name in contenders or contender.name == POPULARITY:
            raise InputError(
                "RUN",
                contender.name,
                "names must be unique, and popularity is reserved for --popularity",
                "Name the runs differently: NAME=RUN.",
            )
        contenders[contender.name] = contender
    if baseline is not None and baseline not in contenders:
        raise InputError(
            "--baseline",
            baseline,
            f"the baseline is one of {', '.join(contenders)}",
            "Give its name, or the run as it is given.",
        )
    # The sort is stable: the baseline goes first, and the others stay as they were given.
    return sorted(contenders.values(), key=lambda contender: contender.name != baseline)


def read_contenders(
    contenders: Sequence[Contender],
    open_run: Callable[[str], Location],
    metric: str,
    split: str,
    popularity: bool,
) -> list[ContenderMetric]:
    """The metric of each contender over the same users; of popularity too, as the first one's runs ranked by
    it.

    Raises:
        InputError: there is no such split; what ``require_same_models``, ``read_users`` and
            ``require_same_users`` refuse.
    """
    if split not in HELD_OUT:
        raise InputError(
            "--split", split, f"a split is {' or '.join(HELD_OUT)}", "Give one of them, or leave it out."
        )
    for contender in contenders:
        require_same_models([open_run(run) for run in contender.runs])
    asked = [(contender.name, contender.runs, MODEL) for contender in contenders]
    if popularity:
        asked.append((POPULARITY, contenders[0].runs, POPULARITY))
    first: UserValues | None = None
    values: list[ContenderMetric] = []
    for name, runs, who in asked:
        total: np.ndarray | float = 0.0
        means: list[float] = []
        for run in runs:  # one run's users at a time beside the sum
            users = read_users(open_run(run), metric, split, who)
            first = first or users
            require_same_users(first, users)
            # Averaged user by user, so that the paired test sees users and not runs.
            total = total + users.values
            means.append(float(users.values.mean()))
        values.append(ContenderMetric(name, np.asarray(total / len(runs)), Summary(tuple(means))))
    return values


def compare(values: Sequence[ContenderMetric]) -> list[Line]:
    """Each contender beside the first: resampled intervals over users, and a paired test."""
    # The same users are drawn for all contenders, so that differences keep their pairing.
    resampled = resampled_means(np.stack([contender.users for contender in values]))
    differences = [contender.users - values[0].users for contender in values[1:]]
    p_values = [sign_flip_p(difference) for difference in differences]
    corrected: Sequence[float | None] = holm(p_values) if len(p_values) > 1 else [None] * len(p_values)
    lines = [Line(name=values[0].name, seeds=values[0].seeds, mean_interval=interval(resampled[:, 0]))]
    for index, difference in enumerate(differences):
        column = resampled[:, index + 1]
        lines.append(
            Line(
                name=values[index + 1].name,
                seeds=values[index + 1].seeds,
                mean_interval=interval(column),
                difference=float(difference.mean()),
                difference_interval=interval(column - resampled[:, 0]),
                p=p_values[index],
                corrected=corrected[index],
            )
        )
    return lines


def comparison_lines(lines: Sequence[Line], metric: str, users: int, split: str) -> list[str]:
    """A Markdown table, and one line on how to read it. Columns that apply to no line are left out."""
    columns: list[tuple[str, Callable[[Line], str]]] = [
        ("name", lambda line: line.name),
        ("runs", lambda line: str(len(line.seeds.values))),
        (metric, lambda line: f"{line.seeds.mean:.4f}"),
        ("95 % interval", lambda line: _interval(line.mean_interval, "")),
    ]
    if any(line.seeds.error is not None for line in lines):
        columns.append(("standard error over runs", lambda line: _number(line.seeds.error, ".4f")))
    if len(lines) > 1:
        columns += [
            (f"difference to {lines[0].name}", lambda line: _number(line.difference, "+.4f")),
            ("95 % interval", lambda line: _interval(line.difference_interval, "+")),
            ("p", lambda line: _p_value(line.p, line.p)),
        ]
    if any(line.corrected is not None for line in lines):
        columns.append(("p (Holm)", lambda line: _p_value(line.corrected, line.p)))
    rows = [[cell(line) for _, cell in columns] for line in lines]
    head = [name for name, _ in columns]
    table = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    note = (
        f"{users:,} users of {split}; intervals: bootstrap over users, paired; p: sign-flip test over users."
    )
    return [table[0], "|" + "---|" * len(head), *table[1:], "", note]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _p_value(value: float | None, drawn: float | None) -> str:
    """``value``, as a bound where the draws of the test, which gave ``drawn``, can give no smaller one."""
    if value is None or drawn is None:
        return ""
    return f"< {value:.4f}" if drawn <= SMALLEST_P else f"{value:.4f}"


def _interval(bounds: ConfidenceInterval | None, sign: str) -> str:
    return "" if bounds is None else f"{bounds[0]:{sign}.4f} to {bounds[1]:{sign}.4f}"
