"""The faults of the campaign, their outcomes, and the table of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.reliability import faults
from tests.reliability.target import (
    STAGES,
)

PARTITION_STEPS = (
    "reading the training interactions",
    "cutting the graph",
    "propagating image",
    "propagating text",
)
"""What a worker of ``partition`` says when it begins a step."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault.

    Attributes:
        kind: of the fault. stage, workers: that it meets. seed: of what is left to chance.
        what: the way a file is damaged; of a worker of ``partition``, the step that it is killed in.
    """

    kind: str
    stage: str
    workers: int
    seed: int
    what: str = ""


@dataclass(kw_only=True)
class Result:
    """What came of a case.

    Attributes:
        injected: the fault as it happened.
        detected: how it showed.
        recovered: "by itself" or by what was done.
        lost: 0, or 1 when what is published in the end isn't what the undisturbed run published.
        seconds: what the fault cost: time of all commands less that of the undisturbed one, at least 0.
        error: what the system did that it must not.
    """

    case: Case
    injected: str = ""
    detected: str = ""
    recovered: str = "by itself"
    lost: int = 1
    seconds: float = 0.0
    error: str = ""

    def __str__(self) -> str:
        case = self.case
        return (
            f"{case.kind}, {case.stage}, W = {case.workers}: {self.injected}; {self.detected}; recovered "
            f"{self.recovered}; lost {self.lost}; {self.seconds:.1f} s {self.error}"
        ).rstrip()


def cases(seed: int, few: bool) -> list[Case]:
    """The campaign, or a case of most kinds."""
    plan = [
        *[("worker", "train", workers, "") for workers in (1, 2, 1, 2)],
        *[("worker", "partition", 2, step) for step in PARTITION_STEPS],
        *[("worker", stage, 2, "") for stage in ("evaluate", "export")],
        *[("task", stage, 1, "") for stage in ("prepare", "partition")],
        *[("driver", stage, workers, "") for stage in STAGES for workers in (1, 2)],
        *[("driver", "train", workers, "") for workers in (1, 2)],
        *[("raylet", stage, 2, "") for stage in STAGES],
        *[("machine", "train", 2, "")] * 2,
        *[("store, some requests", stage, 1 + (stage == "train"), "") for stage in STAGES],
        *[("store, outage", stage, 1, "") for stage in ("partition", "train", "export")],
        *[("full disk", stage, 1, "") for stage in STAGES],
        ("full disk", "partition", 2, ""),
        *[("damage", stage, 1, how) for stage in STAGES[1:] for how in faults.DAMAGES],
        *[("damaged checkpoint", "train", 1 + number % 2, how) for number, how in enumerate(faults.DAMAGES)],
    ]
    random.Random(seed).shuffle(plan)  # what is cut short has met most kinds
    if few:
        plan = [
            ("worker", "train", 1, ""),
            ("damage", "evaluate", 1, "flipped"),
            ("damaged checkpoint", "train", 1, "flipped"),
        ]
    return [
        Case(kind=kind, stage=stage, workers=workers, seed=seed * 1000 + n, what=what)
        for n, (kind, stage, workers, what) in enumerate(plan)
    ]


def table(results: Sequence[Result]) -> Iterator[str]:
    """Markdown: one row per kind and stage."""
    yield (
        "| fault | stage | injected | detected | recovered by itself | by a command | lost | worst recovery |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.case.kind, result.case.stage), []).append(result)
    for (kind, stage), group in [*groups.items(), (("all", ""), list(results))]:
        itself = sum(not r.lost and r.recovered in ("by itself", "the checkpoint before it") for r in group)
        detected, lost = sum(bool(r.detected) for r in group), sum(r.lost for r in group)
        yield (
            f"| {kind} | {stage} | {len(group)} | {detected} | {itself} | {len(group) - itself - lost} "
            f"| {lost} | "
            f"{max(r.seconds for r in group):.0f} s |"
        )
