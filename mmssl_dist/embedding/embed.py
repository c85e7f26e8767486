"""The embed stage: raw content to the embeddings artifact, with Ray Data.

Items are brought together in ``data.buckets`` buckets; a pool of actors makes one file of each. Files of an
interrupted start stay, under a name that only the same inputs have; the artifact before stays until its
successor is published.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ray.data import ActorPoolStrategy

from mmssl_dist.config.data_sections import Embedding
from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_count import bucket_count
from mmssl_dist.data.files import RawFiles
from mmssl_dist.data.packed_rows import to_fragments
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.row_operations import by_bucket, map_tables
from mmssl_dist.data.runtime import numbers, ray_data
from mmssl_dist.embedding.column_summaries import joined_summaries, summaries_of_json, summary_rows
from mmssl_dist.embedding.inputs import (
    EMBEDDINGS_KIND,
    FORMAT,
    TABULAR_FORMAT,
    embeddings_fingerprint,
    encoder_of,
    fits_of_start,
    with_content_buckets,
)
from mmssl_dist.embedding.shards import (
    EXAMPLES,
    Earlier,
    ShardEmbedder,
    ShardTask,
    content_rows,
    embedded_shards,
    pack_items,
    require_job_dimension,
)
from mmssl_dist.embedding.table_fit import Occurrences, TableFit, fitted, joined_occurrences
from mmssl_dist.embedding.weights import EncoderFolder, EncoderSource, encoder_folder
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.storage import FileRecord, Location, Manifest, RunFolder, fingerprint, publish

_logger = logging.getLogger(__name__)


def embed(job: Job, raw: RawFiles, folders: Mapping[str, tuple[str | None, str]]) -> Manifest:
    """Make and publish the embeddings at ``<output>/embeddings``; Ray has been initialised.

    Args:
        folders: commit and hash of the encoder of each modality that has one; see ``identity``.

    Raises:
        InputError: content or an encoder cannot be used, or no item of a modality has any.
    """
    inputs = embeddings_fingerprint(job, raw)
    job = with_content_buckets(job, raw)
    location = RunFolder.of(job).embeddings.location
    earlier = _earlier(job)
    fits = fits_of_start(job)
    sources = open_sources(job.data, raw).features
    files: dict[str, FileRecord] = {}
    facts: dict[str, Any] = {}
    with ray_data(sum(file.size for file in raw.all())):
        for modality in raw.content:
            source = sources[modality]
            assert isinstance(source, ContentSource)
            if job.data.modalities[modality].features:
                _logger.info("embed: %s by its columns", modality)
                fit = fits.get(modality) or _fit(job, modality, source)
                task, own = _table_task(job, modality, source, fit)
            else:
                task, own = _encoder_task(job, modality, source, folders[modality])
                task = replace(task, earlier=_taken_from(earlier, modality, own["key"], location))
                _logger.info("embed: %s by %s", modality, own["encoder"])
            folder = f"{modality}/{fingerprint(inputs, own['key'])[:12]}"
            written, counts = _embed_modality(job, replace(task, folder=folder))
            files |= written
            facts[modality] = {**own, **counts}
    start = {"start": job.training.start_from} if fits else {}
    manifest = Manifest(
        EMBEDDINGS_KIND,
        inputs,
        {"modalities": facts, "buckets": bucket_count(job), **start},
        dict(sorted(files.items())),
    )
    publish(location, manifest)
    _remove_others(location, manifest)
    return manifest


def identity(source: EncoderSource, job: Job) -> tuple[str | None, str]:
    """Commit and hash of an encoder, which is downloaded if it is not here; raises as ``encoder_folder``."""
    folder: EncoderFolder = encoder_folder(source, job.storage)
    return folder.revision, folder.weights


def actor_options(settings: Embedding, cluster_gpus: float) -> dict[str, Any]:
    """What Ray is asked for: options of ``map_batches``."""
    gpus = settings.gpus_per_actor
    if gpus == "auto":
        gpus = 1.0 if cluster_gpus >= 1 else 0.0
    return {
        "compute": ActorPoolStrategy(size=settings.actors),
        "num_cpus": settings.cpus_per_actor,
        "num_gpus": gpus,
    }


def _encoder_task(
    job: Job, modality: str, source: ContentSource, folder: tuple[str | None, str]
) -> tuple[ShardTask, dict[str, Any]]:
    """What an encoder does, without ``folder`` and ``earlier``; and its facts."""
    revision, weights = folder
    encoder = encoder_of(job, modality)
    # Whatever a vector depends on beside its content: vectors of another key are not taken over.
    key = fingerprint(
        FORMAT, encoder.name, revision, weights, str(source.item_type), job.embedding.max_pixels
    )
    task = ShardTask(
        job=job,
        modality=modality,
        source=source,
        encoder=replace(encoder, revision=revision),
        weights=weights,
        target=RunFolder.of(job).embeddings.location,
        folder="",
        earlier=None,
        gpu=False,
    )
    return task, {"encoder": encoder.name, "revision": revision, "weights": weights, "key": key}


def _table_task(
    job: Job, modality: str, source: ContentSource, fit: TableFit
) -> tuple[ShardTask, dict[str, Any]]:
    """The same of columns of features, of which nothing is taken over: they are encoded as fast as read."""
    task = ShardTask(
        job=job,
        modality=modality,
        source=source,
        encoder=None,
        weights="",
        target=RunFolder.of(job).embeddings.location,
        folder="",
        earlier=None,
        gpu=False,
        fit=fit,
    )
    # With the order of columns, which is that of dimensions.
    key = fingerprint(TABULAR_FORMAT, list(fit.facts().items()), str(source.item_type))
    return task, {"fit": fit.facts(), "key": key}


def _fit(job: Job, modality: str, source: ContentSource) -> TableFit:
    """The fit of all items; raises as ``fitted``."""
    settings = job.data.modalities[modality]
    rows = map_tables(numbers(len(source.pieces)), partial(summary_rows, source=source))
    # In the order of pieces and not of tasks: means depend on it in their last digits.
    parts = sorted((row["piece"], row["summaries"]) for row in rows.iter_rows())
    return fitted(
        f"data.modalities.{modality}",
        settings,
        joined_summaries((summaries_of_json(text) for _, text in parts), settings),
    )


def _embed_modality(job: Job, task: ShardTask) -> tuple[dict[str, FileRecord], dict[str, Any]]:
    import ray

    source, buckets = task.source, bucket_count(job)
    rows = map_tables(
        numbers(len(source.pieces)), to_fragments(partial(content_rows, source=source, buckets=buckets)), None
    )
    packed: Any = by_bucket(rows, partial(pack_items, source=source), buckets).materialize()
    if task.fit is not None:  # nothing to load, so no actors
        shards = map_tables(packed, partial(embedded_shards, task=task), 1)
    else:
        options = actor_options(job.embedding, ray.cluster_resources().get("GPU", 0))
        shards = packed.map_batches(
            ShardEmbedder,
            fn_constructor_args=(replace(task, gpu=options["num_gpus"] > 0),),
            batch_format="pyarrow",
            batch_size=1,
            **options,
        )
    records = {row["name"]: row for row in shards.iter_rows()}
    # By name, so that the examples do not depend on the order in which tasks end.
    return (
        {name: FileRecord(row["bytes"], row["sha256"]) for name, row in records.items()},
        _counts(job, task, (json.loads(records[name]["facts"]) for name in sorted(records))),
    )


def _counts(job: Job, task: ShardTask, shards: Iterable[dict[str, Any]]) -> dict[str, Any]:
    left_out: Counter[str] = Counter()
    examples, widths = list[str](), set[int]()
    items = embedded = 0
    occurrences = list[Occurrences]()
    for facts in shards:
        occurrences.append(facts.get("occurrences", {}))
        items, embedded = items + facts["items"], embedded + facts["embedded"]
        left_out.update(facts["left_out"])
        examples += facts["examples"]
        widths |= {facts["dimension"]} - {0}  # 0 of a file without vectors
    if not items:
        reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
        raise InputError(
            f"data.modalities.{task.modality}",
            reasons or "no row",
            "a modality needs a text, a picture or features for at least one item",
            "Check the table, its columns and the files.",
        )
    assert len(widths) == 1, "vectors of one encoder have one width"
    (width,) = widths
    if task.encoder is not None:
        require_job_dimension(job, task.modality, task.encoder.name, width)  # of vectors taken over, too
    of_columns = {} if task.fit is None else {"occurrences": joined_occurrences(occurrences)}
    return {
        "dimension": width,
        "items": items,
        "embedded": embedded,
        "left_out": dict(sorted(left_out.items())),
        "examples": examples[:EXAMPLES],
        **of_columns,
    }


def _earlier(job: Job) -> Manifest | None:
    try:
        return RunFolder.of(job).embeddings.read()
    except ArtifactError:  # it is replaced
        return None


def _taken_from(earlier: Manifest | None, modality: str, key: str, location: Location) -> Earlier | None:
    """The files of the artifact before, if the same encoder made them."""
    if earlier is None or earlier.facts.get("modalities", {}).get(modality, {}).get("key") != key:
        return None
    names = tuple(name for name in earlier.files if name.startswith(f"{modality}/"))
    return Earlier(location, names, earlier.facts["buckets"])


def _remove_others(location: Location, manifest: Manifest) -> None:
    """Delete files of the artifact before, and of starts that other inputs interrupted."""
    kept = {name.rpartition("/")[0] for name in manifest.files}
    listed = {location.relative(info).rpartition("/")[0] for info in location.files()}
    for folder in sorted(listed - kept - {""}):
        (location / folder).remove()
