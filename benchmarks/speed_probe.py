"""What one version of this project takes for a batch, a step and the kernels in them, call by call.

    PYTHONPATH=VERSION python benchmarks/speed_probe.py

reads lines ["name", argument, ...] from its input and answers each with a line of JSON: seconds of processor
time of this process, or bytes. ``against.py`` runs it in two versions that take turns, so it uses only what
both have.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from mmssl_dist.config import Job, parse_job
from mmssl_dist.losses import contrastive
from mmssl_dist.planning.calibrate import synthetic_graph
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.training.state import initial_state
from mmssl_dist.training.step import TrainingStep

GRAPH = (100_000, 30_000, 1_900_000)
WIDTHS = {"image": 128, "text": 128}
DIMENSION = 64
ALL_LOSSES: dict[str, Any] = {
    "adversarial": {"weight": 0.1},
    "contrastive": {"weight": 0.03, "rows": "item_graph"},
    "ranking": {"loss": "softmax"},
}
BPR_ONLY: dict[str, Any] = {
    "ranking": {"loss": "bpr"},
    "adversarial": {"weight": 0},
    "contrastive": {"weight": 0},
    "l2": 0,
    "tower_l2": 0,
}
USERS, TEMPERATURE = 4096, 0.2


def main() -> None:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    torch.set_num_threads(1)
    probe = Probe()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(probe, name)(*arguments)), flush=True)  # noqa: T201
    dist.destroy_process_group()


class Probe:
    """One measurement a method."""

    def __init__(self) -> None:
        self.graph = synthetic_graph(*GRAPH, WIDTHS, 10)
        self.jobs: dict[tuple[str, int, str], _Steps] = {}
        generator = torch.Generator().manual_seed(0)
        self.index = torch.randperm(self.graph.num_rows, generator=generator)[:88_000].sort().values
        self.gradient = torch.randn(len(self.index), DIMENSION, generator=generator) * 1e-3
        self.x, self.y = torch.randn(2, USERS, DIMENSION, generator=generator)
        settings = _job("all", 1024, "dgl").training.rows
        self.table = RowTable(torch.randn(self.graph.num_rows, DIMENSION, generator=generator), settings)

    def sampling(self, losses: str, pairs: int, sampler: str) -> float:
        """A batch."""
        steps = self._steps(losses, pairs, sampler)
        seconds = _timed(steps.sample)
        steps.batches.clear()
        return seconds

    def step(self, losses: str, pairs: int) -> float:
        """A step on a batch that is there."""
        steps = self._steps(losses, pairs, "dgl")
        steps.sample()
        return _timed(steps.train)

    def update(self) -> float:
        """Adam on 88,000 of 130,000 rows."""
        route = _exchange().Route((len(self.index),), self.index, (len(self.index),))
        return _timed(lambda: self.table.update(route, self.gradient))

    def read(self) -> float:
        """Those rows."""
        route = _exchange().Route((len(self.index),), self.index, (len(self.index),))
        return _timed(lambda: self.table.read(route))

    def info_nce(self) -> float:
        """The contrastive term of 4,096 users with its gradient."""
        return _timed(self._contrast)

    def info_nce_bytes(self) -> int:
        """The most bytes of tensors that it holds at once."""
        return _held_at_most(self._contrast)

    def neighbourhoods(self, rows: int) -> float:
        """Whole neighbourhoods of random nodes."""
        steps = self._steps("bpr", 1024, "dgl")
        nodes = torch.randperm(self.graph.num_rows)[:rows].sort().values
        route = _exchange().Route((rows,), nodes, (rows,))
        return _timed(lambda: steps.sampler.training.sample(route, None, 1))

    def drawn(self, rows: int, sampler: str) -> float:
        """Ten neighbours of each of ``rows`` random nodes."""
        steps = self._steps("bpr", 1024, sampler)
        nodes = torch.randperm(self.graph.num_rows)[:rows].sort().values
        route = _exchange().Route((rows,), nodes, (rows,))
        steps.number += 1
        return _timed(lambda: steps.sampler.training.sample(route, 10, steps.number))

    def drawn_by_dgl(self, rows: int) -> float:
        """The same by DGL's ``sample_neighbors`` alone, without weights."""
        dgl = import_module("mmssl_dist.graph.dgl_door").dgl
        if not hasattr(self, "plain"):
            lists = self.graph.training
            none = torch.empty(0, dtype=torch.int64)
            self.plain = dgl.graph(
                ("csc", (lists.indptr, lists.neighbours, none)), num_nodes=self.graph.num_rows
            )
        nodes = torch.randperm(self.graph.num_rows)[:rows].sort().values
        return _timed(lambda: dgl.sampling.sample_neighbors(self.plain, nodes, 10))

    def _contrast(self) -> None:
        x, y = self.x.clone().requires_grad_(), self.y.clone().requires_grad_()
        everyone = {"x_all": x, "y_all": y, "positions": torch.arange(USERS)}
        contrastive(x, y, **everyone, temperature=TEMPERATURE, count=USERS).backward()

    def _steps(self, losses: str, pairs: int, sampler: str) -> _Steps:
        at = losses, pairs, sampler
        if at not in self.jobs:
            self.jobs[at] = _Steps(_job(*at), self.graph)
        return self.jobs[at]


class _Steps:
    """A training, batch by batch."""

    def __init__(self, job: Job, graph: Any) -> None:
        exchange = _exchange().Exchange(None, graph.book.worker_bounds(1), 0)
        state = initial_state(job, graph, torch.device("cpu"))
        self.sampler, self.step = (
            BatchSampler(graph, exchange, job),
            TrainingStep(job, graph, exchange, state),
        )
        self.batches: list[Any] = []
        self.number = 0

    def sample(self) -> None:
        self.batches.append(self.sampler.batch(0, self.number))
        self.number += 1

    def train(self) -> None:
        self.step(self.batches.pop())


def _job(losses: str, pairs: int, sampler: str) -> Job:
    tree: dict[str, Any] = {
        "output": "unused",
        "data": {"path": "unused", "modalities": {name: {"file": name} for name in WIDTHS}},
        "partition": {"parts": 1},
        "model": {"dimension": DIMENSION}
        | ({} if losses == "all" else {"item_graph": {"weight": 0}, "dropout": 0}),
        "losses": dict(ALL_LOSSES if losses == "all" else BPR_ONLY),
        "training": {"batch_size": pairs},
    }
    sections = (
        import_module("mmssl_dist.config.training_sections") if _has("config.training_sections") else None
    )
    if sections is not None and "sampler" in sections.Training.model_fields:
        tree["training"]["sampler"] = sampler
    if losses == "all" and _has("losses.perturbation"):
        tree["losses"]["adversarial"] = ALL_LOSSES["adversarial"] | {"kind": "critic"}
    return parse_job(tree)


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"mmssl_dist.{module}") is not None


def _exchange() -> ModuleType:
    return import_module(
        "mmssl_dist.exchange.exchange" if _has("exchange") else "mmssl_dist.sharding.exchange"
    )


def _timed(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def _held_at_most(call: Callable[[], object]) -> int:
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    records: list[tuple[int, int]] = []

    def collect(event: Any) -> None:
        if event.tag.name == "Allocation":
            records.append((event.start_time_ns, event.extra_fields.alloc_size))
        for child in event.children:
            collect(child)

    for root in profile.profiler.kineto_results.experimental_event_tree():
        collect(root)
    held = largest = 0
    for _, size in sorted(records):
        held += size
        largest = max(largest, held)
    return largest


if __name__ == "__main__":
    main()
