"""Tuning: trials on Ray Tune, each a training on Ray Train, all on the same partitions, chosen by validation
alone."""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from ray import tune
from ray.tune import registry
from ray.tune.integration.ray_train import TuneReportCallback

from mmssl_dist.cluster.connection import Cluster, describe
from mmssl_dist.cluster.log_relay import in_thread, relayed_logs
from mmssl_dist.cluster.placement_groups import remove_orphans
from mmssl_dist.config import Job
from mmssl_dist.config.candidates import with_settings
from mmssl_dist.errors import NonFiniteError, find_known
from mmssl_dist.launch.fingerprints import training_fingerprint
from mmssl_dist.launch.run_workers import FormatReport, RunSettings, run_workers
from mmssl_dist.launch.worker_entry import train_on_worker
from mmssl_dist.storage import Location, Manifest, RunFolder, fingerprint
from mmssl_dist.tuning.proposals import BEST, EPOCH, Halving, Proposals
from mmssl_dist.tuning.trials import State, Trial, read_trials, write_trial

_logger = logging.getLogger(__name__)

TUNING = "tuning"
_VALUE = "value"
_ORPHAN_SECONDS = 1.0  # between looks for what dead trials have left
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # what is known of a trial is kept by this module
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # lines come from this package
}
_TRIAL_CPUS = 0.01  # a trial itself only waits for its workers


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What every trial is given."""

    job: str
    folder: Location
    environment: Mapping[str, str]
    relay: Any
    debug: bool
    own_ray: bool
    format_report: FormatReport | None


def search_folder(job: Job, partitions: Manifest) -> Location:
    """Folder of what is known of this search; the same for more trials, or more at a time."""
    # Neither changes what a trial is, so a search can be continued with more of them.
    searched = job.search.model_dump(mode="json", exclude={"trials", "concurrent"})
    name = fingerprint("tuning", training_fingerprint(job, partitions), searched)[:12]
    return RunFolder.of(job).root / TUNING / f"search-{name}"


def remaining(job: Job, trials: list[Trial]) -> int:
    """Trials still to be run."""
    return max(0, job.search.trials - sum(trial.ended for trial in trials))


def run_trials(
    cluster: Cluster, job: Job, folder: Location, format_report: FormatReport | None = None
) -> list[Trial]:
    """Run what is left of the search's trials; returns all of them.

    Args:
        folder: see ``search_folder``; what is known of trials there counts, and is added to.
        format_report: see ``RunSettings``.
    """
    # Ray Tune reads these when it is set up; they are its own and not a user's to choose here.
    os.environ.update(_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.INFO if cluster.debug else logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.INFO if cluster.debug else optuna.logging.ERROR)
    trials = read_trials(folder)
    shared = _Shared(
        job=job.model_dump_json(exclude_unset=True),
        folder=folder,
        environment=cluster.environment,
        relay=cluster.relay,
        debug=cluster.debug,
        own_ray=cluster.own,
        format_report=format_report,
    )
    scheduler = Halving(job, trials)
    recorder = _TrialRecorder(folder, trials, scheduler)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, shared=shared), {"CPU": _TRIAL_CPUS}),
        tune_config=tune.TuneConfig(
            search_alg=Proposals(job, trials),
            scheduler=scheduler,
            num_samples=remaining(job, trials),
            max_concurrent_trials=job.search.concurrent,
            # A process of its own for each trial: what one leaves in torch or Ray would reach the next.
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=folder.path,
            storage_filesystem=folder.filesystem,
            callbacks=[recorder],
            verbose=0,
        ),
    )
    try:
        in_thread(cluster.relay, tuner.fit, "tune")
    finally:
        # At exit, when Ray Tune does it, there may be no Ray to be asked.
        registry._unregister_all()
        atexit.unregister(registry._unregister_all)
    # Ray Tune's pickled state: the search resumes from this module's own files, and trusts no pickle.
    (folder / "ray").remove()
    return read_trials(folder)


class _TrialRecorder(tune.Callback):  # type: ignore[misc]
    """Writes what is known of a trial whenever there is something new, in the driver."""

    def __init__(self, folder: Location, trials: list[Trial], scheduler: Halving) -> None:
        self.folder, self.scheduler = folder, scheduler
        self.trials = {trial.number: trial for trial in trials}
        self._looked = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        # Clean up only after dead processes: Ray Train would restart the workers of a trial still stopping.
        if time.monotonic() - self._looked >= _ORPHAN_SECONDS:
            remove_orphans()
            self._looked = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number, settings = trial.config["number"], trial.config["settings"]
        before = self.trials.get(number, Trial(number=number, settings=settings))
        self._keep(replace(before, state="running", message=""))
        words = ", ".join(f"{path}={_shown(value)}" for path, value in settings.items())
        _logger.info("trial %d: %s%s", number, words, " (resumed)" if before.values else "")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        before = self.trials[trial.config["number"]]
        # By epoch, so that a report that comes twice, before and after a restart, counts once.
        values = {**before.values, int(result[EPOCH]): float(result[_VALUE])}
        self._keep(replace(before, values=values))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        stopped = trial.trial_id in self.scheduler.stopped
        self._end(
            trial, replace(self.trials[trial.config["number"]], state="stopped" if stopped else "finished")
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        before = self.trials[trial.config["number"]]
        report = _failure(self.folder, before.number)
        cause: dict[str, Any] = {"diverged": False, "message": "its process died"}
        if report.exists():
            cause = json.loads(report.read_bytes())
        # Before the trial is tried again, so that an old cause is not taken for a new one.
        report.remove()
        state: State = "diverged" if cause["diverged"] else "failed"
        self._end(trial, replace(before, state=state, message=cause["message"]))

    def _end(self, trial: Any, ended: Trial) -> None:
        # Ray Tune's run time covers one start only; sum them.
        ended = replace(
            ended, seconds=ended.seconds + float((trial.last_result or {}).get("time_total_s", 0.0))
        )
        self._keep(ended)
        if ended.ended:
            (self.folder / _run_name(ended.number)).remove()
        best = "no value" if ended.best is None else f"best {ended.best:.4f} in epoch {ended.best_epoch}"
        _logger.info(
            "trial %d: %s after %d epochs, %s%s",
            ended.number,
            ended.state,
            ended.epochs,
            best,
            f" ({ended.message})" if ended.message else "",
        )

    def _keep(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        write_trial(self.folder, trial)


class _ReportToTune(TuneReportCallback):  # type: ignore[misc]
    """In Ray Train's controller: passes each validated epoch on to Ray Tune."""

    def __init__(self, metric: str, best: float | None) -> None:
        super().__init__()
        self.metric, self.best = metric, -math.inf if best is None else best

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        value = metrics[0].get(self.metric, -math.inf)
        if value == -math.inf:  # a checkpoint within an epoch
            return
        # ASHA compares the best so far: a trial that was good once keeps its checkpoint of that time.
        self.best = max(self.best, value)
        report = {EPOCH: int(metrics[0]["epoch"]), _VALUE: value, BEST: self.best}
        super().after_report(run_context, [report], None)


