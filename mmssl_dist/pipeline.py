"""The stages in order. A stage runs when nothing published matches its inputs, and only on inputs that match
theirs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import yaml

from mmssl_dist.cluster.connection import Cluster, connect
from mmssl_dist.cluster.shared_paths import require_shared
from mmssl_dist.config import Job
from mmssl_dist.config.candidates import check_search, with_settings
from mmssl_dist.errors import InputError
from mmssl_dist.launch.artifact_facts import require_facts
from mmssl_dist.launch.fingerprints import (
    evaluation_fingerprint,
    export_fingerprint,
    run_name,
    training_fingerprint,
)
from mmssl_dist.launch.preflight import check_data, check_headers, check_output
from mmssl_dist.report.live import begins, ends
from mmssl_dist.report.progress import (
    Facts,
    dataset_summary,
    evaluation_summary,
    export_summary,
    partitions_summary,
    skipped_line,
    stage_lines,
    training_line,
    training_summary,
)
from mmssl_dist.report.trials import search_summary, write_trials
from mmssl_dist.storage import (
    Location,
    Manifest,
    open_location,
    read_manifest,
    require_intact,
    require_manifest,
    require_whole,
)
from mmssl_dist.tracking.mlflow import check_mlflow
from mmssl_dist.tuning.trials import Trial, best_first, read_trials

_logger = logging.getLogger(__name__)

Connect = Callable[[], Cluster]
BEST_JOB = "best.yaml"


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        trials: all, the best first.
        best: where the best one's job is.
    """

    trials: list[Trial]
    best: str


@dataclass(frozen=True)
class Stage:
    """One arrow of the pipeline.

    Attributes:
        name: its command.
        kind: of the artifact it publishes, and the artifact's folder below the output.
        after: the stage whose artifact it is made from, None for the raw files.
        reads: kinds of all artifacts it reads.
        fingerprint: of what it would publish, from the job and the artifact it reads.
        run: does the work and publishes.
        summary: a few lines about the artifact, from the job and the manifest's facts.
        check: refuses a job that could not be finished, once Ray is connected to and before anything is
            removed.
        discard: removes what the stage would go on from, when it is to start anew.
    """

    name: str
    kind: str
    after: str | None
    reads: tuple[str, ...]
    fingerprint: Callable[[Job, Manifest | None], str]
    run: Callable[[Connect, Job, Manifest | None], Manifest]
    summary: Callable[[Job, Facts], list[str]]
    check: Callable[[Job, Manifest | None], None] = lambda job, source: None
    discard: Callable[[Job, Manifest | None], None] = lambda job, source: None


@contextmanager
def cluster_on_demand(job: Job, address: str | None = None, debug: bool = False) -> Iterator[Connect]:
    """A function that connects to Ray at its first call: a run with nothing to do needs no Ray."""
    with ExitStack() as stack:
        connected: list[Cluster] = []

        def get() -> Cluster:
            if not connected:
                connected.append(stack.enter_context(connect(job.scaling, job.storage, address, debug)))
                require_shared(job)
            return connected[0]

        yield get


def run_all(job: Job, cluster: Connect, force: bool = False) -> dict[str, Manifest]:
    """Every stage in order; returns each stage's manifest by its name.

    Raises:
        MmsslError: of the first stage that fails; what it left is not published.
    """
    check_data(job)
    _begin(job)
    manifests: dict[str, Manifest] = {}
    for stage in STAGES:
        manifests[stage.name] = _bring_up_to_date(
            stage, job, manifests.get(stage.after or ""), cluster, force
        )
    return manifests


def tune(
    job: Job, connect_for: Callable[[Job], AbstractContextManager[Connect]], force: bool = False
) -> Tuned:
    """Bring the partitions up to date, run what is left of the job's search, and write its result.

    The result, below the output: tuning/trials.json and trials.csv, and last tuning/best.yaml, a job for
    `run`.

    Args:
        connect_for: opens a Ray with room for a job's workers.
        force: do away with what is known of this search.

    Raises:
        InputError: the search is none; see ``check_search``.
        MmsslError: a stage, or every trial, failed.
    """
    check_search(job)
    check_data(job)
    _begin(job)
    together = job.search.concurrent * job.scaling.fewest
    roomy = job.model_copy(update={"scaling": job.scaling.model_copy(update={"workers": together})})
    with connect_for(roomy) as cluster:
        partitions: Manifest | None = None
        for stage in STAGES[:2]:
            partitions = _bring_up_to_date(stage, job, partitions, cluster, False)
        return _search(cluster, job, _given(partitions), force)


