"""What the workers of each stage run: training, evaluation and export put together on one worker's
partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.data.columns import HELD_OUT, VALIDATION
from mmssl_dist.evaluation.contributions import metrics_without
from mmssl_dist.evaluation.evaluate import (
    UserMetrics,
    held_out_metrics,
    held_out_users,
    means_of,
    popularity_users,
)
from mmssl_dist.evaluation.groups import group_metrics
from mmssl_dist.evaluation.propagation import exact_layers, exact_rows
from mmssl_dist.evaluation.users import MODEL, POPULARITY, write_users
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.export.export import export_partitions
from mmssl_dist.export.fold_in import fold_in_rows, write_fold_in
from mmssl_dist.export.new_items import write_new_items
from mmssl_dist.graph.load import load_features, load_ids, load_partition, load_standardization, read_book
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph, join_partitions
from mmssl_dist.sharding.topology import Adjacency
from mmssl_dist.storage import FileRecord, Location, Manifest, open_location, require_manifest
from mmssl_dist.training.checkpoint import GENERATOR, load_dense, load_rows, rows_file, verified
from mmssl_dist.training.loop import TrainingLoop
from mmssl_dist.training.session import Session
from mmssl_dist.training.state import TrainingState, make_lists, make_model, make_table


@dataclass(frozen=True)
class Trained:
    """A trained model on this worker's partitions, its learned lists and its ID rows [n, D].

    The rows that are ranked with are made when they are used, and let go after: they are several times the ID
    rows.
    """

    graph: LocalGraph
    exchange: Exchange
    model: Mmssl
    views: Mapping[str, Adjacency]
    id_rows: Tensor


def train(job: Job, worker: Worker, session: Session) -> dict[str, object]:
    """Train to early stop, without a look at the test interactions. Returns where training ended."""
    graph = load_local_graph(job, worker, (VALIDATION,))
    exchange = graph.exchange(worker)
    group = _group_for_sampling(worker, job.training.timeout_seconds)
    sampler = Exchange(group, graph.book.worker_bounds(worker.world_size), worker.rank)

    def validate(state: TrainingState) -> dict[str, float]:
        views = {m: lists.graph(exchange) for m, lists in state.lists.items()}
        rows = exact_rows(state.model, state.table.rows, graph, views, exchange)
        return held_out_metrics(job.evaluation, graph, rows, exchange, (VALIDATION,))[VALIDATION]

    position = TrainingLoop(job, worker, graph, exchange, sampler, session, validate).run()
    return {
        "epochs": position.epochs,
        "best": position.best,
        "best_epoch": position.best_epoch,
        "stopped_early": position.validations_since_best >= job.evaluation.patience,
        "history": list(position.history),
    }


def evaluate(
    job: Job, worker: Worker, session: Session, checkpoint: Location, training: Manifest
) -> dict[str, object]:
    """Metrics of the chosen checkpoint on validation and test, beside popularity's; writes those of each
    user.

    Returns:
        "metrics", those of all users, and "files", the records of this worker's files.
    """
    trained = load_trained(job, worker, checkpoint, training)
    graph, exchange = trained.graph, trained.exchange
    splits = [s for s in HELD_OUT if exchange.max(len(graph.held_out[s].neighbours)) > 0]
    metrics, found = measure(job.evaluation, trained, splits)
    user_ids = [users for users, _ in _external_ids(job, worker, graph)]
    location = open_location(job.output, job.storage) / "evaluation"
    files = write_users(location, graph, user_ids, found, job.evaluation.ks)
    return {"metrics": metrics, "files": _records(files)}


def measure(
    settings: Evaluation, trained: Trained, splits: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, UserMetrics]]]:
    """What a ranking by the model and by popularity comes to (collective).

    Returns:
        the content of metrics.json; and by who ranked and by split the metrics of this worker's users.
    """
    graph, exchange = trained.graph, trained.exchange
    rows = exact_rows(trained.model, trained.id_rows, graph, trained.views, exchange)
    found = {
        MODEL: held_out_users(settings, graph, rows, exchange, splits),
        POPULARITY: popularity_users(settings, graph, exchange, splits),
    }
    means = {who: means_of(settings, by_split, exchange) for who, by_split in found.items()}
    groups = group_metrics(settings, graph, rows, exchange, splits)
    del rows  # before others are made
    metrics: dict[str, Any] = {**means[MODEL], **groups, "baselines": {POPULARITY: means[POPULARITY]}}
    if settings.contributions:
        without = metrics_without(
            settings, trained.model, trained.id_rows, graph, trained.views, exchange, splits
        )
        metrics |= {"without": without} if without else {}
    return metrics, found


def export(
    job: Job, worker: Worker, session: Session, checkpoint: Location, training: Manifest
) -> dict[str, dict[str, object]]:
    """Write embeddings, recommendations and what new users and items need of the chosen checkpoint.

    Returns:
        the records of this worker's files.
    """
    trained = load_trained(job, worker, checkpoint, training)
    ids = _external_ids(job, worker, trained.graph)
    location = open_location(job.output, job.storage) / "export"
    exact = exact_layers(trained.model, trained.id_rows, trained.graph, trained.views, trained.exchange)
    files = export_partitions(job, trained.graph, exact.final, ids, trained.exchange, location)
    fold_in = fold_in_rows(trained.model, exact, trained.graph, _features(job, worker, trained))
    files |= write_fold_in(location, trained.graph, fold_in)
    if worker.rank == 0:
        files |= write_new_items(location, trained.model, standardizations(job, worker, trained.model))
    return _records(files)


def standardizations(job: Job, worker: Worker, model: Mmssl) -> dict[str, np.ndarray]:
    """Per modality, what raw features are standardized by: [2, F] float64."""
    location = open_location(job.output, job.storage) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")
    return {m: load_standardization(location, manifest, m, worker.cache) for m in model.modalities}


def load_local_graph(job: Job, worker: Worker, held_out: Sequence[str] = HELD_OUT) -> LocalGraph:
    """This worker's partitions of the published artifact, with the held-out splits that are asked for."""
    location = open_location(job.output, job.storage) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")
    book = read_book(manifest)
    parts = book.worker_parts(worker.rank, worker.world_size)
    own = job.model.feature_columns > 0
    return join_partitions(
        book, [load_partition(location, manifest, part, worker.cache, held_out, own) for part in parts]
    )


