"""The partition stage: cuts the graph of training interactions and publishes one folder per part. Every node
is in exactly one part, and what a part holds does not depend on the cut but for the numbering of nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl_dist.config.job import Job
from mmssl_dist.graph import names
from mmssl_dist.graph.cut_method import require_nodes
from mmssl_dist.graph.part_files import Progress
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, fingerprint, publish

NEUTRAL = frozenset({"workers"})
"""Settings of ``partition`` that its result does not depend on."""

_LATER = {"feature_dimensions": 0, "row_type": "float32", "least_lift": 0}
"""Settings that earlier versions lacked, and what these versions did."""


def partitions_fingerprint(job: Job, dataset: Manifest) -> str:
    """Equal for equal partitions: the dataset, the ``partition`` section, the seed and this version's
    format."""
    # The number of workers is left out: the result is the same, so it must not cause a second run.
    settings = job.partition.model_dump(exclude=set(NEUTRAL))
    if not job.partition.item_neighbours:
        del settings["least_lift"]  # nothing is compared
    # Nothing at all of these unless they are set, so that partitions made before there were any stay.
    settings = {name: value for name, value in settings.items() if _LATER.get(name, ...) != value}
    return fingerprint(names.KIND, names.FORMAT, settings, job.seed, dataset.fingerprint)


def progress_of(job: Job, dataset: Manifest) -> Progress:
    """What an earlier start has published of the partitions of ``job``."""
    return Progress(RunFolder.of(job).partitions.location, partitions_fingerprint(job, dataset))


def partition(job: Job, dataset: Manifest) -> Manifest:
    """Partition the dataset of ``job`` with one worker, and publish the result below its output.

    Raises:
        InputError: there are more parts than nodes.
        ArtifactError: a file of the dataset is not what its manifest says.
        MmsslError: METIS gave up.
    """
    import torch

    from mmssl_dist.exchange.worker import Worker
    from mmssl_dist.graph.partition_worker import write_partitions

    require_nodes_of(job, dataset)
    with tempfile.TemporaryDirectory(prefix="partition-") as folder:
        worker = Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path(folder), group=None)
        write_partitions(job, worker, dataset, progress_of(job, dataset))
    return publish_partitions(job, dataset)


def require_nodes_of(job: Job, dataset: Manifest) -> None:
    """Raise an InputError unless every part of ``job`` can have a node."""
    require_nodes(job.partition.parts, int(dataset.facts["users"]), int(dataset.facts["items"]))


def publish_partitions(job: Job, dataset: Manifest) -> Manifest:
    """Publish what the workers have written."""
    progress, parts = progress_of(job, dataset), range(job.partition.parts)
    modalities = dict(dataset.facts["modalities"])
    files: dict[str, FileRecord] = {}
    facts: dict[str, object] = {}
    of_steps: dict[str, Mapping[str, Any]] = {}
    for step in (names.GRAPH, *map(names.modality_step, modalities)):
        for part in parts:
            written = progress.step(step, part)
            assert written is not None, f"{step} of part {part} was not written"
            files |= written.files
            if part == 0 and step == names.GRAPH:
                facts |= written.facts
            elif part == 0:
                of_steps[step] = written.facts
    of_modality = {m: of_steps[names.modality_step(m)] for m in modalities}
    left_out = [m for m, own in of_modality.items() if own.get("left_out")]
    # Where none is left, all are: a model without modalities has no weights that could be trained, so theirs
    # are trained on zeros.
    kept = [m for m in modalities if m not in left_out] or list(modalities)
    facts |= {
        "modalities": {m: job.partition.kept_dimensions(modalities[m]["dimension"]) for m in kept},
        "reduced": {m: own["reduced"] for m, own in of_modality.items() if m in kept and "reduced" in own},
        "item_neighbours": job.partition.item_neighbours,
        "item_graphs": {m: own["item_graph"] for m, own in of_modality.items() if "item_graph" in own},
        "left_out": left_out,
        "bytes": sum(record.bytes for record in files.values()),
        "user_id_type": dataset.facts["user_id_type"],
        "item_id_type": dataset.facts["item_id_type"],
        "interactions": dict(dataset.facts["interactions"]),
    }
    manifest = Manifest(names.KIND, progress.fingerprint, facts, dict(sorted(files.items())))
    # Before the manifest is published: notes of finished steps would outlive it and be believed later.
    progress.remove()
    publish(progress.location, manifest)
    return manifest
