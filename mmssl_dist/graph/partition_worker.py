"""What each worker of ``partition`` does: cut, number, move, propagate and compare its share, and write the
parts it owns. The graph and each modality are published apart, so a lost worker costs one of them."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config.job import Job
from mmssl_dist.data.columns import HELD_OUT, ITEM, ITEM_ID, USER, USER_ID
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph import names
from mmssl_dist.graph.bipartite import Lists
from mmssl_dist.graph.co_occurrence import co_occurrence, sampled_pairs
from mmssl_dist.graph.cut import cut_graph
from mmssl_dist.graph.cut_method import chosen_method
from mmssl_dist.graph.feature_reduction import along, principal_directions
from mmssl_dist.graph.homes import Homes, homes, interactions_of, lists_at_home
from mmssl_dist.graph.id_columns import send_ids
from mmssl_dist.graph.item_features import features_at_home, features_of_owned, standardize, unchanged
from mmssl_dist.graph.numbering import Numbering, number_nodes, numbering_of_items, owner_exchange
from mmssl_dist.graph.own_lists import (
    OwnLists,
    lists_of_owned,
    load_own_lists,
    numbered,
    own_lists,
    slice_of,
)
from mmssl_dist.graph.part_files import PartFiles, Progress
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.propagate import NeighbourSums, propagate
from mmssl_dist.graph.similar import similar_items
from mmssl_dist.graph.source import DatasetReader
from mmssl_dist.graph.transfer import lookup, send_to_owners, total
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, begin

_logger = logging.getLogger(__name__)

_Sums = tuple[NeighbourSums, NeighbourSums]
"""Of users, and of items."""

_Pairs = tuple[np.ndarray, np.ndarray]
"""Node ids of items that are in one user's training items."""


