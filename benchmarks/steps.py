"""Sampling, steps and ranking in this process, each beside the plain way to do the same."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from figures import Figure, medians
from torch._C._distributed_c10d import HashStore
from workers import save_cut, train

from mmssl_dist.config import Job, parse_job
from mmssl_dist.evaluation.ranking import Seen, top_k
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.dgl_door import dgl
from mmssl_dist.planning.calibrate import synthetic_graph
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sampling.draws import key
from mmssl_dist.sampling.seeds import Seeds
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.training.state import initial_state
from mmssl_dist.training.step import TrainingStep

WIDTHS = {"image": 8}
DIMENSION = 64
TREE = {
    "output": "unused",
    "data": {"path": "unused", "modalities": {name: {"file": name} for name in WIDTHS}},
    "partition": {"parts": 1},
    "model": {"dimension": DIMENSION},
}
HUNDRED_THOUSAND, MILLION = (100_000, 30_000, 1_900_000), (1_000_000, 300_000, 20_000_000)
BPR_ONLY = (
    "losses.ranking.loss=bpr",
    "losses.l2=0",
    "losses.tower_l2=0",
    "losses.contrastive.weight=0",
    "losses.adversarial.weight=0",
    "model.item_graph.weight=0",
    "model.dropout=0",
)
ALL_LOSSES = (
    "losses.adversarial.kind=critic",
    "losses.adversarial.weight=0.1",
    "losses.contrastive.weight=0.03",
    "losses.contrastive.rows=item_graph",
)
"""The softmax, InfoNCE over the item-item graph, and the critic."""


def figures() -> Iterator[Figure]:
    """All of them; takes minutes, and some 6 GB."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    torch.set_num_threads(1)
    hundred_thousand = synthetic_graph(*HUNDRED_THOUSAND, WIDTHS, 10)
    yield _sampling(hundred_thousand)
    yield _whole_step(hundred_thousand)
    million = synthetic_graph(*MILLION, WIDTHS, 10)
    yield _flatness(hundred_thousand, million)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield _full_graph(million, Path(name))
    yield _ranking()
    dist.destroy_process_group()


class Ours:
    """The system's own step at W = 1 on a graph, batch by batch."""

    def __init__(self, graph: LocalGraph, *sets: str) -> None:
        job = _job(*sets)
        self.exchange = Exchange(None, graph.book.worker_bounds(1), 0)
        state = initial_state(job, graph, torch.device("cpu"))
        self.sampler = BatchSampler(graph, self.exchange, job)
        self.step = TrainingStep(job, graph, self.exchange, state)
        self.number, self.rows = 0, 0

    def __call__(self) -> None:
        batch = self.sampler.batch(0, self.number)
        self.step(batch)
        self.number += 1
        self.rows = len(batch.id_route.requested)


@dataclass
class Plain:
    """LightGCN by BPR as one would write it with DGL and PyTorch: nn.Embedding with sparse gradients,
    SparseAdam."""

    graph: LocalGraph

    def __post_init__(self) -> None:
        training = self.graph.training
        none = torch.empty(0, dtype=torch.int64)
        self.dgl = dgl.graph(
            ("csc", (training.indptr, training.neighbours, none)), num_nodes=self.graph.num_rows
        )
        self.dgl.edata["w"] = training.weight
        self.embedding = torch.nn.Embedding(self.graph.num_rows, DIMENSION, sparse=True)
        self.adam = torch.optim.SparseAdam(self.embedding.parameters(), lr=1e-3)

    def __call__(self, seeds: Seeds) -> None:
        nodes, positions = torch.unique(
            torch.cat([seeds.users, seeds.positives, seeds.negatives]), return_inverse=True
        )
        blocks, wanted = [], nodes
        for _ in range(2):
            sampled = dgl.sampling.sample_neighbors(self.dgl, wanted, 10)
            block = dgl.to_block(sampled, wanted)
            degree, drawn = self.dgl.in_degrees(wanted), block.in_degrees()
            block.edata["w"] = block.edata["w"] * (degree / drawn.clamp(min=1))[block.edges()[1]]
            blocks.insert(0, block)
            wanted = block.srcdata[dgl.NID]
        x = self.embedding(wanted)
        final = x[: len(nodes)]
        for block in blocks:
            x = dgl.ops.u_mul_e_sum(block, x, block.edata["w"][:, None])
            final = final + x[: len(nodes)]
        user, positive, negative = (final / 3)[positions].split(len(seeds.users))
        loss = -torch.nn.functional.logsigmoid((user * positive).sum(1) - (user * negative).sum(1)).mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


def _job(*sets: str) -> Job:
    return parse_job(TREE, sets)


def _sampling(graph: LocalGraph) -> Figure:
    sampler = Ours(graph, *BPR_ONLY).sampler
    plain = Plain(graph).dgl
    nodes = torch.from_numpy(np.sort(np.random.default_rng(0).choice(graph.num_rows, 20_000, replace=False)))
    route = sampler.exchange.route(nodes)
    count = len(sampler.training.sample(route, 10, key(0)).nodes)
    numbers = iter(range(10**6))
    ours, theirs = medians(
        15,
        lambda: sampler.training.sample(route, 10, key(next(numbers))),
        lambda: dgl.sampling.sample_neighbors(plain, nodes, 10),
    )
    return Figure(
        name="sampled edges/s at W = 1 / DGL's sample_neighbors on the whole graph",
        value=theirs / ours,
        better="higher",
        bar=0.6,
        aim=0.9,
        baseline=f"{count / ours / 1e6:.1f} and {count / theirs / 1e6:.1f} million edges/s",
    )


