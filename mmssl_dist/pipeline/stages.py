"""The stages in order, and the commands that run one or all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmssl_dist.config import Job
from mmssl_dist.data.files import RawFiles
from mmssl_dist.embedding.inputs import (
    embedded_files,
    embeddings_fingerprint,
    encoded,
    encoder_of,
    has_content,
)
from mmssl_dist.errors import InputError
from mmssl_dist.export.chosen_users import chosen_users
from mmssl_dist.launch.earlier_run import (
    check_inputs,
    check_start,
    id_types_of,
    warn_of_overlap,
    widths_of,
)
from mmssl_dist.launch.fingerprints import (
    evaluation_fingerprint,
    export_fingerprint,
    run_name,
    training_fingerprint,
)
from mmssl_dist.launch.lazy_cluster import LazyCluster, not_needed
from mmssl_dist.launch.left_out import check_modalities
from mmssl_dist.launch.list_table import LIST_TABLE, check_list_table, list_table
from mmssl_dist.launch.preflight import check_writable
from mmssl_dist.pipeline.engine import Pipeline, Stage
from mmssl_dist.pipeline.table_update import update_list_table
from mmssl_dist.report.progress import (
    dataset_summary,
    embeddings_summary,
    evaluation_summary,
    export_summary,
    partitions_summary,
    training_lines,
    training_summary,
)
from mmssl_dist.serving.dated.dated_table import DatedTable
from mmssl_dist.storage import Manifest, RunFolder, begin, require_intact

# The imports within functions bring Ray Data, DGL or torch, which a skipped stage does not need.


def run_all(job: Job, cluster: LazyCluster, force: bool = False) -> dict[str, Manifest]:
    """Bring every stage up to date, in order; returns the stages' manifests by command.

    Raises:
        MmsslError: of the first stage that fails; nothing of it is published.
    """
    pipeline = Pipeline(job, cluster)
    _ = pipeline.raw_files  # wrong inputs are reported before anything is written
    # a finished training outlives the run it started from
    if job.training.start_from is not None and pipeline.folder.training.read() is None:
        check_start(job)
    chosen_users(job)  # a file that export cannot read is known before training
    table = _checked_table(job)  # now: its day is the one on which the command starts
    with pipeline.begun():
        manifests = {stage.command: pipeline.bring_up_to_date(stage, force) for stage in stages_of(job)}
        if table is not None:
            update_list_table(pipeline, manifests[EXPORT.command], table, force)
    return manifests


def stages_of(job: Job, last: Stage[Any] | None = None) -> tuple[Stage[Any], ...]:
    """The stages of ``job`` in order, up to ``last``: with embed where a modality is embedded from raw
    content."""
    stages = (EMBED, *STAGES) if has_content(job) else STAGES
    return stages if last is None else stages[: stages.index(last) + 1]


def run_stage(command: str, job: Job, cluster: LazyCluster, force: bool = False) -> Manifest:
    """Bring one stage up to date, on what the stages before it published; raises as ``bring_up_to_date``."""
    pipeline, stage = Pipeline(job, cluster), _stage(command)
    if stage is EMBED and not has_content(job):
        raise InputError(
            "data.modalities",
            "no encoder and no features",
            "embed makes vectors of raw content, and no modality has any",
            "Name an encoder or features, or run `mmssl-dist prepare`.",
        )
    # First, so that a missing input is reported before job.yaml is replaced.
    stage.source(pipeline)
    table = _checked_table(job) if stage is EXPORT else None
    with pipeline.begun():
        manifest = pipeline.bring_up_to_date(stage, force)
        if table is not None:
            update_list_table(pipeline, manifest, table, force)
    return manifest


def _checked_table(job: Job) -> DatedTable | None:
    """The table that the lists go to, which can be written; None where the job names none."""
    if job.export.table is None:
        return None
    check_list_table(job)
    check_writable(job.export.table.path, job.storage, LIST_TABLE)
    return list_table(job)


def published(command: str, job: Job) -> Manifest | None:
    """What stage ``command`` published, if it is current from the raw files on."""
    try:
        return Pipeline(job, not_needed()).published(_stage(command))
    except InputError:
        # Whatever is wrong, it isn't current; the command that makes it says what.
        return None


def _stage(command: str) -> Stage[Any]:
    return next(stage for stage in (EMBED, *STAGES) if stage.command == command)


def _embed(cluster: LazyCluster, job: Job, files: RawFiles) -> Manifest:
    from mmssl_dist.embedding.embed import embed, identity

    cluster.release_workers()
    names = encoded(job)
    identities = cluster.run_tasks(identity, [(encoder_of(job, name), job) for name in names])
    return embed(job, files, dict(zip(names, identities, strict=True)))


def _discard_embeddings(job: Job, files: RawFiles) -> None:
    begin(RunFolder.of(job).embeddings.location)


def _dataset_files(pipeline: Pipeline) -> RawFiles:
    """The raw files, with vectors in place of content."""
    raw = pipeline.raw_files
    return embedded_files(pipeline.job, raw, pipeline.published(EMBED)) if raw.content else raw


def _check_embeddings(job: Job, files: RawFiles) -> None:
    """Before vectors are read: files that changed since they were published are not the encoder's."""
    if has_content(job):
        folder = RunFolder.of(job).embeddings
        require_intact(folder.location, folder.require())