def _trial(config: dict[str, Any], shared: _Shared) -> None:
    """One trial, in a process of its own: a run on Ray Train, whose reports are passed to Ray Tune."""
    with relayed_logs(shared.relay, prefix=f"trial {config['number']}: "):
        try:
            tune.report(_train(config, shared))
        except Exception as error:
            own_error = find_known(error)
            cause = {
                "diverged": isinstance(own_error, NonFiniteError),
                "message": str(own_error or describe(error)),
            }
            _failure(shared.folder, config["number"]).write_bytes(json.dumps(cause).encode())
            raise


def _train(config: Mapping[str, Any], shared: _Shared) -> dict[str, float]:
    """Trains; returns the last report again, since an earlier start may have come that far without its
    report arriving."""
    base = Job.model_validate_json(shared.job)
    job, metric = with_settings(base, config["settings"]), base.evaluation.metric
    # With a relay of its own: lines get the trial's number here.
    cluster = Cluster(shared.environment, shared.debug, shared.own_ray)
    run = RunSettings(
        storage=shared.folder,
        name=_run_name(config["number"]),
        max_failures=job.training.max_failures,
        # One, not ``training.keep_checkpoints``: many trials may fill the storage; a trial only resumes.
        keep=1,
        metric=metric,
        every_minutes=job.training.checkpoint_minutes,
        format_report=shared.format_report,
    )
    callbacks = [_ReportToTune(metric, config["best"])]
    outcome = run_workers(cluster, job, train_on_worker, stage="train", run=run, callbacks=callbacks)
    ended = outcome.returned[0]
    last = ended["history"][-1]
    return {EPOCH: int(last["epoch"]), _VALUE: last[metric], BEST: ended["best"]}


def _run_name(number: int) -> str:
    return f"run-{number:05d}"


def _failure(folder: Location, number: int) -> Location:
    """Where a trial's own process writes what it failed of; Ray Tune has it pickled."""
    return folder / f"failure-{number:05d}.json"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