def _whole_step(graph: LocalGraph) -> Figure:
    ours, plain = Ours(graph, *BPR_ONLY), Plain(graph)
    seeds = Ours(graph, *BPR_ONLY).sampler.seeds
    numbers = iter(range(10**6))
    for _ in range(3):
        ours()
        plain(seeds.draw(0, next(numbers)))
    mine, theirs = medians(15, ours, lambda: plain(seeds.draw(0, next(numbers))))
    return Figure(
        name="whole step at W = 1, BPR only / the same with plain DGL and PyTorch",
        value=mine / theirs,
        better="lower",
        bar=1.25,
        aim=1.05,
        baseline=f"{mine * 1e3:.0f} and {theirs * 1e3:.0f} ms, {ours.rows:,} rows, one thread",
    )


def _flatness(small: LocalGraph, large: LocalGraph) -> Figure:
    on = {"small": Ours(small, *ALL_LOSSES), "large": Ours(large, *ALL_LOSSES)}
    for part in on.values():
        part()
        part()
    seconds = dict(zip(on, medians(7, *on.values()), strict=True))
    per_row = {name: seconds[name] / on[name].rows for name in on}
    return Figure(
        name="step time per sampled row, a million users / a hundred thousand",
        value=per_row["large"] / per_row["small"],
        better="lower",
        bar=1.5,
        aim=1.1,
        baseline=f"{seconds['large'] * 1e3:.0f} ms for {on['large'].rows:,} rows, "
        f"{seconds['small'] * 1e3:.0f} ms for "
        f"{on['small'].rows:,}; all losses, one thread",
    )


def _full_graph(graph: LocalGraph, folder: Path) -> Figure:
    """LightGCN on the whole graph each step, both directions as CSR, dense Adam; beside it two workers of
    ours, who hold half of the users and items each, whoever they are joined to."""
    torch.set_num_threads(2)
    training, n = graph.training, graph.num_rows
    matrix = torch.sparse_csr_tensor(training.indptr, training.neighbours, training.weight, (n, n))
    embedding = torch.nn.Parameter(torch.randn(n, DIMENSION) * 0.1)
    adam = torch.optim.Adam([embedding], lr=1e-3)
    seeds = Ours(graph, *BPR_ONLY).sampler.seeds

    class Propagate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return matrix @ x

        @staticmethod
        def backward(ctx, gradient):  # type: ignore[no-untyped-def]
            return matrix @ gradient  # symmetric

    def full() -> None:
        drawn = seeds.draw(0, 0)
        first = Propagate.apply(embedding)
        final = (embedding + first + Propagate.apply(first)) / 3
        user, positive, negative = (final[x] for x in (drawn.users, drawn.positives, drawn.negatives))
        loss = -torch.nn.functional.logsigmoid((user * positive).sum(1) - (user * negative).sum(1)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    full()
    (theirs,) = medians(3, full)
    torch.set_num_threads(1)
    save_cut(graph, 2, folder)
    (folder / "job.yaml").write_text(json.dumps(TREE))
    sets = [
        "training.epochs=3",
        "training.steps_per_epoch=15",
        "training.batch_size=2048",
        "partition.parts=2",
    ]
    result = train(folder / "job.yaml", [*BPR_ONLY, *sets], 2, folder)
    mine = 1024 / result["rate/pairs"]
    return Figure(
        name="seconds per 1,024 pairs, a million users, BPR only: full-graph LightGCN in PyTorch / "
        "ours at W = 2",
        value=theirs / mine,
        better="higher",
        bar=20,
        aim=60,
        baseline=f"{theirs:.2f} s on two threads, and {mine:.3f} s by two workers "
        "with 1,024 pairs a step each, parts cut without a look at the edges "
        f"({result['exchange/local']:.2f} of the rows are a worker's own)",
    )


def _ranking() -> Figure:
    rng = torch.Generator().manual_seed(0)
    users, items = torch.randn(4096, DIMENSION, generator=rng), torch.randn(100_000, DIMENSION, generator=rng)
    seen = Seen(torch.arange(len(users) + 1) * 10, torch.arange(len(users) * 10) % len(items))
    exchange = Exchange(None, np.array([0, len(items)]), 0)

    def plain() -> None:
        for chunk in users.split(1024):
            best = [torch.topk(chunk @ items[at : at + 65536].T, 50) for at in range(0, len(items), 65536)]
            torch.cat([part.values for part in best], 1).topk(50)

    def ours() -> None:
        top_k(
            users=users,
            seen=[seen],
            items=items,
            item_nodes=torch.arange(len(items)),
            k=50,
            user_block=1024,
            item_block=65536,
            exchange=exchange,
        )

    torch.set_num_threads(2)
    mine, theirs = medians(5, ours, plain)
    torch.set_num_threads(1)
    return Figure(
        name="exact full ranking / matmul and topk on the same blocks",
        value=mine / theirs,
        better="lower",
        bar=1.5,
        aim=1.15,
        baseline=f"{mine:.2f} and {theirs:.2f} s; 4,096 users, 100,000 items; ours leaves out known ones",
    )