def _dataset_fingerprint(job: Job, files: RawFiles) -> str:
    from mmssl_dist.data.fingerprint import dataset_fingerprint

    return dataset_fingerprint(job, files)


def _run_preparation(cluster: LazyCluster, job: Job, files: RawFiles) -> Manifest:
    from mmssl_dist.data.prepare import prepare

    cluster.release_workers()
    return prepare(job, files)


def _partitions_fingerprint(job: Job, dataset: Manifest) -> str:
    from mmssl_dist.graph.partition import partitions_fingerprint

    return partitions_fingerprint(job, dataset)


def _run_partitioning(cluster: LazyCluster, job: Job, dataset: Manifest) -> Manifest:
    from mmssl_dist.launch.partition_stage import run_partitioning

    return run_partitioning(cluster, job, dataset)


def _discard_partitioning(job: Job, dataset: Manifest) -> None:
    from mmssl_dist.graph.partition import progress_of

    progress_of(job, dataset).remove()


def check_memory(job: Job, partitions: Manifest) -> None:
    """Refuse to train what the plan says will not fit; raises as ``launch.train_stage.check_memory``."""
    from mmssl_dist.launch import train_stage

    train_stage.check_memory(job, partitions)


def _check_dataset(job: Job, dataset: Manifest) -> None:
    facts = dataset.facts
    widths = {name: modality["dimension"] for name, modality in facts["modalities"].items()}
    check_inputs(job, id_types_of(facts), widths)


def _check_training(job: Job, partitions: Manifest) -> None:
    check_start(job)
    check_inputs(job, id_types_of(partitions.facts), widths_of(partitions.facts))
    check_modalities(job, partitions)
    warn_of_overlap(job)
    check_memory(job, partitions)


def _discard_run(job: Job, partitions: Manifest) -> None:
    (RunFolder.of(job).training.location / run_name(job, partitions)).remove()


def _run_training(cluster: LazyCluster, job: Job, partitions: Manifest) -> Manifest:
    from mmssl_dist.launch.train_stage import run_training

    cluster.release_workers()
    lines = partial(training_lines, epochs=job.training.epochs, metric=job.evaluation.metric)
    return run_training(cluster.connect(), job, partitions, lines)


def _run_evaluation(cluster: LazyCluster, job: Job, training: Manifest) -> Manifest:
    from mmssl_dist.launch.model_stages import run_evaluation

    return run_evaluation(cluster, job, training)


def _check_export(job: Job, training: Manifest) -> None:
    chosen_users(job)


def _run_export(cluster: LazyCluster, job: Job, training: Manifest) -> Manifest:
    from mmssl_dist.launch.model_stages import run_export

    return run_export(cluster, job, training)


EMBED = Stage[RawFiles](
    command="embed",
    publishes="embeddings",
    reads=(),
    source=lambda pipeline: pipeline.raw_files,
    fingerprint=embeddings_fingerprint,
    run=_embed,
    summary=lambda job, facts: embeddings_summary(facts),
    discard=_discard_embeddings,
)
PREPARE = Stage[RawFiles](
    command="prepare",
    publishes="dataset",
    reads=(),
    source=_dataset_files,
    fingerprint=_dataset_fingerprint,
    run=_run_preparation,
    summary=lambda job, facts: dataset_summary(facts),
    check=_check_embeddings,
)
PARTITION = Stage[Manifest](
    command="partition",
    publishes="partitions",
    reads=("dataset",),
    source=lambda pipeline: pipeline.published(PREPARE),
    fingerprint=_partitions_fingerprint,
    run=_run_partitioning,
    summary=lambda job, facts: partitions_summary(facts),
    check=_check_dataset,
    discard=_discard_partitioning,
)
TRAIN = Stage[Manifest](
    command="train",
    publishes="training",
    reads=("partitions",),
    source=lambda pipeline: pipeline.published(PARTITION),
    fingerprint=training_fingerprint,
    run=_run_training,
    summary=lambda job, facts: training_summary(facts, job.evaluation.metric),
    check=_check_training,
    discard=_discard_run,
)
EVALUATE = Stage[Manifest](
    command="evaluate",
    publishes="evaluation",
    reads=("partitions", "training"),
    source=lambda pipeline: pipeline.published(TRAIN),
    fingerprint=evaluation_fingerprint,
    run=_run_evaluation,
    summary=lambda job, facts: evaluation_summary(facts, job.evaluation.metric),
)
EXPORT = Stage[Manifest](
    command="export",
    publishes="export",
    reads=("partitions", "training"),
    source=lambda pipeline: pipeline.published(TRAIN),
    fingerprint=export_fingerprint,
    run=_run_export,
    check=_check_export,
    summary=lambda job, facts: export_summary(facts),
)
# In the order in which they run; each reads only what those before it publish. EMBED comes first where a
# job has raw content.
STAGES: tuple[Stage[Any], ...] = (PREPARE, PARTITION, TRAIN, EVALUATE, EXPORT)
