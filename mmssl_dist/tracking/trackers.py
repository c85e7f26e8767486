"""Trackers of a training: TensorBoard's event files, MLflow and Weights & Biases where they are named, and
gauges that Ray shows Prometheus.

They receive what goes into the history. One that fails is reported once and receives no more; training
continues.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.train import UserCallback
from ray.util.metrics import Gauge

from mmssl_dist.cluster.connection import describe
from mmssl_dist.cluster.log_relay import relayed_logs
from mmssl_dist.config import Job
from mmssl_dist.storage import RunFolder
from mmssl_dist.tracking.metric_names import figures_of
from mmssl_dist.tracking.mlflow import MlflowRun
from mmssl_dist.tracking.tensorboard import TENSORBOARD, TensorBoard
from mmssl_dist.tracking.wandb import WandbRun

_logger = logging.getLogger(__name__)

# Ray puts ray_ before the names. By the history's name or its beginning: gauge, its own label, description.
GAUGES = {
    "epoch": ("mmssl_epoch", None, "Epochs finished."),
    "loss/": ("mmssl_loss", "term", "Mean of a loss over the steps of the last epoch."),
    "@": ("mmssl_validation", "metric", "Validation metric of the last validated epoch."),
    "rate/pairs": ("mmssl_pairs_per_second", None, "Training pairs per second, over all workers."),
    "share/waiting": ("mmssl_waiting_share", None, "Share of the steps' time spent waiting."),
}


class Tracker(Protocol):
    """Receives every validated epoch."""

    name: str

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """``figures`` of the history's entry of ``epoch``."""


class Prometheus:
    """Gauges labelled by run; whatever scrapes the Ray cluster sees them."""

    name = "Ray metrics"

    def __init__(self, run: str) -> None:
        self.run = run
        self._gauges = {
            key: Gauge(name, description, tag_keys=("run", label) if label else ("run",))
            for key, (name, label, description) in GAUGES.items()
        }

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a validated epoch."""
        for key, gauge, label in ((key, self._gauges[key], GAUGES[key][1]) for key in GAUGES):
            for name, value in {"epoch": float(epoch), **figures}.items():
                if name == key or (label and key in name):
                    gauge.set(value, {"run": self.run} | ({label: name.removeprefix(key)} if label else {}))


class TrackingCallback(UserCallback):  # type: ignore[misc]
    """In Ray Train's controller, which outlives workers: passes validated epochs to the trackers of ``job``.

    Args:
        run: name of the run's folder.
        relay: takes warnings to the driver; see ``relayed_logs``.
    """

    def __init__(self, job: Job, run: str, relay: Any) -> None:
        self.job, self.run, self.relay = job, run, relay
        self._trackers: list[Tracker] | None = None

    def after_report(self, run_context: Any, metrics: Sequence[Mapping[str, float]], checkpoint: Any) -> None:
        """Called by Ray Train when the workers have reported."""
        # Rank 0's; the figures are sums and means over all workers, the same from each.
        entry = metrics[0]
        if "step" in entry:  # a checkpoint within an epoch
            return
        # At the first report, in the controller's process: a tracker's connections do not survive pickling.
        if self._trackers is None:
            self._trackers = self._start()
        figures = figures_of(entry)
        for tracker in list(self._trackers):
            if not self._try(tracker.name, lambda t=tracker: t.epoch(int(entry["epoch"]), figures)):
                # Once is enough: a server that is down would cost its time limit at every epoch.
                self._trackers.remove(tracker)

    def _start(self) -> list[Tracker]:
        output = RunFolder.of(self.job).root
        started: list[Tracker] = []
        makers = {
            "TensorBoard": lambda: started.append(TensorBoard(output / TENSORBOARD / self.run)),
            "Ray metrics": lambda: started.append(Prometheus(f"{Path(output.path).name}/{self.run}")),
        }
        if self.job.tracking.mlflow:
            makers["MLflow"] = lambda: started.append(MlflowRun(self.job, self.run))
        # An offline run is written at the end of a job, whole: see WandbRun.
        if self.job.tracking.wandb and self.job.tracking.wandb_mode == "online":
            # A W&B process of the program that started Ray would keep this run open after the controller's
            # end, and the end of the job could not write to it.
            os.environ.pop("WANDB_SERVICE", None)
            makers[WandbRun.name] = lambda: started.append(WandbRun(self.job, self.run))
        for name, make in makers.items():
            self._try(name, make)
        return started

    def _try(self, name: str, call: Any) -> bool:
        try:
            call()
        except Exception as error:  # noqa: BLE001, whatever it is, training continues
            with relayed_logs(self.relay):
                _logger.warning(
                    "%s: receives no further reports of this training, which continues (%s)",
                    name,
                    describe(error),
                )
            return False
        return True