def _search(cluster: Connect, job: Job, partitions: Manifest, force: bool) -> Tuned:
    from mmssl_dist.tuning.run_trials import TUNING, remaining, run_trials, search_folder

    output = open_location(job.output, job.storage)
    folder, tuning = search_folder(job, partitions), output / TUNING
    if force:
        folder.remove()
    trials = read_trials(folder)
    if left := remaining(job, trials):
        _check_partitions(output, partitions, cluster)
        _check_room(job, partitions)
        (tuning / BEST_JOB).remove()
        _logger.info(
            "tune: %d of %d trials to run, %d at a time",
            left,
            job.search.trials,
            job.search.concurrent,
            extra=begins("tune"),
        )
        started = time.monotonic()
        line = partial(training_line, epochs=job.training.epochs, metric=job.evaluation.metric)
        trials = run_trials(cluster(), job, folder, line)
        _tell_end("tune", [search_summary(trials, job.evaluation.metric)], started)
    else:
        _logger.info(skipped_line("tune", folder.url))
    ranked = best_first(trials)
    write_trials(tuning, ranked)
    text = yaml.safe_dump(with_settings(job, ranked[0].settings).model_dump(mode="json"), sort_keys=False)
    (tuning / BEST_JOB).write_bytes(text.encode())
    return Tuned(ranked, (tuning / BEST_JOB).url)


def _check_partitions(output: Location, manifest: Manifest, cluster: Connect) -> None:
    require_whole(output / manifest.kind, manifest)
    cluster().run_task(require_intact, output / manifest.kind, manifest)


def run_stage(name: str, job: Job, cluster: Connect, force: bool = False) -> Manifest:
    """One stage, on what the stages before it published.

    Raises:
        InputError: a stage before it has published nothing, or something made from other inputs; says what to
            run.
        MmsslError: the stage failed.
    """
    stage = next(stage for stage in STAGES if stage.name == name)
    source = _published(stage.after, job)
    if source is None:
        check_data(job)
    _begin(job)
    return _bring_up_to_date(stage, job, source, cluster, force)


def published(name: str, job: Job) -> Manifest | None:
    """What stage ``name`` published, if it is current from the raw files on."""
    try:
        return _published(name, job)
    except InputError:
        return None


def _begin(job: Job) -> None:
    check_mlflow(job)
    check_output(job)
    text = yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False)
    (open_location(job.output, job.storage) / "job.yaml").write_bytes(text.encode())


def _check_inputs(stage: Stage, job: Job, cluster: Connect) -> None:
    """What can be seen of a stage's inputs before anything is removed, and first what needs no Ray."""
    if not stage.reads:
        check_headers(job)
    output = open_location(job.output, job.storage)
    producers = [(output / other.kind, other) for other in STAGES if other.kind in stage.reads]
    artifacts = [
        (location, require_manifest(location, other.kind, other.name)) for location, other in producers
    ]
    for location, manifest in artifacts:
        require_whole(location, manifest)
    for location, manifest in artifacts:
        cluster().run_task(require_intact, location, manifest)


def _published(name: str | None, job: Job) -> Manifest | None:
    """The artifact of stage ``name``, current from the raw files on."""
    if name is None:
        return None
    stage = next(stage for stage in STAGES if stage.name == name)
    source = _published(stage.after, job)
    location = open_location(job.output, job.storage) / stage.kind
    manifest = require_facts(location, require_manifest(location, stage.kind, stage.name))
    if manifest.fingerprint != stage.fingerprint(job, source):
        raise InputError(
            location.url,
            f"the {stage.kind} of other settings or inputs",
            "a stage reads what its own job's stages published",
            f"Run `mmssl-dist {stage.name}` on this job.",
        )
    return manifest


