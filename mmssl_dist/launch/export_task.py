"""The task that completes an export: the index of all items, and the manifest."""

from __future__ import annotations

from collections.abc import Mapping

from mmssl_dist.config import Job
from mmssl_dist.export.index import build_index
from mmssl_dist.launch.fingerprints import export_fingerprint
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, publish
from mmssl_dist.storage.export_names import INDEX


def publish_export(job: Job, training: Manifest, written: Mapping[str, FileRecord]) -> Manifest:
    """Publish the files that the workers have ``written``, by name below export/, and the index of the
    items."""
    folder = RunFolder.of(job)
    location = folder.export.location
    record, index = build_index(location, written, job.export.index)
    files = {**written, INDEX: record}
    partitions = folder.partitions.require()
    book = partitions.facts["book"]
    facts = {
        "users": sum(book["users"]),
        "items": sum(book["items"]),
        "k": job.export.k,
        "bytes": sum(record.bytes for record in files.values()),
        "index": index,
        # Lookups read both, and refuse an export whose partitions have been made again.
        "partitions": partitions.fingerprint,
        "dimension": job.model.dimension,
        "fold_in": {
            "modality_weight": job.model.modality_weight,
            "similar_weight": job.model.item_graph.weight,
            "feature_columns": job.model.feature_columns,
        },
    }
    manifest = Manifest("export", export_fingerprint(job, training), facts, files)
    publish(location, manifest)
    return manifest
