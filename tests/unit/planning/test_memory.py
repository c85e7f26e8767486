"""The plan's memory against what the code is seen to hold: every allocation of a step and of a validation,
recorded; and what two workers came to take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmssl_dist.cluster.connection import worker_environment
from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.datasets.synthesize import draw_interactions, make_synthesis_plan
from mmssl_dist.evaluation.evaluate import held_out_metrics
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition import partition
from mmssl_dist.launch.worker_entry import train_on_worker
from mmssl_dist.planning import memory
from mmssl_dist.planning.calibrate import synthetic_graph
from mmssl_dist.planning.expected_batch import expected_batch
from mmssl_dist.planning.sizes import Sizes, sizes_of_partitions
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency
from mmssl_dist.storage import open_location, require_manifest
from mmssl_dist.training.phases import peak_resident
from mmssl_dist.training.state import TrainingState, initial_state
from mmssl_dist.training.step import TrainingStep
from tests.artifacts import write_dataset
from tests.jobs import make_job
from tests.processes import run_workers
from tests.sessions import LocalSession
from tests.training import make_worker
from tests.unit.planning.graph_sizes import sizes_of_graph

WIDTHS = {"image": 32, "text": 24}
USERS, ITEMS, INTERACTIONS = 12_000, 4000, 200_000
GPU_GRAPH, GPU_WIDTHS = (100_000, 30_000, 1_900_000), {"image": 512, "text": 384}
RUN_USERS, RUN_ITEMS, RUN_INTERACTIONS = 24_000, 8000, 400_000


def measured_job(output: str, *sets: str) -> Job:
    modalities = {name: {"file": name} for name in WIDTHS}
    return make_job(*sets, output=output, data={"path": "unused", "modalities": modalities})


def sizes_of(graph: LocalGraph, users: int = USERS, widths: dict[str, int] = WIDTHS) -> Sizes:
    return sizes_of_graph(graph, users, widths, (0.0,), validation=users)


def held_at_most(call: Callable[[], object]) -> int:
    """Bytes of the tensors that ``call`` makes and holds at once."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    records: list[tuple[int, int]] = []

    def collect(event: Any) -> None:
        if event.tag.name == "Allocation":
            records.append((event.start_time_ns, event.extra_fields.alloc_size))
        for child in event.children:
            collect(child)

    for root in profile.profiler.kineto_results.experimental_event_tree():
        collect(root)
    return int(np.cumsum([size for _, size in sorted(records, key=lambda record: record[0])]).max())


STEPS = [
    (),
    ("training.batch_size=3000",),
    ("training.batch_size=128", "training.fanout=[30, 30]"),
    ("training.batch_size=128", "training.fanout=[30, 30]", "training.rows.second_moment=row"),
    ("losses.candidates=2048",),
    ("losses.adversarial.kind=critic", "losses.candidates=2048"),
    ("losses.contrastive.weight=0.01", "losses.adversarial.rows=modality"),
    ("losses.contrastive.weight=0.01",),
    ("losses.contrastive.weight=0.01", "losses.contrastive.rows=modalities"),
    ("losses.adversarial.kind=perturbation",),
    ("model.modality_graph.size=10", "losses.contrastive.rows=lists", "losses.contrastive.weight=0.01"),
    ("model.dimension=64",),
    ("training.batch_size=128", "training.fanout=[30, 30]", "model.dimension=256"),
]
VALIDATIONS = [
    ("evaluation.user_block=4096",),
    ("evaluation.user_block=16",),
    ("evaluation.user_block=16", "model.dimension=64"),
    ("model.modality_graph.size=10",),
    ("evaluation.user_block=16", "model.item_graph.weight=0", "losses.contrastive.weight=0"),
]


@pytest.mark.processes
def test_steps_and_validations_hold_what_is_planned():
    (result,) = run_workers(1, record, timeout=400)  # DeepSpeed keeps the first group that a process has
    for sets, held, planned in result:
        assert held / planned == pytest.approx(1.0, abs=0.15), sets


def record(rank: int) -> list[tuple[tuple[str, ...], int, float]]:
    """Settings, bytes held at once, and bytes planned."""
    graph = synthetic_graph(users=USERS, items=ITEMS, interactions=INTERACTIONS, widths=WIDTHS, neighbours=10)
    users, nodes = torch.arange(USERS), graph.num_rows
    indptr = torch.cat([torch.arange(USERS + 1), torch.full((ITEMS,), USERS)])
    held_out = Adjacency(indptr, USERS + users % ITEMS, torch.ones(USERS))
    graph = replace(graph, held_out={"validation": held_out})
    exchange, sizes = Exchange(None, np.array([0, nodes]), 0), sizes_of(graph)
    result = []
    for sets in STEPS:
        job = measured_job("unused", *sets)
        state = initial_state(job, graph, torch.device("cpu"))
        sampler, step = BatchSampler(graph, exchange, job), TrainingStep(job, graph, exchange, state)
        sampler.publish({m: lists.graph(exchange) for m, lists in state.lists.items()})
        step(sampler.batch(0, 0))
        held = held_at_most(partial(step, sampler.batch(0, 1)))
        result.append((sets, held, memory._step(job, sizes, expected_batch(job, sizes, 1), 1)))
    for sets in VALIDATIONS:
        job = measured_job("unused", *sets)
        held = held_at_most(
            partial(validate, job, graph, initial_state(job, graph, torch.device("cpu")), exchange)
        )
        planned = memory._validation(job, sizes, workers=1, nodes=nodes, edges=2.0 * sizes.interactions)
        result.append((sets, held, planned))
    return result


