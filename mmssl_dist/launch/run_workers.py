"""W workers on Ray Train: each calls a function with the job, its rank and device, and its session."""

from __future__ import annotations

import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import ray
import ray.train
import torch.distributed as dist
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from mmssl_dist.cluster.capacity import await_room
from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.cluster.environment import temporary_environment
from mmssl_dist.cluster.log_relay import in_thread, relayed_logs
from mmssl_dist.config import Job
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.launch.failure_policy import FailurePolicy
from mmssl_dist.launch.failures import EndOnPermanentFailure, unwrap
from mmssl_dist.launch.heartbeat import heartbeat
from mmssl_dist.launch.lean_trainer import OWN_RAY_SETTINGS, LeanTrainer
from mmssl_dist.storage import Location, downloads_folder
from mmssl_dist.training.improvement import CHECKPOINT_SCORE, order_key
from mmssl_dist.training.session import Session

_logger = logging.getLogger(__name__)

_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a report waits for the next check; Ray's default is 2 s
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the driver's working directory
}

_UPLOAD_POLL_SECONDS = 0.1
_RESIZE_SECONDS = 60.0  # between two checks for machines that an elastic group could grow to
_NOTICE_SECONDS = 5.0  # between two checks for a notice that a machine will go; clouds give 30 s or more
_CHECKPOINTS = "checkpoint_*"  # Ray Train's names of their folders, which sort by age

Result = TypeVar("Result")
FormatReport = Callable[[Mapping[str, float]], Sequence[str]]
WorkerFunction = Callable[[Job, Worker, Session], Result]
"""What runs in each worker. It is pickled by reference, so workers must be able to import its module."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where Ray Train keeps a run, and when it restarts its workers.

    Attributes:
        storage: folder of the run's folder; shared by all machines of the cluster.
        name: name of the run's folder; a run with the same storage and name resumes from its latest
            checkpoint.
        max_failures: times a lost worker group is restarted.
        keep: checkpoints kept, the best by ``metric``; the latest is kept as well.
        metric: the reported metric that ranks checkpoints, larger being better.
        every_minutes: longest time between two checkpoints of a session.
        format_report: the log lines of a report's metrics, the first one with what is watched; None logs
            nothing.
    """

    storage: Location
    name: str
    max_failures: int = 0
    keep: int | None = None
    metric: str | None = None
    every_minutes: float = math.inf
    format_report: FormatReport | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A kept checkpoint: its folder's path on the storage's filesystem, and the metrics reported with it."""

    path: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The outcome of a run.

    Attributes:
        returned: the function's result of each worker, by rank.
        checkpoints: the kept checkpoints, including those of the run's earlier starts.
    """

    returned: tuple[Result, ...]
    checkpoints: tuple[Checkpoint, ...]


class RaySession:
    """A session on Ray Train; checkpoints are uploaded while training continues."""

    def __init__(self, run: RunSettings, stage: str, rank: int) -> None:
        self.run, self.stage, self.rank = run, stage, rank
        self._uploading: Path | None = None
        self._reported = self._looked = time.monotonic()
        self._leaving: set[str] = set()

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """See ``Session.report``; Ray Train uploads the checkpoint in the background."""
        files = None if checkpoint is None else ray.train.Checkpoint.from_directory(str(checkpoint))
        # one checkpoint at a time waits on this machine's disk: Ray Train deletes what it has uploaded
        while self._uploading is not None and self._uploading.exists():
            time.sleep(_UPLOAD_POLL_SECONDS)
        ray.train.report(
            {**metrics, **retention(metrics, self.run.metric)},
            checkpoint=files,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        )
        self._uploading, self._reported = checkpoint, time.monotonic()
        if self.run.format_report is not None and self.rank == 0:
            first, *details = self.run.format_report(metrics)
            _logger.info("%s: %s", self.stage, first)
            for line in details:
                _logger.info("%s:   %s", self.stage, line)

    def checkpoints(self) -> Sequence[Location]:
        """See ``Session.checkpoints``."""
        latest = ray.train.get_checkpoint()
        if latest is None:
            return ()
        run, name = self.run.storage / self.run.name, PurePosixPath(latest.path).name
        # All of them, as the latest may be damaged: whoever resumes then takes the one before.
        folders = {run.relative(info).split("/")[0] for info in run.files()}
        older = sorted((f for f in folders if fnmatch(f, _CHECKPOINTS) and f < name), reverse=True)
        return [run / folder for folder in (name, *older)]

    def checkpoint_due(self, agree: Callable[[int], int]) -> bool:
        """True when ``every_minutes`` have passed, and once for each machine that is about to be taken
        away."""
        now, request = time.monotonic(), 0
        if self.rank == 0 and now - self._reported >= 60 * self.run.every_minutes:
            request = 2
        elif self.rank == 0 and now - self._looked >= _NOTICE_SECONDS:
            request = 1
        # Every worker asks at every step: a checkpoint is collective, and clocks of workers differ.
        agreed = agree(request)
        if agreed != 1:
            return agreed == 2
        self._looked = now
        notice = ray.train.get_preemption_info()  # the same on all workers, who all ask
        leaving = set(notice.preempted_node_to_ranks) - self._leaving if notice else set()
        self._leaving |= leaving
        if notice and leaving and self.rank == 0:
            _logger.warning(
                "%s: the machine of worker(s) %s is about to be taken away; writing a checkpoint",
                self.stage,
                ", ".join(map(str, notice.preempted_ranks)),
            )
        return bool(leaving)