@dataclass(frozen=True, kw_only=True)
class _Partitioning:
    """One worker's view of the stage."""

    job: Job
    worker: Worker
    homes: Homes
    reader: DatasetReader
    progress: Progress

    @property
    def parts(self) -> range:
        """The parts this worker owns."""
        count, workers = self.job.partition.parts, self.worker.world_size
        return range(self.worker.rank * count // workers, (self.worker.rank + 1) * count // workers)


@dataclass(frozen=True)
class _Graph:
    """The graph as its owners hold it, and where the items at home here have gone."""

    numbering: Numbering
    own: OwnLists


def write_partitions(job: Job, worker: Worker, dataset: Manifest, progress: Progress) -> None:
    """Write the parts that this worker owns, but for what an earlier start has published (collective).

    Raises:
        ArtifactError: a file of the dataset is not what its manifest says.
        MmsslError: METIS gave up.
    """
    users, items = int(dataset.facts["users"]), int(dataset.facts["items"])
    # In the worker's cache folder: a dataset may not fit where the system keeps its temporary files.
    with tempfile.TemporaryDirectory(prefix="dataset-", dir=worker.cache) as cache:
        stage = _Partitioning(
            job=job,
            worker=worker,
            homes=homes(worker, users, items),
            reader=DatasetReader(
                location=RunFolder.of(job).dataset.location,
                manifest=dataset,
                cache=Path(cache),
                rank=worker.rank,
                workers=worker.world_size,
            ),
            progress=progress,
        )
        widths = {modality: stage.reader.dimension(modality) for modality in dataset.facts["modalities"]}
        # All workers or none: the graph is made by collectives, in which each of them has to take part.
        done = stage.progress.done(stage.homes.items, names.GRAPH, stage.parts)
        graph = _load_graph(stage) if done else _make_graph(stage)
        work: tuple[_Sums, _Pairs] | None = None
        for modality, width in widths.items():
            step = names.modality_step(modality)
            if not stage.progress.done(stage.homes.items, step, stage.parts):
                _logger.info("partition: propagating %s and finding similar items", modality)
                # Built lazily, since nothing may be left to propagate.
                work = work or (_sums(graph.own), sampled_pairs(graph.own, job.seed))
                _write_modality(stage, graph, *work, modality=modality, width=width)


def _make_graph(stage: _Partitioning) -> _Graph:
    job, homes, reader = stage.job, stage.homes, stage.reader
    _logger.info("partition: reading the training interactions")
    ids = [_read_ids(stage, "users", USER_ID, USER), _read_ids(stage, "items", ITEM_ID, ITEM)]
    users, items = int(homes.users.bounds[-1]), int(homes.items.bounds[-1])
    user, item = reader.interactions("train")
    of_item = lists_at_home(homes.items, users, item, user)
    del user, item
    interactions = int(total(homes.items, np.array([len(of_item.values)]))[0])
    method = chosen_method(job.partition, users + items, interactions)
    _logger.info("partition: cutting the graph into %d parts by %s", job.partition.parts, method)
    part_of_users, part_of_items = cut_graph(homes, of_item, job, method)
    numbering = number_nodes(
        worker=stage.worker,
        homes=homes,
        of_users=part_of_users,
        of_items=part_of_items,
        parts=job.partition.parts,
    )
    # Freed as early as possible below: interactions as pairs are the largest thing in memory.
    pairs = numbered(homes, numbering, *interactions_of(homes, of_item))
    del of_item
    own = own_lists(numbering, *pairs)
    del pairs
    if stage.worker.rank == 0:
        begin(stage.progress.location)  # input verified: remove the old artifact
    # A barrier: the first worker has removed the old manifest before a new file may stand beside it.
    homes.items.max(0)
    graph = _Graph(numbering, own)
    _write_graph(stage, graph, ids, method)
    return graph


def _read_ids(stage: _Partitioning, side: str, external: str, index: str) -> pa.Table:
    """This worker's share of the ids of one side, of which all together have each index once."""
    table = stage.reader.ids(side, external, index)
    exchange = stage.homes.users if side == "users" else stage.homes.items
    count = int(total(exchange, np.array([len(table)]))[0])
    if count == exchange.bounds[-1]:
        (indices,) = send_to_owners(exchange, table[index].to_numpy())
        if np.array_equal(np.sort(indices), np.arange(exchange.first, exchange.first + exchange.rows)):
            return table
    raise stage.reader.wrong_indices(side)


def _write_graph(stage: _Partitioning, graph: _Graph, ids: list[pa.Table], method: str) -> None:
    own, numbering, homes = graph.own, graph.numbering, stage.homes
    facts = {"method": method} | own.facts()
    # Ids are sent column by column to the owners of their nodes: no worker ever holds all of them.
    of_users = _ids_of_owned(
        owner=numbering.owner,
        side=homes.users,
        nodes=numbering.of_users,
        table=ids[0],
        external=USER_ID,
        index=USER,
    )
    of_items = _ids_of_owned(
        owner=numbering.owner,
        side=homes.items,
        nodes=numbering.of_items,
        table=ids[1],
        external=ITEM_ID,
        index=ITEM,
    )
    held_out = {
        split: lists_of_owned(
            numbering, own.users, *numbered(homes, numbering, *stage.reader.interactions(split))
        )
        for split in HELD_OUT
    }
    weights = own.weights()
    for part in stage.parts:
        files = PartFiles(stage.progress.location, part)
        users, items = own.user_rows(part), own.item_rows(part)
        files.table(names.USER_IDS, of_users.slice(users.start, users.stop - users.start))
        files.table(names.ITEM_IDS, of_items.slice(items.start, items.stop - items.start))
        sides = [slice_of(own.of_users, users), slice_of(own.of_items, items)]
        files.array(
            names.INDPTR, np.concatenate([sides[0].indptr, sides[0].indptr[-1] + sides[1].indptr[1:]])
        )
        files.array(names.NEIGHBOURS, np.concatenate([side.values for side in sides]).astype(np.int64))
        files.array(
            names.WEIGHT,
            np.concatenate(
                [_entries(own.of_users, weights[0], users), _entries(own.of_items, weights[1], items)]
            ),
        )
        for split, lists in held_out.items():
            chosen, (indptr, values) = slice_of(lists, users), names.held_out(split)
            files.array(indptr, chosen.indptr)
            files.array(values, chosen.values.astype(np.int64))
        stage.progress.mark(names.GRAPH, files, facts if part == 0 else {})


def _ids_of_owned(
    owner: Exchange, side: Exchange, nodes: np.ndarray, table: pa.Table, external: str, index: str
) -> pa.Table:
    """External ids and dataset indices of the owned nodes of one side, by node (collective)."""
    own = lookup(side, nodes, table[index].to_numpy())
    node, indices = send_to_owners(owner, own, table[index].to_numpy())
    return pa.table({external: send_ids(owner, own, table[external]), index: indices[np.argsort(node)]})


def _entries(lists: Lists, values: np.ndarray, rows: slice) -> np.ndarray:
    """What belongs to the entries of neighbouring rows of ``lists``."""
    return values[lists.indptr[rows.start] : lists.indptr[rows.stop]]


def _load_graph(stage: _Partitioning) -> _Graph:
    """The graph as an earlier start has published it."""
    facts: dict[str, Any] = {}
    files: dict[str, FileRecord] = {}
    # Part 0 has the facts of the graph as a whole, which every worker needs.
    for part in chain([0], stage.parts):
        written = stage.progress.step(names.GRAPH, part)
        assert written is not None
        facts, files = facts or dict(written.facts), {**files, **written.files}
    book = PartitionBook(tuple(facts["book"]["users"]), tuple(facts["book"]["items"]))
    manifest = Manifest(names.KIND, stage.progress.fingerprint, facts, files)
    location, cache = stage.progress.location, stage.reader.cache
    own = load_own_lists(
        owner=owner_exchange(stage.worker, book), book=book, location=location, manifest=manifest, cache=cache
    )
    paths = [f"{names.part_folder(part)}/{names.ITEM_IDS}" for part in stage.parts]
    tables = [pq.read_table((location / path).localize(cache, files[path]), columns=[ITEM]) for path in paths]
    items = np.concatenate([np.empty(0, np.int64), *(table[ITEM].to_numpy() for table in tables)])
    return _Graph(
        numbering_of_items(worker=stage.worker, homes=stage.homes, book=book, nodes=own.items, items=items),
        own,
    )


def _sums(own: OwnLists) -> _Sums:
    first = own.owner.first
    return (
        NeighbourSums(own.owner, own.users - first, own.of_users),
        NeighbourSums(own.owner, own.items - first, own.of_items),
    )


def _write_modality(
    stage: _Partitioning, graph: _Graph, sums: _Sums, pairs: _Pairs, *, modality: str, width: int
) -> None:
    job, homes, own = stage.job, stage.homes, graph.own
    seed = job.seed if job.partition.shuffle_features else None
    rows = features_at_home(
        reader=stage.reader, homes=homes, modality=modality, width=width, shuffle_seed=seed
    )
    moments = standardize(homes, rows) if job.partition.standardize else unchanged(width)
    dimensions, components = job.partition.kept_dimensions(width), None
    facts: dict[str, object] = {}
    if dimensions < width:
        directions = principal_directions(homes, rows, dimensions)
        components = directions.components
        rows = along(homes, rows, components)
        facts["reduced"] = {"from": width, "kept": directions.kept}
    parts = {part: PartFiles(stage.progress.location, part) for part in stage.parts}
    if job.partition.item_neighbours:
        facts["item_graph"], facts["left_out"] = _write_similar(
            stage=stage, graph=graph, pairs=pairs, parts=parts, modality=modality, rows=rows
        )
    for part, files in parts.items():
        # Facts of a whole modality are written once, with the first part.
        if part == 0:
            files.whole(names.standardization(modality), moments)
            if components is not None:
                files.whole(names.components(modality), components)
    if not facts.get("left_out"):
        features = features_of_owned(homes, graph.numbering, own, rows)
        # Freed, since what the owners have of it by now is as large.
        del rows
        with tempfile.TemporaryDirectory(prefix="rows-", dir=stage.worker.cache) as scratch:
            for part, files in parts.items():
                files.array(names.features(modality), features[own.item_rows(part)])
            propagated = propagate(*sums, features, Path(scratch))
            # What is read below has been written to ``scratch``.
            del features
            for part, files in parts.items():
                first, last = (int(own.book.bounds[part + side]) - own.owner.first for side in (0, 1))
                shape, row_type = (last - first, dimensions + 1), job.partition.row_type
                files.rows(names.propagated(modality), shape, propagated(first, last), row_type=row_type)
    for part, files in parts.items():
        stage.progress.mark(names.modality_step(modality), files, facts if part == 0 else {})


def _write_similar(
    stage: _Partitioning,
    graph: _Graph,
    pairs: _Pairs,
    parts: dict[int, PartFiles],
    modality: str,
    rows: np.ndarray,
) -> tuple[dict[str, object], bool]:
    """Write the item-item graph of a modality, unless the modality is to be left out; returns what is known
    of the graph, and whether it is."""
    homes, numbering, own = stage.homes, graph.numbering, graph.own
    similar = similar_items(homes, rows[:, :-1], stage.job.partition.item_neighbours, stage.job.seed)
    nodes = lookup(homes.items, numbering.of_items, similar.lists.values)
    row = np.repeat(numbering.of_items, similar.lists.lengths)
    row, nodes, weight = send_to_owners(numbering.owner, row, nodes, similar.weight)
    # Rows arrive by sender; sorted they are the same for any number of workers.
    order = np.lexsort((nodes, row))
    row, nodes, weight = row[order], nodes[order], weight[order]
    seen = co_occurrence(own, pairs, row, nodes)
    least = stage.job.partition.least_lift
    left_out = least > 0 and seen.is_chance(least)
    for part, files in ({} if left_out else parts).items():
        first, last = own.book.item_range(part)
        indptr = np.searchsorted(row, np.arange(first, last + 1))
        entries = slice(int(indptr[0]), int(indptr[-1]))
        for name, array in zip(
            names.similar(modality),
            (indptr - indptr[0], nodes[entries].astype(np.int64), weight[entries]),
            strict=True,
        ):
            files.array(name, array)
    facts = {"recall": similar.recall, **asdict(seen), "lift": seen.lift, "can_tell": seen.can_tell}
    return facts, left_out
