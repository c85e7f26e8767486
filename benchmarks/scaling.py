"""Trainings of one worker and of two, in turns: each worker has a core and 1,024 pairs a step of its own, so
the batch grows with the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from steps import ALL_LOSSES, BPR_ONLY
from workers import Figures, train

PAIRS = 1024
"""Training pairs of a step per worker."""
STEPS = 30
LOSSES: dict[str, Sequence[str]] = {"BPR": BPR_ONLY, "default losses": (), "all losses": ALL_LOSSES}
OTHER = "other"
RATE, WAITING = "rate/pairs", "share/waiting"
Measured = Mapping[tuple[str, int], Sequence[Figures]]
"""Figures of each round, by losses and number of workers."""


def measure(folder: Path, rounds: int, other: Callable[[], Figures] | None = None) -> Measured:
    """Train ``rounds`` times with each of ``LOSSES``, and call ``other``, whose figures are those of OTHER
    with two workers.

    Args:
        folder: has a job and, in run/, its partitions.
    """
    measured: dict[tuple[str, int], list[Figures]] = {}
    for _ in range(rounds):
        for losses, sets in LOSSES.items():
            for workers in (1, 2):
                figures = train(folder / "job.yaml", [*sets_of("run", workers), *sets], workers)
                measured.setdefault((losses, workers), []).append(figures)
        if other is not None:
            measured.setdefault((OTHER, 2), []).append(other())
    return measured


def sets_of(output: str, workers: int) -> list[str]:
    """Overrides of a training with ``workers`` workers from the partitions in ``output``."""
    return [f"output={output}", f"training.batch_size={workers * PAIRS}", f"training.steps_per_epoch={STEPS}"]


def ratios(measured: Measured, losses: str) -> list[float]:
    """Pairs per second of two workers over those of one, round by round, ascending."""
    pairs = zip(measured[losses, 2], measured[losses, 1], strict=True)
    return sorted(two[RATE] / one[RATE] for two, one in pairs)


def middle(runs: Sequence[Figures], figure: str) -> float:
    """Median over ``runs``; 0 where they have no such figure."""
    return median(run.get(figure, 0.0) for run in runs)
