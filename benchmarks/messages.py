"""Messages between two workers of one machine by sockets and by shared memory: python benchmarks/messages.py

Rows go in one message each way as in a training step (64 and 32 floats wide), by workers with a core each;
medians of 21. Writes docs/results/messages.json, which docs/performance.md shows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
import torch.distributed as dist

from mmssl_dist.exchange import peer_memory
from mmssl_dist.exchange.exchange import Exchange
from tests.processes import run_workers

ROOT = Path(__file__).resolve().parents[1]
ROWS = (10, 1_000, 5_000, 20_000, 40_000)
WIDTHS = (64, 32)
TIMES = 21
_Times = dict[int, tuple[float, float]]  # milliseconds and milliseconds of the processor, by rows


def main() -> None:
    sockets, memory = (run_workers(2, measured, shares)[0] for shares in (False, True))
    rows = [
        [
            f"{count:,}",
            f"{count * sum(WIDTHS) * 4 / 1e6:.3g}",
            *(f"{value:.2f}" for path in (sockets, memory) for value in path[count]),
        ]
        for count in ROWS
    ]
    content = {
        "provenance": "benchmarks/messages.py, two workers, a core each",
        "columns": [
            "rows to the other worker",
            "MB",
            "ms by sockets",
            "of the processor",
            "ms by shared memory",
            "of the processor",
        ],
        "rows": rows,
    }
    (ROOT / "docs/results/messages.json").write_text(json.dumps(content, indent=1) + "\n")


def measured(rank: int, shares: bool) -> _Times:
    """One worker's times by rows; without ``shares`` as if the workers were on two machines."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    if not shares:
        peer_memory._machine = lambda: rank
    exchange = Exchange(dist.group.WORLD, np.array([0, 10**6, 2 * 10**6]), rank)
    result = {}
    for count in ROWS:
        parts = [torch.rand(2 * count, width) for width in WIDTHS]
        split = (count, count), (count, count)
        seconds, processor = [], []
        for _ in range(TIMES):
            dist.barrier()
            started, before = perf_counter(), process_time()
            exchange.together(parts, [split] * len(parts))
            seconds.append(perf_counter() - started)
            processor.append(process_time() - before)
        result[count] = 1e3 * median(seconds), 1e3 * median(processor)
    return result


if __name__ == "__main__":
    main()
