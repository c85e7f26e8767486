"""The search for settings: trials on published partitions, and a job of the best one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import yaml

from mmssl_dist.config import Job
from mmssl_dist.config.candidates import check_search, with_settings
from mmssl_dist.errors import WorkerError
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.pipeline.engine import Pipeline, log_end
from mmssl_dist.pipeline.stages import PARTITION, check_memory, stages_of
from mmssl_dist.report.live import begins
from mmssl_dist.report.progress import skipped_line, training_lines
from mmssl_dist.report.trial_table import search_summary, write_trials
from mmssl_dist.storage import Location, Manifest
from mmssl_dist.tuning.trials import Trial, best_first, read_trials

_logger = logging.getLogger(__name__)

BEST_JOB = "best.yaml"


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes:
        trials: all, the best first.
        best: URL of the best trial's job.
    """

    trials: list[Trial]
    best: str


def search(
    job: Job, open_cluster: Callable[[Job], AbstractContextManager[LazyCluster]], force: bool = False
) -> SearchResult:
    """Bring the partitions up to date, run the trials that remain of the job's search, write its result.

    The result, below the output: tuning/trials.json and trials.csv, and last tuning/best.yaml, a job for
    `run`.

    Args:
        open_cluster: opens a Ray with room for a job's workers.
        force: discard all earlier trials of this search.

    Raises:
        InputError: the job has no valid search; see ``check_search``.
        MmsslError: a stage, or every trial, failed.
    """
    # Before a Ray is opened: its values are checked against the schema alone.
    check_search(job)
    together = job.search.concurrent * job.scaling.fewest
    # A Ray started here needs room for all trials that run at a time.
    roomy = job.model_copy(update={"scaling": job.scaling.model_copy(update={"workers": together})})
    with open_cluster(roomy) as cluster:
        pipeline = Pipeline(job, cluster)
        _ = pipeline.raw_files  # wrong inputs are reported before anything is written
        with pipeline.begun():
            *_, partitions = [pipeline.bring_up_to_date(stage) for stage in stages_of(job, PARTITION)]
            return _search(pipeline, partitions, force)


def _search(pipeline: Pipeline, partitions: Manifest, force: bool) -> SearchResult:
    from mmssl_dist.tuning.run_trials import TUNING, remaining, search_folder

    job = pipeline.job
    folder, tuning = search_folder(job, partitions), pipeline.folder.root / TUNING
    if force:
        folder.remove()
    trials = read_trials(folder)
    if remaining(job, trials):
        pipeline.check_artifacts(pipeline.folder.partitions)
        pipeline.cluster.connect()  # what fits depends on the machines it has
        check_memory(job, partitions)
        # The last file of the result: while it is missing, no search looks finished.
        (tuning / BEST_JOB).remove()
        trials = _run_remaining(pipeline, folder, trials)
    else:
        _logger.info(skipped_line("tune", folder.url))
    # Written again even without a new trial, as results of another search may lie there.
    ranked = best_first(trials)
    write_trials(tuning, ranked)
    if not ranked[0].is_candidate:
        (tuning / BEST_JOB).remove()
        raise WorkerError(
            f"every trial failed; the last one: {trials[-1].message.rstrip('.')}. Change the ranges of "
            "search.space, or search again with --force."
        )
    text = yaml.safe_dump(with_settings(job, ranked[0].settings).model_dump(mode="json"), sort_keys=False)
    (tuning / BEST_JOB).write_bytes(text.encode())
    return SearchResult(ranked, (tuning / BEST_JOB).url)


def _run_remaining(pipeline: Pipeline, folder: Location, trials: list[Trial]) -> list[Trial]:
    from mmssl_dist.tuning.run_trials import remaining, run_trials

    job, started = pipeline.job, time.monotonic()
    _logger.info(
        "tune: %d of %d trials to run, %d at a time",
        remaining(job, trials),
        job.search.trials,
        job.search.concurrent,
        extra=begins("tune"),
    )
    lines = partial(training_lines, epochs=job.training.epochs, metric=job.evaluation.metric)
    trials = run_trials(pipeline.cluster.connect(), job, folder, lines)
    log_end("tune", [search_summary(trials, job.evaluation.metric)], started)
    return trials