def retention(metrics: Mapping[str, float], metric: str | None) -> dict[str, float]:
    """The entries that a report needs beside its metrics, for Ray Train to choose the checkpoints it keeps.

    Ray Train keeps the later one of equal scores, so the score that it uses distinguishes equal metrics.
    """
    if metric is None:
        return {}
    if metric in metrics:
        return {CHECKPOINT_SCORE: order_key(metrics[metric], metrics["epoch"])}
    # within an epoch nothing was validated: such a checkpoint is kept as the latest only
    return {metric: -math.inf, CHECKPOINT_SCORE: -math.inf}


def run_workers(
    cluster: Cluster,
    job: Job,
    function: WorkerFunction[Result],
    *,
    stage: str,
    run: RunSettings,
    callbacks: Sequence[UserCallback] = (),
) -> Outcome[Result]:
    """Run ``function`` on ``scaling.workers`` workers with a process group.

    Args:
        stage: the command, to start log lines with.
        callbacks: for Ray Train's controller.

    Raises:
        MmsslError: as a worker raised it; or the cluster had no room for the workers within
            ``scaling.wait_seconds``.
        WorkerError: a worker raised something else, or died more often than ``run.max_failures``.
    """
    # Set by default only, so that a user who knows Ray Train's variables can still overrule them.
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    scaling = job.scaling
    # Ray Train itself waits for ever and says nothing about what is missing.
    await_room([scaling.per_worker] * scaling.fewest, scaling.wait_seconds, stage)
    size = f"{scaling.fewest}" if scaling.fewest == scaling.most else f"{scaling.fewest} to {scaling.most}"
    _logger.info("%s: starting %s worker(s)", stage, size)
    resources = {name: amount for name, amount in scaling.per_worker.items() if name in ("CPU", "GPU")}
    policy = FailurePolicy(stage, run.storage, cluster.relay)
    trainer = LeanTrainer(
        _enter,
        own_ray=cluster.own,
        train_loop_config={
            "job": job.model_dump_json(),
            "stage": stage,
            "function": function,
            "run": run,
            "relay": cluster.relay,
        },
        torch_config=TorchConfig(
            # host tensors (sampling, ids) and device tensors each have their backend in one group
            backend="cpu:gloo,cuda:nccl" if scaling.gpus_per_worker else "gloo",
            timeout_s=job.training.timeout_seconds,
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.workers,
            use_gpu=bool(scaling.gpus_per_worker),
            resources_per_worker=resources,
            accelerator_type=scaling.accelerator,
            elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
        ),
        run_config=_run_config(cluster, run, [EndOnPermanentFailure(policy), *callbacks]),
    )
    # Ray Train's ``fit`` blocks; in a thread the driver can pass on the workers' log meanwhile.
    settings = OWN_RAY_SETTINGS if cluster.own else {}
    with temporary_environment({name: value for name, value in settings.items() if name not in os.environ}):
        result = in_thread(cluster.relay, lambda: _fit(trainer, stage), f"fit-{stage}")
    kept = tuple(Checkpoint(folder.path, metrics) for folder, metrics in result.best_checkpoints or ())
    return Outcome(tuple(result.return_value), kept)


def _run_config(cluster: Cluster, run: RunSettings, callbacks: Sequence[UserCallback]) -> ray.train.RunConfig:
    """What Ray Train keeps, repeats and logs."""
    return ray.train.RunConfig(
        name=run.name,
        storage_path=run.storage.path,
        storage_filesystem=run.storage.filesystem,
        failure_config=ray.train.FailureConfig(max_failures=run.max_failures),
        checkpoint_config=ray.train.CheckpointConfig(
            num_to_keep=run.keep,
            checkpoint_score_attribute=None if run.metric is None else CHECKPOINT_SCORE,
            checkpoint_score_order="max",
        ),
        callbacks=list(callbacks),
        worker_runtime_env={"env_vars": dict(cluster.environment)},
        logging_config=ray.train.LoggingConfig(log_level="INFO" if cluster.debug else "ERROR"),
    )


def at_path(storage: Location, path: str) -> Location:
    """The location of ``path``, on the filesystem of ``storage`` and below it."""
    return storage / path.removeprefix(storage.path).strip("/")


def _fit(trainer: TorchTrainer, stage: str) -> Any:
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise unwrap(error, stage) from error


def _enter(config: dict[str, Any]) -> tuple[Any, ...]:
    """Runs in each worker; returns every worker's result, by rank."""
    job = Job.model_validate_json(config["job"])
    context = ray.train.get_context()
    # Asked of Ray Train at every start, as an elastic group may come back with other ranks and another size.
    rank, size = context.get_world_rank(), context.get_world_size()
    worker = Worker(
        rank=rank, world_size=size, device=get_device(), cache=downloads_folder(), group=dist.group.WORLD
    )
    with relayed_logs(config["relay"], worker.rank):
        try:
            session = RaySession(config["run"], config["stage"], worker.rank)
            with heartbeat(worker, dist.distributed_c10d._get_default_store()):
                returned = config["function"](job, worker, session)
        except Exception as error:
            error.add_note(f"In worker {worker.rank}:\n{traceback.format_exc()}")  # tracebacks don't travel
            raise
    gathered: list[Any] = [None] * worker.world_size
    # Ray Train hands back the result of rank 0 alone, so it has to have the others' by then.
    dist.all_gather_object(gathered, returned)
    return tuple(gathered)
