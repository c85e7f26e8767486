"""The loop over epochs: publish lists, steps, checkpoints on the way, validation, checkpoint, early stop."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmssl_dist.config.job import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.sampling.batch import Batch, BatchSampler
from mmssl_dist.sampling.prefetch import Prefetcher
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.training.checkpoint import Position, resume, save_checkpoint
from mmssl_dist.training.improvement import improves
from mmssl_dist.training.phases import epoch_figures
from mmssl_dist.training.session import Session
from mmssl_dist.training.state import TrainingState, initial_state
from mmssl_dist.training.step import TrainingStep

Validate = Callable[[TrainingState], dict[str, float]]
Start = Callable[[TrainingState], dict[str, float]]


class TrainingLoop:
    """Trains from the run's latest whole checkpoint, or from the start, until no improvement or the last
    epoch.

    Args:
        sampler_exchange: on CPU, over a group of its own.
        validate: metrics of the current state on the validation interactions (collective).
        start: brings the initial state to where an earlier run ended, and returns figures about that
            (collective); None for a training from the beginning.
        clock: seconds since some moment.
    """

    def __init__(
        self,
        job: Job,
        worker: Worker,
        graph: LocalGraph,
        exchange: Exchange,
        sampler_exchange: Exchange,
        session: Session,
        validate: Validate,
        start: Start | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job, self.worker, self.graph, self.session, self.validate = job, worker, graph, session, validate
        self.exchange, self.sampler_exchange = exchange, sampler_exchange
        self.state = initial_state(job, graph, worker.device)
        self.sampler = BatchSampler(graph, sampler_exchange, job, worker.device)
        self.step = TrainingStep(job, graph, exchange, self.state)
        self.phases, self._pairs = self.step.phases, 0
        checkpoints = session.checkpoints()
        self.position = resume(checkpoints, graph, state=self.state, exchange=exchange, cache=worker.cache)
        # A run with checkpoints of its own has taken over the earlier one already.
        self._start = None if checkpoints else start
        self._clock = clock

    def next_figures(self) -> int | None:
        """The epoch whose validation comes next: 0 for the state taken over from another run, None where
        training is over."""
        done, last = self.position.epochs, self.job.training.epochs
        if self._start is not None:
            return 0
        if done >= last or self._stalled():
            return None
        every = self.job.evaluation.every_epochs
        return min((done // every + 1) * every, last)

    def run(self) -> Position:
        """Train. Returns where training ended; every validated epoch was reported with a checkpoint."""
        evaluation = self.job.evaluation
        batches = Prefetcher(self.sampler, self.job.training.prefetch)
        self._show_lists()
        if self._start is not None:
            self._begin_from(self._start)
        # Nor is what loading moved, or waiting for a worker that started later, part of the steps' figures.
        self.exchange.traffic.take()
        try:
            while self.position.epochs < self.job.training.epochs and not self._stalled():
                epoch = self.position.epochs
                # Only at the start of an epoch: one resumed midway samples from lists published before it.
                if self.position.steps == 0 and epoch % self.job.model.modality_graph.refresh_epochs == 0:
                    self._publish_lists()
                losses = self._epoch(batches, epoch)
                self.position = replace(self.position, epochs=epoch + 1, steps=0, losses={})
                if (epoch + 1) % evaluation.every_epochs == 0 or epoch + 1 == self.job.training.epochs:
                    figures = self._figures(batches)
                    metrics, seconds = self._validation()
                    trained = self.position.seconds / (epoch + 1 - self._validated())
                    times = {
                        "epoch": float(epoch + 1),
                        "train_seconds": trained,
                        "validation_seconds": seconds,
                    }
                    self._finish(
                        times | {f"loss/{name}": x for name, x in losses.items()} | metrics | figures
                    )
        finally:
            batches.close()
        return self.position

    def _begin_from(self, start: Start) -> None:
        """Take over an earlier run, and hand in the state before the first step as epoch 0: it may be the
        best."""
        figures = start(self.state)
        metrics, seconds = self._validation()
        times = {"train_seconds": 0.0, "validation_seconds": seconds}
        best = metrics[self.job.evaluation.metric]
        self.position = replace(
            self.position,
            row_steps=self.state.table.steps,
            best=best,
            start=figures | metrics,
        )
        self._hand_in({"epoch": 0.0, "best_epoch": 0.0, "best": best} | times | metrics)

    def _validation(self) -> tuple[dict[str, float], float]:
        """The validation metrics of the present state, and the seconds they took."""
        started = self._clock()
        metrics = self.validate(self.state)
        # What validation moves between workers is no part of the next steps' figures.
        self.exchange.traffic.take()
        return metrics, self._clock() - started

    def _epoch(self, batches: Prefetcher, epoch: int) -> dict[str, float]:
        """One pass over the training interactions, or what is left of it. Returns the mean of each loss over
        steps."""
        # As if the interrupted start had never paused, so that rates are those of the work alone.
        started = self._clock() - self.position.seconds
        totals = dict(self.position.losses)
        for batch in self._waited(batches.epoch(epoch, self.position.steps)):
            for name, value in self.step(batch.to(self.worker.device)).items():
                totals[name] = totals.get(name, 0.0) + value
            self.position = replace(
                self.position,
                steps=batch.step + 1,
                row_steps=self.state.table.steps,
                losses=dict(totals),
                seconds=self._clock() - started,
            )
            self._pairs += batch.pairs
            self.phases.end_step()
            if batch.step + 1 < self.sampler.steps and self.session.checkpoint_due(self.exchange.max):
                where = {"epoch": epoch + 1, "step": batch.step + 1, "steps": self.sampler.steps}
                self._hand_in({name: float(value) for name, value in where.items()})
        return {name: value / self.sampler.steps for name, value in totals.items()}

    def _waited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """``batches``; getting each one is the phase "wait"."""
        while True:
            with self.phases("wait"):
                batch = next(batches, None)
            if batch is None:
                self.phases.forget()
                return
            yield batch

    def _figures(self, batches: Prefetcher) -> dict[str, float]:
        """What the steps since the last call took (collective)."""
        steps = self.phases.take()
        if not steps:  # resumed where an epoch had ended
            return {}
        seconds, edges = batches.take()
        pairs, self._pairs = self._pairs, 0
        sample = {"sample": np.array(seconds)}
        return epoch_figures(
            steps, sample, exchange=self.exchange, sampler=self.sampler_exchange, pairs=pairs, edges=edges
        )

    def _publish_lists(self) -> None:
        for lists in self.state.lists.values():
            lists.publish()
        self._show_lists()

    def _show_lists(self) -> None:
        self.sampler.publish({m: lists.graph(self.sampler_exchange) for m, lists in self.state.lists.items()})

    def _validated(self) -> int:
        """The last epoch with a validation."""
        return int(self.position.history[-1]["epoch"]) if self.position.history else 0

    def _stalled(self) -> bool:
        """Whether early stopping ends the training."""
        return self.position.validations_since_best >= self.job.evaluation.patience

    def _finish(self, entry: dict[str, float]) -> None:
        """Note a validated epoch, and hand in its checkpoint."""
        before, value = self.position, entry[self.job.evaluation.metric]
        better = improves(value, before.best)
        best_epoch = before.epochs if better else before.best_epoch
        best = value if better or before.best is None else before.best
        # Into the history before the checkpoint is made, so that a resume from it knows of this epoch.
        entry = {**entry, "best_epoch": float(best_epoch), "best": best}
        self.position = replace(
            before,
            seconds=0.0,
            best=best,
            best_epoch=best_epoch,
            validations_since_best=0 if better else before.validations_since_best + 1,
            history=(*before.history, entry),
        )
        self._hand_in(entry)

    def _hand_in(self, entry: Mapping[str, float]) -> None:
        """A checkpoint of the present state, reported with ``entry``."""
        # Not a context manager: Ray Train uploads it after this function has returned, and removes it then.
        folder = Path(tempfile.mkdtemp(prefix="mmssl-checkpoint-"))
        try:
            save_checkpoint(folder, self.graph, state=self.state, position=self.position, worker=self.worker)
        # Whatever ends it, a signal too: nobody else would remove half a checkpoint.
        except BaseException:
            shutil.rmtree(folder)
            raise
        self.session.report(entry, folder)
