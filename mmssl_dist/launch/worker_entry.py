"""The worker's part of each stage that has workers: train, evaluate, export on the worker's own partitions.

The driver imports this module too, to name these functions; so what only training needs is imported there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

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
from mmssl_dist.evaluation.item_lengths import fixed_exponent, rows_to_rank
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.evaluation.user_columns import MODEL, POPULARITY
from mmssl_dist.evaluation.users import write_user_metrics
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.export.export import export_partitions
from mmssl_dist.export.fold_in import fold_in_rows, write_fold_in
from mmssl_dist.export.new_item_weights import write_new_items
from mmssl_dist.launch.machine import machine_facts
from mmssl_dist.launch.worker_data import external_ids, feature_maps, item_features, load_local_graph
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.storage import FileRecord, Location, Manifest, RunFolder
from mmssl_dist.training.checkpoint import GENERATOR, load_dense, load_rows, rows_file, verified
from mmssl_dist.training.session import Session
from mmssl_dist.training.state import TrainingState, make_lists, make_model, make_table

_logger = logging.getLogger(__name__)


def train_on_worker(job: Job, worker: Worker, session: Session) -> dict[str, Any]:
    """Train until early stopping or the last epoch, without reading the test interactions.

    Returns:
        epochs (in all), best (the metric's value), best_epoch, stopped_early, start (see ``Position``),
        history, one entry per validated epoch, and left_out, users who know every item and their
        interactions.
    """
    from mmssl_dist.kernels.compiling import prepare_all
    from mmssl_dist.launch.warm_start import take_over
    from mmssl_dist.training.loop import TrainingLoop

    # Before any collective: compiling takes seconds, which the first step's time limit is not meant for.
    _logger.info("train: compiling kernels, where they are not compiled yet")
    prepare_all()
    _logger.info("train: reading partitions")
    graph = load_local_graph(job, worker, (VALIDATION,))
    exchange = graph.exchange(worker, job.training.wire)
    group = _group_for_sampling(worker, job.training.timeout_seconds)
    # A second exchange over the same nodes: collectives of two threads on one group would pair up at random.
    sampler = Exchange(group, graph.book.worker_bounds(worker.world_size), worker.rank)

    def validate(state: TrainingState) -> dict[str, float]:
        rows = exact_rows(_in_training(state, graph, exchange, fixed_exponent(job.evaluation)))
        return held_out_metrics(job.evaluation, graph, rows=rows, exchange=exchange, splits=(VALIDATION,))[
            VALIDATION
        ]

    def start(state: TrainingState) -> dict[str, float]:
        return take_over(job, worker, graph=graph, exchange=exchange, state=state)

    loop = TrainingLoop(
        job=job,
        worker=worker,
        graph=graph,
        exchange=exchange,
        sampler_exchange=sampler,
        session=session,
        validate=validate,
        start=None if job.training.start_from is None else start,
    )
    if (epoch := loop.next_figures()) is not None:
        _logger.info("train: training; the first figures are those of epoch %d", epoch)
    position = loop.run()
    users, interactions = loop.sampler.seeds.left_out
    return {
        "epochs": position.epochs,
        "best": position.best,
        "best_epoch": position.best_epoch,
        "stopped_early": position.validations_since_best >= job.evaluation.patience,
        "start": dict(position.start),
        "history": list(position.history),
        "left_out": {"users": users, "interactions": interactions},
        "machine": machine_facts(worker),
    }


def _in_training(
    state: TrainingState, graph: LocalGraph, exchange: Exchange, length_exponent: float
) -> Trained:
    return Trained(
        graph=graph,
        exchange=exchange,
        model=state.model,
        views={m: lists.graph(exchange) for m, lists in state.lists.items()},
        id_rows=state.table.rows,
        length_exponent=length_exponent,
    )


def evaluate_on_worker(job: Job, worker: Worker, checkpoint: Location, training: Manifest) -> dict[str, Any]:
    """Metrics of the published checkpoint on validation and test, beside popularity's; writes those of each
    user.

    Returns:
        "metrics", those of all users; "length_exponent", that the items' lengths were ranked with; and
        "files", the records of this worker's files.
    """
    _logger.info("evaluate: reading partitions and the checkpoint")
    trained = load_trained(job, worker, checkpoint, training)
    graph, exchange = trained.graph, trained.exchange
    _logger.info("evaluate: ranking every item for every user")
    # A split may be empty for the whole data set, which only all workers together can tell.
    splits = [split for split in HELD_OUT if exchange.max(len(graph.held_out[split].neighbours)) > 0]
    measured = measure(job.evaluation, trained, splits)
    user_ids = [users for users, _ in external_ids(job, worker, graph)]
    location = RunFolder.of(job).evaluation.location
    files = write_user_metrics(
        evaluation=location, graph=graph, ids=user_ids, by_ranker=measured.of_users, ks=job.evaluation.ks
    )
    return {
        "metrics": measured.metrics,
        "length_exponent": measured.length_exponent,
        "files": _records(files),
    }


@dataclass(frozen=True)
class Measured:
    """What the rankings by the model and by popularity are worth.

    Attributes:
        metrics: the content of metrics.json.
        of_users: by ranker and split, the metrics of this worker's users.
        length_exponent: of the items' lengths, see ``evaluation.item_lengths``.
    """

    metrics: dict[str, Any]
    of_users: dict[str, dict[str, UserMetrics]]
    length_exponent: float


def measure(settings: Evaluation, trained: Trained, splits: Sequence[str]) -> Measured:
    """Metrics of the rankings by the model and by popularity (collective)."""
    trained, exact = rows_to_rank(settings, trained)
    graph, exchange, rows = trained.graph, trained.exchange, exact.final
    del exact  # the rows of each layer are not needed
    of_users = {
        MODEL: held_out_users(settings, graph, rows=rows, exchange=exchange, splits=splits),
        POPULARITY: popularity_users(settings, graph, exchange, splits),
    }
    means = {ranker: means_of(settings, by_split, exchange) for ranker, by_split in of_users.items()}
    groups = group_metrics(settings, graph, rows=rows, exchange=exchange, splits=splits)
    del rows  # frees them before those without a modality are made
    metrics: dict[str, Any] = {**means[MODEL], **groups, "baselines": {POPULARITY: means[POPULARITY]}}
    if settings.contributions:
        without = metrics_without(settings, trained, splits)
        metrics |= {"without": without} if without else {}
    return Measured(metrics, of_users, trained.length_exponent)


def export_on_worker(
    job: Job, worker: Worker, checkpoint: Location, training: Manifest, exponent: float | None = None
) -> dict[str, Any]:
    """Write embeddings and recommendations of the published checkpoint, and the rows that new users and items
    are computed from.

    Args:
        exponent: of item lengths, where the checkpoint's metrics are by it already; otherwise chosen here.

    Returns:
        "files", the records of this worker's files; "users", that have a list; "named", by ``export.users``;
        "length_exponent", of the items' lengths in the item embeddings.
    """
    _logger.info("export: reading partitions and the checkpoint")
    trained = load_trained(job, worker, checkpoint, training)
    made = " and lists" if job.export.recommendations == "exact" else ""
    _logger.info("export: writing embeddings%s", made)
    graph, model = trained.graph, trained.model
    ids = external_ids(job, worker, graph)
    location = RunFolder.of(job).export.location
    ranked = job.evaluation
    if exponent is not None:  # rows that differ in a last digit, as with another W, might choose another one
        ranked = ranked.model_copy(update={"length_exponent": exponent})
    trained, exact = rows_to_rank(ranked, trained)
    written = export_partitions(
        job, graph, rows=exact.final, ids=ids, exchange=trained.exchange, location=location
    )
    fold_in = fold_in_rows(model, exact, graph, item_features(job, worker, graph, tuple(model.modalities)))
    files = written.files | write_fold_in(location, graph, fold_in)
    if worker.rank == 0:
        files |= write_new_items(location, model, feature_maps(job, worker, model))
    return {
        "files": _records(files),
        "users": written.users,
        "named": written.named,
        "length_exponent": trained.length_exponent,
    }


def load_trained(job: Job, worker: Worker, checkpoint: Location, training: Manifest) -> Trained:
    """The model of a published checkpoint (collective)."""
    graph = load_local_graph(job, worker)
    exchange = graph.exchange(worker)
    table = make_table(job, graph, worker.device)
    lists = make_lists(job, graph)
    # The critic is left out: it only trains the generator, and ranks nothing.
    names = [*map(rows_file, graph.parts), GENERATOR]
    files = verified(checkpoint, names, training.files, worker.cache)
    load_rows(files, graph, table, lists)
    model = make_model(job, graph)
    _load_weights(model, load_dense(files, GENERATOR, model))
    views = {modality: learned.graph(exchange) for modality, learned in lists.items()}
    return Trained(
        graph=graph, exchange=exchange, model=model.to(worker.device), views=views, id_rows=table.rows
    )


def _load_weights(model: Mmssl, state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])


def _records(files: Mapping[str, FileRecord]) -> dict[str, dict[str, object]]:
    return {name: asdict(record) for name, record in files.items()}


def _group_for_sampling(worker: Worker, timeout_seconds: int) -> dist.ProcessGroup | None:
    """Sampling runs beside the step, so its collectives need a group of their own; on hosts, so gloo."""
    if worker.group is None:
        return None
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
    return group
