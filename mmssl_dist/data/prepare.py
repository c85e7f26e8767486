"""The prepare stage: raw files to the dataset artifact, with Ray Data.

Three passes, each over hash buckets of ``data.buckets`` tasks: interactions by user (duplicates, k-core,
splits, user
numbers), interactions and features by item (item numbers, checks), writing. The driver sees counts only.
"""

from __future__ import annotations

import logging
from functools import partial

from mmssl_dist.config.job import Job
from mmssl_dist.data.files import RawFiles
from mmssl_dist.data.fingerprint import DATASET_KIND, dataset_fingerprint
from mmssl_dist.data.passes import NumberedRows, dataset_facts, numbered_rows
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.row_operations import map_tables
from mmssl_dist.data.runtime import numbers, ray_data
from mmssl_dist.data.write import write_items, write_users
from mmssl_dist.storage import FileRecord, Location, Manifest, RunFolder, begin, publish

_logger = logging.getLogger(__name__)


def prepare(job: Job, raw: RawFiles) -> Manifest:
    """Make and publish the dataset at ``<output>/dataset``; Ray has been initialised.

    Raises:
        InputError: a raw file has a bad value, an interaction names an unknown item, a split is
            empty.
    """
    # Before anything is read: a file that changes meanwhile then makes the dataset out of date, not wrong.
    inputs = dataset_fingerprint(job, raw)
    sources = open_sources(job.data, raw)
    interactions, features = sources.interactions, sources.features
    target = RunFolder.of(job).dataset.location
    with ray_data(sum(file.size for file in raw.of_dataset())):
        _logger.info("prepare: reading and checking every row")
        rows = numbered_rows(job, interactions, features, numbers)
        # All rows are read and checked: what was published stays until there is something better
        _logger.info("prepare: writing the dataset")
        begin(target)
        files = write_dataset(target, rows, tuple(features))
    manifest = Manifest(DATASET_KIND, inputs, dataset_facts(job, interactions, features, rows), files)
    publish(target, manifest)
    return manifest


def write_dataset(target: Location, rows: NumberedRows, modalities: tuple[str, ...]) -> dict[str, FileRecord]:
    """Write the files of the dataset, without its manifest; returns their records by name."""
    users = partial(write_users, target=target, offsets=rows.user_offsets)
    items = partial(write_items, target=target, offsets=rows.item_offsets, modalities=modalities)
    written = map_tables(rows.users, users, 1).union(map_tables(rows.items, items, 1))
    records = {row["name"]: FileRecord(row["bytes"], row["sha256"]) for row in written.iter_rows()}
    # Sorted, since tasks end in any order, and equal datasets have equal manifests.
    return dict(sorted(records.items()))
