"""A step on a GPU or on the CPU, by graph and batch size, one worker, in memory and without Ray.

    python benchmarks/gpu.py cuda|cpu 100k,1M [override of the job ...]

Prints a line of JSON for each. A process measures one device, since DeepSpeed keeps the first it meets.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from mmssl_dist.config import parse_job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.planning.calibrate import synthetic_graph
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.training.state import initial_state
from mmssl_dist.training.step import TrainingStep

WIDTHS = {"image": 512, "text": 384}
GRAPHS = {"100k": (100_000, 30_000, 1_900_000), "1M": (1_000_000, 300_000, 20_000_000)}
BATCHES = (1024, 8192, 32768)
THREADS = 7  # of a worker on a machine with eight cores to a GPU
WARM_UP, MEASURED = 3, 8


def measure(
    graph: LocalGraph, batch_size: int, device: torch.device, sets: Sequence[str]
) -> dict[str, float]:
    """Medians over some steps: seconds to sample, to move a batch to the device, of a step, of its phases on
    the host.

    "pairs/s" is what sampling beside the step leaves; "peak" bytes on the device.
    """
    tree = {
        "output": "unused",
        "data": {"path": "unused", "modalities": {m: {"file": m} for m in WIDTHS}},
        "partition": {"parts": 1},
        "training": {"batch_size": batch_size},
    }
    job = parse_job(tree, sets)
    exchange = Exchange(None, graph.book.worker_bounds(1), 0)
    state = initial_state(job, graph, device)
    sampler, step = BatchSampler(graph, exchange, job, device), TrainingStep(job, graph, exchange, state)
    times: dict[str, list[float]] = {"sample": [], "move": [], "step": []}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rows = 0
    for number in range(WARM_UP + MEASURED):
        marks = [time.perf_counter()]
        batch = sampler.batch(*divmod(number, sampler.steps))
        marks.append(time.perf_counter())
        batch = batch.to(device)
        _wait(device)
        marks.append(time.perf_counter())
        step(batch)
        _wait(device)
        marks.append(time.perf_counter())
        if number == WARM_UP - 1:
            step.phases.take()
        step.phases.end_step()
        rows = len(batch.id_route.requested)
        if number >= WARM_UP:
            for values, begin, end in zip(times.values(), marks[:-1], marks[1:], strict=True):
                values.append(end - begin)
    result = {name: statistics.median(values) for name, values in times.items()}
    result |= {
        f"host {name}": float(statistics.median(values)) for name, values in step.phases.take().items()
    }
    result |= {"rows": rows, "pairs/s": batch_size / max(result["sample"], result["move"] + result["step"])}
    if device.type == "cuda":
        result["peak"] = torch.cuda.max_memory_allocated()
    return result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    device = torch.device(sys.argv[1])
    names, sets = sys.argv[2].split(","), sys.argv[3:]
    os.environ["DS_ACCELERATOR"] = device.type
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    torch.set_num_threads(THREADS)
    for name in names:
        graph = synthetic_graph(*GRAPHS[name], WIDTHS, 10)
        for batch_size in BATCHES:
            figures = measure(graph, batch_size, device, sets)
            line = {"device": device.type, "graph": name, "batch": batch_size, "sets": sets, **figures}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