def _bring_up_to_date(
    stage: Stage, job: Job, source: Manifest | None, cluster: Connect, force: bool
) -> Manifest:
    location = open_location(job.output, job.storage) / stage.kind
    wanted = stage.fingerprint(job, source)
    published = None if force else read_manifest(location, stage.kind)
    if published is not None and published.fingerprint == wanted:
        _logger.info(skipped_line(stage.name, location.url))
        return require_facts(location, published)
    _logger.info("%s: started", stage.name, extra=begins(stage.name))
    started = time.monotonic()
    _check_inputs(stage, job, cluster)
    cluster()  # before anything is removed
    stage.check(job, source)
    if force:
        stage.discard(job, source)
    manifest = stage.run(cluster, job, source)
    _tell_end(stage.name, stage.summary(job, manifest.facts), started)
    return manifest


def _tell_end(stage: str, summary: list[str], started: float) -> None:
    first, *details = stage_lines(stage, summary, time.monotonic() - started)
    _logger.info(first, extra=ends(stage))
    for line in details:
        _logger.info(line)


# The imports below are inside the functions: each brings Ray Data, DGL or torch, which a skipped stage does
# not need.


def _dataset_fingerprint(job: Job, source: Manifest | None) -> str:
    from mmssl_dist.data.prepare import dataset_fingerprint

    return dataset_fingerprint(job)


def _prepare(cluster: Connect, job: Job, source: Manifest | None) -> Manifest:
    from mmssl_dist.data.prepare import prepare

    return prepare(job)


def _partitions_fingerprint(job: Job, source: Manifest | None) -> str:
    from mmssl_dist.graph.partition import partitions_fingerprint

    return partitions_fingerprint(job, _given(source))


def _partition(cluster: Connect, job: Job, source: Manifest | None) -> Manifest:
    from mmssl_dist.graph.partition import partition

    manifest: Manifest = cluster().run_task(partition, job, _given(source))
    return manifest


def _check_room(job: Job, source: Manifest | None) -> None:
    from mmssl_dist.launch.train_stage import check_room

    check_room(job, _given(source))


def _discard_run(job: Job, source: Manifest | None) -> None:
    (open_location(job.output, job.storage) / "training" / run_name(job, _given(source))).remove()


def _train(cluster: Connect, job: Job, source: Manifest | None) -> Manifest:
    from mmssl_dist.launch.train_stage import train

    line = partial(training_line, epochs=job.training.epochs, metric=job.evaluation.metric)
    return train(cluster(), job, _given(source), line)


def _evaluate(cluster: Connect, job: Job, source: Manifest | None) -> Manifest:
    from mmssl_dist.launch.model_stages import evaluate

    return evaluate(cluster(), job, _given(source))


def _export(cluster: Connect, job: Job, source: Manifest | None) -> Manifest:
    from mmssl_dist.launch.model_stages import export

    return export(cluster(), job, _given(source))


def _of_source(function: Callable[[Job, Manifest], str]) -> Callable[[Job, Manifest | None], str]:
    return lambda job, source: function(job, _given(source))


def _given(source: Manifest | None) -> Manifest:
    assert source is not None, "a stage with `after` gets that stage's manifest"
    return source


_TRAINED = ("partitions", "training")
STAGES = (
    Stage(
        "prepare",
        "dataset",
        None,
        (),
        _dataset_fingerprint,
        _prepare,
        lambda job, facts: dataset_summary(facts),
    ),
    Stage(
        "partition",
        "partitions",
        "prepare",
        ("dataset",),
        _partitions_fingerprint,
        _partition,
        lambda job, facts: partitions_summary(facts),
    ),
    Stage(
        "train",
        "training",
        "partition",
        ("partitions",),
        _of_source(training_fingerprint),
        _train,
        lambda job, facts: training_summary(facts, job.evaluation.metric),
        _check_room,
        _discard_run,
    ),
    Stage(
        "evaluate",
        "evaluation",
        "train",
        _TRAINED,
        _of_source(evaluation_fingerprint),
        _evaluate,
        lambda job, facts: evaluation_summary(facts, job.evaluation.metric),
    ),
    Stage(
        "export",
        "export",
        "train",
        _TRAINED,
        _of_source(export_fingerprint),
        _export,
        lambda job, facts: export_summary(facts),
    ),
)
