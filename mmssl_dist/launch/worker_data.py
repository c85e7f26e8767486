"""What a worker reads of the published partitions: its own part of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mmssl_dist.config.job import Job
from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.partition_files import (
    FeatureMap,
    load_feature_map,
    load_features,
    load_ids,
    load_partition,
    read_book,
)
from mmssl_dist.sharding.partitions import LocalGraph, join_partitions
from mmssl_dist.storage import RunFolder

if TYPE_CHECKING:
    from mmssl_dist.model import Mmssl


def load_local_graph(job: Job, worker: Worker, held_out: Sequence[str] = HELD_OUT) -> LocalGraph:
    """This worker's partitions, with the requested held-out splits."""
    folder = RunFolder.of(job).partitions
    manifest = folder.require()
    book = read_book(manifest)
    # Unpropagated features are as large as the propagated ones, and only these models read them in training.
    own_features = job.model.feature_columns > 0
    # Its own partitions alone: what a worker holds must not grow with those of others.
    partitions = [
        load_partition(
            folder.location,
            manifest,
            part=part,
            cache=worker.cache,
            held_out=held_out,
            own_features=own_features,
        )
        for part in book.worker_parts(worker.rank, worker.world_size)
    ]
    return join_partitions(book, partitions)


def external_ids(job: Job, worker: Worker, graph: LocalGraph) -> list[tuple[pa.Array, pa.Array]]:
    """External ids of the users and of the items of each partition held."""
    folder = RunFolder.of(job).partitions
    manifest = folder.require()
    return [load_ids(folder.location, manifest, part, worker.cache) for part in graph.parts]


def item_features(
    job: Job, worker: Worker, graph: LocalGraph, modalities: Sequence[str]
) -> dict[str, Iterator[np.ndarray]]:
    """Per modality, the features [m, F + 1] of the items of each partition held, one partition at a time."""
    folder = RunFolder.of(job).partitions
    manifest = folder.require()

    # A generator, since all features of a worker may be many times its rows.
    def of(modality: str) -> Iterator[np.ndarray]:
        return (
            load_features(folder.location, manifest, part=part, modality=modality, cache=worker.cache)
            for part in graph.parts
        )

    return {modality: of(modality) for modality in modalities}


def feature_maps(job: Job, worker: Worker, model: Mmssl) -> dict[str, FeatureMap]:
    """Per modality, how raw features became those that the model is trained on."""
    folder = RunFolder.of(job).partitions
    manifest = folder.require()
    return {m: load_feature_map(folder.location, manifest, m, worker.cache) for m in model.modalities}
