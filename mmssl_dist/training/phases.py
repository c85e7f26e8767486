"""What the parts of a step take: wall time on the host, by phase, and what that comes to over an epoch.

On a GPU a phase takes what its calls take on the host; the device may still be at work when it ends, and is
waited for where losses are read, in the phase "agree".
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mmssl_dist.exchange.exchange import Exchange


class Phases:
    """Seconds per phase and step, until they are taken.

    Args:
        clock: seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._steps: list[dict[str, float]] = []
        self._step: dict[str, float] = {}
        self._within: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what the body takes to the phase ``name`` of the present step, and to no phase around it."""
        self._count()
        self._within.append(name)
        try:
            yield
        finally:
            self._count()
            self._within.pop()

    def _count(self) -> None:
        now = self._clock()
        if self._within:
            name = self._within[-1]
            self._step[name] = self._step.get(name, 0.0) + now - self._since
        self._since = now

    def forget(self) -> None:
        """Drop what was counted since the last step ended."""
        self._step = {}

    def end_step(self) -> None:
        """Count a step as done."""
        self._steps.append(self._step)
        self._step = {}

    def take(self) -> dict[str, np.ndarray]:
        """Phase -> seconds of each ended step [steps], 0 where it had none; forgets them."""
        names = {name for step in self._steps for name in step}
        taken = {name: np.array([step.get(name, 0.0) for step in self._steps]) for name in sorted(names)}
        self._steps = []
        return taken


def peak_resident(status: Path = Path("/proc/self/status")) -> float:
    """Bytes this process has had resident at most, pages that it shares with other workers included."""
    # Where there is such a file, not getrusage's figure, which starts with the forking process's.
    lines = status.read_text().splitlines() if status.exists() else []
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    if kilobytes is not None:
        return int(kilobytes) * 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def epoch_figures(
    step: Mapping[str, np.ndarray],
    sample: Mapping[str, np.ndarray],
    exchange: Exchange,
    sampler: Exchange,
    pairs: int,
    edges: int,
) -> dict[str, float]:
    """Figures of the steps of an epoch over all workers; the same on each of them (collective).

    Args:
        step, sample: phases of the steps, and of the sampling beside them.
        exchange, sampler: theirs; their traffic is taken.
        pairs: training pairs of all workers in these steps. edges: edges this worker sampled.

    Returns:
        "seconds/<phase>/p50" and "/p95" of a step: the mean and the largest over the workers;
        "seconds/step/..." the same of whole steps; "share/waiting": of the steps' time, what went by waiting
        for a batch or in collectives; "rate/pairs" and "rate/edges" per second; "exchange/bytes" sent per
        step by all workers; "exchange/local": share of the rows asked for that were the asking worker's own;
        "memory/resident": largest of any worker so far, bytes.
    """
    # Phases exclude what is nested in them, so their sum is the step.
    whole = np.sum(list(step.values()), axis=0)
    phases = {**step, **sample, "step": whole}
    moved, sampled = exchange.traffic.take(), sampler.traffic.take()
    mine = [float(np.quantile(values, q)) for values in phases.values() for q in (0.5, 0.95)]
    waiting, sent = step["wait"].sum() + moved.seconds, moved.bytes_sent + sampled.bytes_sent
    mine += [
        whole.sum(),
        waiting,
        peak_resident(),
        edges,
        sent,
        moved.rows + sampled.rows,
        moved.local_rows + sampled.local_rows,
    ]
    # float64: the bytes of an epoch need more than float32's 24 bits.
    row = torch.tensor([mine], dtype=torch.float64, device=exchange.device)
    all_workers = exchange.gather_rows(row, (1,) * exchange.world_size).cpu().numpy()
    quantiles, rest = all_workers[:, : 2 * len(phases)], all_workers[:, 2 * len(phases) :]
    seconds, waited, memory, all_edges, all_sent, rows, local = rest.T
    figures = {}
    for index, name in enumerate(phases):
        figures[f"seconds/{name}/p50"] = float(quantiles[:, 2 * index].mean())
        figures[f"seconds/{name}/p95"] = float(quantiles[:, 2 * index + 1].max())
    # Steps are collective, so the slowest worker sets the pace of all.
    longest, steps = float(seconds.max()), len(whole)
    return figures | {
        "share/waiting": float((waited / seconds).mean()),
        "rate/pairs": pairs / longest,
        "rate/edges": float(all_edges.sum()) / longest,
        "exchange/bytes": float(all_sent.sum()) / steps,
        "exchange/local": float(local.sum() / max(rows.sum(), 1.0)),
        "memory/resident": float(memory.max()),
    }
