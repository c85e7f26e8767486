"""What partitioning, training and ranking come to on a small graph, in one process that goes through many
jobs."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmssl_dist.config import Job
from mmssl_dist.evaluation.propagation import ExactRows, scale_items_
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.export.export import export_partitions
from mmssl_dist.graph.partition import partition
from mmssl_dist.graph.partition_files import load_ids
from mmssl_dist.launch.worker_data import load_local_graph
from mmssl_dist.launch.worker_entry import measure
from mmssl_dist.sampling.batch import Batch
from mmssl_dist.sampling.prefetch import Prefetcher
from mmssl_dist.storage import open_location, require_manifest
from mmssl_dist.training.loop import TrainingLoop
from mmssl_dist.training.state import TrainingState, initial_rows, make_model
from tests.jobs import training_job
from tests.sessions import LocalSession
from tests.training import make_trainer, make_worker, publish_graph

SETS = {
    "partition": (),
    "steps": (
        "training.fanout=[3, 2]",
        "model.modality_graph.fanout=2",
        "losses.adversarial.gumbel_scale=0.0001",
    ),
    "loop": ("training.epochs=6", "training.batch_size=64"),
    "ranking": (),
}


def walk(rank: int, folder: Path, wanted: Sequence[tuple[str, tuple[str, ...]]]) -> list[object]:
    """What each probe sees under the overrides beside it, in order."""
    # evaluation.users draws by node: of this cut's users with held-out interactions it draws some, not all
    publish_graph(training_job(folder, 2, 1, "partition.method=metis"))
    (folder / "few_users.csv").write_text("user_id\n3\n5\n")
    return [PROBES[probe](training_job(folder, 2, 1, *SETS[probe], *sets)) for probe, sets in wanted]


def _partition(job: Job) -> object:
    """Facts and content of the partitions made from the graph's dataset."""
    source = Path(job.output) / "dataset"
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(source, Path(name) / "dataset")
        dataset = require_manifest(open_location(str(source), job.storage), "dataset", "prepare")
        manifest = partition(job.model_copy(update={"output": name}), dataset)
    return manifest.facts, {name: record.sha256 for name, record in manifest.files.items()}


def _steps(job: Job) -> object:
    """Losses of four steps, the learned lists being published between the second and the third, and all
    weights."""
    trainer = make_trainer(0, job)
    losses = []
    for step in range(4):
        if step == 2:
            trainer.publish_lists()
        losses.append(trainer.step(trainer.batch(0, step)))
    engines = [engine for engine in (trainer.state.generator, trainer.state.critic) if engine]
    assert len(engines) == 1 + job.losses.adversarial.has_critic
    return (
        losses,
        _content(trainer.state.table.rows),
        [{name: _content(value) for name, value in engine.state().items()} for engine in engines],
        [engine.wrapped.zero_optimization_stage() for engine in engines],
        str(trainer.exchange.wire_dtype),
    )


def _loop(job: Job) -> object:
    """When lists are published, epochs are validated and training ends; and how far sampling is ahead of a
    step."""
    script = {"recall@20": (0.1, 0.4, 0.3, 0.3, 0.3, 0.5), "ndcg@20": (0.5, 0.4, 0.3, 0.2, 0.1, 0.1)}
    worker = make_worker(0, job)
    graph = load_local_graph(job, worker)
    events: list[tuple[str, int]] = []
    sampled: list[Batch] = []
    prefetchers: list[Prefetcher] = []
    taken = 0

    class Watched(Prefetcher):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            prefetchers.append(self)

    def validate(state: TrainingState) -> dict[str, float]:
        return {metric: values[loop.position.epochs - 1] for metric, values in script.items()}

    def sample(epoch: int, step: int) -> Batch:
        sampled.append(batch(epoch, step))
        return sampled[-1]

    def publish(views: Any) -> None:
        events.append(("lists", loop.position.epochs))
        show(views)

    def step(batch: Batch) -> dict[str, float]:
        nonlocal taken
        taken += 1
        prefetchers[0]._thread.submit(int).result()  # after everything that was asked for before
        events.append(("ahead", len(sampled) - taken))
        return train(batch)

    with tempfile.TemporaryDirectory() as name, patch("mmssl_dist.training.loop.Prefetcher", Watched):
        session = LocalSession(Path(name))
        exchange = graph.exchange(worker)
        loop = TrainingLoop(
            job=job,
            worker=worker,
            graph=graph,
            exchange=exchange,
            sampler_exchange=exchange,
            session=session,
            validate=validate,
        )
        sampler = loop.sampler
        batch, show, train = sampler.batch, sampler.publish, loop.step
        sampler.batch, sampler.publish, loop.step = sample, publish, step  # type: ignore[method-assign]
        end = loop.run()
    reported = [report["epoch"] for report in session.reports]
    return events, reported, end.epochs, end.best, end.best_epoch


def _ranking(job: Job) -> object:
    """Metrics and exported lists by the initial rows, and the shapes of the products that scored them."""
    if job.export.users is not None:
        users = str(Path(job.output) / job.export.users)
        job = job.model_copy(update={"export": job.export.model_copy(update={"users": users})})
    worker = make_worker(0, job)
    graph = load_local_graph(job, worker)
    exchange, rows = graph.exchange(worker), initial_rows(job, graph)
    output = open_location(job.output, job.storage)
    partitions = require_manifest(output / "partitions", "partitions", "partition")
    ids = [load_ids(output / "partitions", partitions, part, worker.cache) for part in graph.parts]
    with tempfile.TemporaryDirectory() as name, _Products() as products:
        model = make_model(job, graph)
        trained = Trained(model=model, id_rows=rows, graph=graph, views={}, exchange=exchange)

        def exact(ranked: Trained) -> ExactRows:
            final = rows.clone()
            scale_items_(final, graph.items, ranked.length_exponent)
            return ExactRows(final, own=rows, layers=(), similar=None)

        with patch("mmssl_dist.evaluation.item_lengths.exact_layers", exact):
            metrics = measure(job.evaluation, trained, ("validation", "test")).metrics
        export_partitions(
            job=job,
            graph=graph,
            rows=rows,
            ids=ids,
            exchange=exchange,
            location=open_location(name, job.storage),
        )
        written = Path(name) / "recommendations"
        lists = pq.read_table(written).to_pydict() if written.exists() else None
    return metrics, lists, products.shapes


class _Products(TorchFunctionMode):
    """Notes the shape of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        if function is torch.mm:
            self.shapes.append(tuple(result.shape))
        return result


def _content(value: Tensor) -> str:
    return hashlib.sha256(value.detach().cpu().contiguous().float().numpy().tobytes()).hexdigest()


PROBES = {"partition": _partition, "steps": _steps, "loop": _loop, "ranking": _ranking}