def test_a_gpu_holds_what_is_planned():
    """peak: what benchmarks/gpu.py recorded on an H100 with the critic; cuBLAS takes a little besides."""
    peak = 1_479_918_080
    sets = ("losses.adversarial.kind=critic", "training.batch_size=32768", "training.sampler=dgl")
    users, items, interactions = GPU_GRAPH
    graph = synthetic_graph(
        users=users, items=items, interactions=interactions, widths=GPU_WIDTHS, neighbours=10
    )
    data = {"path": "unused", "modalities": {m: {"file": m} for m in GPU_WIDTHS}}
    job = make_job(*sets, data=data, scaling={"gpus_per_worker": 1})
    sizes = sizes_of(graph, users, GPU_WIDTHS)
    batch = expected_batch(job, sizes, 1)
    planned = memory.worker_memory(job, sizes, batch, 1)
    before_validation = {**planned.of_gpu, "step or validation": memory._step(job, sizes, batch, 1)}
    assert peak / sum(before_validation.values()) == pytest.approx(1.05, abs=0.1)
    assert planned.total == sum(planned.host.values())
    assert planned.of_gpu.keys().isdisjoint(planned.of_machine)
    keyed = job.model_copy(update={"training": job.training.model_copy(update={"sampler": "device"})})
    on_device = memory.worker_memory(keyed, sizes, batch, 1)
    assert on_device.of_gpu["sampler's lists"] > 2 * interactions * 8  # ids and weights of four bytes each
    assert on_device.of_gpu["batches"] == planned.of_machine["batches"]
    assert on_device.of_gpu.keys().isdisjoint(on_device.of_machine)


def validate(job: Job, graph: LocalGraph, state: TrainingState, exchange: Exchange) -> None:
    rows = exact_rows(
        Trained(model=state.model, id_rows=state.table.rows, graph=graph, views={}, exchange=exchange)
    )
    held_out_metrics(
        settings=job.evaluation, graph=graph, rows=rows, exchange=exchange, splits=("validation",)
    )


@pytest.mark.processes
def test_two_workers_take_what_is_planned(tmp_path, monkeypatch):
    for name, value in worker_environment(Scaling(), Storage()).items():
        monkeypatch.setenv(name, value)
    sets = (
        "partition.parts=4",
        "partition.method=streaming",
        "scaling.workers=2",
        "training.epochs=1",
        "training.steps_per_epoch=8",
        "evaluation.users=500",
    )
    tiny = publish(
        measured_job(str(tmp_path / "tiny"), *sets, "training.batch_size=16", "losses.candidates=4"),
        60,
        400,
        900,
    )
    job = publish(measured_job(str(tmp_path / "run"), *sets), RUN_USERS, RUN_ITEMS, RUN_INTERACTIONS)
    manifest = require_manifest(
        open_location(job.output, job.storage) / "partitions", "partitions", "partition"
    )
    sizes = sizes_of_partitions(manifest)
    planned = memory.worker_memory(job, sizes, expected_batch(job, sizes, 2), 2).total
    taken = run_workers(2, train_both, tiny, job, tmp_path, timeout=300)
    assert (memory.EMPTY_WORKER + max(taken)) / planned == pytest.approx(1.0, abs=0.1)


def publish(job: Job, users: int, items: int, interactions: int) -> Job:
    """Partitions of planted communities, below ``job.output``."""
    pairs = np.stack(
        draw_interactions(make_synthesis_plan(users, items, interactions, WIDTHS, seed=0), 0, users), 1
    )
    held = users // 10
    pairs = np.random.default_rng(0).permutation(pairs)
    features = {
        m: (np.arange(items), np.random.default_rng(1).random((items, width), np.float32))
        for m, width in WIDTHS.items()
    }
    partition(
        job,
        write_dataset(
            path=Path(job.output) / "dataset",
            train=pairs[2 * held :],
            validation=pairs[:held],
            test=pairs[held : 2 * held],
            features=features,
            users=range(users),
            items=range(items),
        ),
    )
    return job


def train_both(rank: int, tiny: Job, job: Job, folder: Path) -> float:
    """Bytes that training on ``job`` came to take beyond those that training on ``tiny`` had left."""
    before = 0.0
    for one_job in (tiny, job):
        session = folder / f"session-{rank}-{Path(one_job.output).name}"
        session.mkdir()
        train_on_worker(one_job, make_worker(rank, one_job), LocalSession(session))
        peak = peak_resident()
        before, taken = peak, peak - before
    return taken