def load_trained(job: Job, worker: Worker, checkpoint: Location, training: Manifest) -> Trained:
    """The model of a published checkpoint (collective)."""
    graph = load_local_graph(job, worker)
    exchange = graph.exchange(worker)
    table = make_table(job, graph, worker.device)
    lists = make_lists(job, graph)
    names = [*map(rows_file, graph.parts), GENERATOR]
    files = verified(checkpoint, names, training.files, worker.cache)
    load_rows(files, graph, table, lists)
    model = make_model(job, graph)
    _load_weights(model, load_dense(files, GENERATOR, model))
    views = {m: each.graph(exchange) for m, each in lists.items()}
    return Trained(graph, exchange, model.to(worker.device), views, table.rows)


def _load_weights(model: Mmssl, state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])


def _external_ids(job: Job, worker: Worker, graph: LocalGraph) -> list[tuple[pa.Array, pa.Array]]:
    """External ids of the users and of the items of each partition held."""
    location = open_location(job.output, job.storage) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")
    return [load_ids(location, manifest, part, worker.cache) for part in graph.parts]


def _features(job: Job, worker: Worker, trained: Trained) -> dict[str, Iterator[np.ndarray]]:
    """Per modality, the features [m, F + 1] of the items of each partition held, one partition at a time."""
    location = open_location(job.output, job.storage) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")

    def of(modality: str) -> Iterator[np.ndarray]:
        return (
            load_features(location, manifest, part, modality, worker.cache) for part in trained.graph.parts
        )

    return {modality: of(modality) for modality in trained.model.modalities}


def _records(files: Mapping[str, FileRecord]) -> dict[str, dict[str, object]]:
    return {name: asdict(record) for name, record in files.items()}


def _group_for_sampling(worker: Worker, timeout_seconds: int) -> dist.ProcessGroup | None:
    """Sampling runs beside the step, so its collectives need a group of their own; on hosts, so gloo."""
    if worker.group is None:
        return None
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
    return group
