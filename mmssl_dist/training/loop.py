"""The loop over epochs: publish lists, steps, validation, checkpoint, early stop."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmssl_dist.config.tree import Job
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sampling.prefetch import Prefetcher
from mmssl_dist.sharding.exchange import Exchange
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.worker import Worker
from mmssl_dist.training.checkpoint import Position, resume, save_dense, save_rows
from mmssl_dist.training.session import Session
from mmssl_dist.training.state import TrainingState, initial_state
from mmssl_dist.training.step import TrainingStep

Validate = Callable[[TrainingState], dict[str, float]]


class TrainingLoop:
    """Trains from the run's latest checkpoint, or from the start, until no improvement or the last epoch.

    Args:
        sampler_exchange: on CPU, over a group of its own.
        validate: metrics of the current state on the validation interactions (collective).
    """

    def __init__(self, job: Job, worker: Worker, graph: LocalGraph, exchange: Exchange, sampler_exchange: Exchange,
                 session: Session, validate: Validate) -> None:  # fmt: skip
        self.job, self.worker, self.graph, self.session, self.validate = job, worker, graph, session, validate
        self.sampler_exchange = sampler_exchange
        self.state = initial_state(job, graph, worker.device)
        self.sampler = BatchSampler(graph, sampler_exchange, job)
        self.step = TrainingStep(job, graph, exchange, self.state)
        latest = session.latest()
        self.position = resume(latest, graph, self.state, worker.cache) if latest else Position()

    def run(self) -> Position:
        """Train. Returns where training ended; every validated epoch was reported with a checkpoint."""
        evaluation = self.job.evaluation
        batches = Prefetcher(self.sampler, self.job.training.prefetch)
        self._show_lists()
        try:
            while self.position.epochs < self.job.training.epochs and not self._stalled():
                epoch = self.position.epochs
                started = time.monotonic()
                if epoch % self.job.model.modality_graph.refresh_epochs == 0:
                    self._publish_lists()
                losses = self._epoch(batches, epoch)
                self.position = replace(self.position, epochs=epoch + 1, row_steps=self.state.table.steps)
                if (epoch + 1) % evaluation.every_epochs == 0 or epoch + 1 == self.job.training.epochs:
                    trained = time.monotonic() - started
                    metrics = self.validate(self.state)
                    seconds = time.monotonic() - started - trained
                    self._finish({"epoch": float(epoch + 1), "train_seconds": trained, "validation_seconds": seconds}
                                 | {f"loss/{name}": value for name, value in losses.items()} | metrics)  # fmt: skip
        finally:
            batches.close()
        return self.position

    def _epoch(self, batches: Prefetcher, epoch: int) -> dict[str, float]:
        """One pass over the training interactions; the mean of each loss over the steps."""
        totals: dict[str, float] = {}
        for batch in batches.epoch(epoch):
            for name, value in self.step(batch.to(self.worker.device)).items():
                totals[name] = totals.get(name, 0.0) + value
        return {name: value / self.sampler.steps for name, value in totals.items()}

    def _publish_lists(self) -> None:
        for lists in self.state.lists.values():
            lists.publish()
        self._show_lists()

    def _show_lists(self) -> None:
        self.sampler.publish({m: lists.graph(self.sampler_exchange) for m, lists in self.state.lists.items()})

    def _stalled(self) -> bool:
        return self.position.validations_since_best >= self.job.evaluation.patience

    def _finish(self, entry: dict[str, float]) -> None:
        """Note a validated epoch, and hand in its checkpoint."""
        before, value = self.position, entry[self.job.evaluation.metric]
        better = before.best is None or value > before.best
        self.position = replace(
            before,
            best=value if better else before.best,
            best_epoch=before.epochs if better else before.best_epoch,
            validations_since_best=0 if better else before.validations_since_best + 1,
            history=(*before.history, entry),
        )
        folder = Path(tempfile.mkdtemp(prefix="mmssl-checkpoint-"))
        try:
            save_rows(folder, self.graph, self.state.table, self.state.lists)
            save_dense(folder, self.state, self.position, self.worker.rank)
        except BaseException:
            shutil.rmtree(folder)
            raise
        self.session.report(entry, folder)
