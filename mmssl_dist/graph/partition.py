"""The partition stage: cuts the graph of training interactions and publishes one folder per part. Every node
is in exactly one part, and what a part holds does not depend on the cut but for the numbering of nodes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config.job import Job
from mmssl_dist.data.columns import HELD_OUT, ITEM, ITEM_ID, USER, USER_ID
from mmssl_dist.graph import names
from mmssl_dist.graph.bipartite import Bipartite, Lists, bipartite, degree_counts, lists
from mmssl_dist.graph.cut import (
    crossing_between_workers,
    crossing_fraction,
    metis_cut,
    random_cut,
    unevenness,
)
from mmssl_dist.graph.cut_method import chosen_method, require_nodes
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.propagate import propagate, standardize, unchanged
from mmssl_dist.graph.similar import nearest_items, symmetric_weights
from mmssl_dist.graph.source import DatasetReader
from mmssl_dist.graph.streaming import streaming_cut
from mmssl_dist.storage import FileRecord, Location, Manifest, RunFolder, begin, fingerprint, publish


def partitions_fingerprint(job: Job, dataset: Manifest) -> str:
    """Equal for equal partitions: the dataset, the ``partition`` section, the seed and this version's
    format."""
    return fingerprint(names.KIND, names.FORMAT, job.partition.model_dump(), job.seed, dataset.fingerprint)


def partition(job: Job, dataset: Manifest) -> Manifest:
    """Partition the dataset of ``job`` and publish the result below its output.

    Peak memory is the graph and the rows of one modality, with the item-item graph three times its items'
    rows more.

    Raises:
        InputError: there are more parts than nodes.
        ArtifactError: a file of the dataset is not what its manifest says.
        MmsslError: METIS gave up.
    """
    shape = (int(dataset.facts["users"]), int(dataset.facts["items"]))
    require_nodes(job.partition.parts, *shape)
    folder = RunFolder.of(job)
    location = folder.partitions.location
    with tempfile.TemporaryDirectory(prefix="dataset-") as cache:
        reader = DatasetReader(folder.dataset.location, dataset, Path(cache))
        ids = reader.ids("users", USER_ID, USER), reader.ids("items", ITEM_ID, ITEM)
        widths = {modality: reader.dimension(modality) for modality in dataset.facts["modalities"]}
        graph = bipartite(*reader.interactions("train"), shape)
        method = chosen_method(job.partition, sum(shape), graph.interactions)
        part = _cut(job, graph, method)
        layout = _layout(part, shape[0], job.partition.parts)
        begin(location)  # what is read agrees with its manifest: what was published stays until here
        writer = _Writer(location, layout)
        _write_ids(writer, *ids)
        _write_graph(writer, graph)
        for split in HELD_OUT:
            _write_held_out(writer, split, lists(*reader.interactions(split), shape))
        for modality, width in widths.items():
            rows = np.zeros((sum(shape), width + 1), np.float32)
            reader.features(modality, rows[shape[0] :])
            if job.partition.shuffle_features:  # every modality alike, so that they still belong together
                rows[shape[0] :] = rows[shape[0] + np.random.default_rng(job.seed).permutation(shape[1])]
            moments = standardize(rows[shape[0] :]) if job.partition.standardize else unchanged(width)
            writer.whole(names.standardization(modality), moments)
            if job.partition.item_neighbours:
                _write_similar(
                    writer, modality, nearest_items(rows[shape[0] :, :-1], job.partition.item_neighbours)
                )
            writer.item_rows(names.features(modality), rows[shape[0] :])
            propagate(graph, rows)
            writer.rows(names.propagated(modality), rows)
    facts = {"method": method} | _facts(dataset, graph, part, writer, job.partition.item_neighbours)
    manifest = Manifest(names.KIND, partitions_fingerprint(job, dataset), facts, writer.files)
    publish(location, manifest)
    return manifest


@dataclass(frozen=True)
class _Layout:
    """Node numbering. Dataset nodes are users 0..U-1, then items U..U+I-1.

    order: [U + I] the dataset node of each node id. node: [U + I] the node id of each dataset node.
    """

    book: PartitionBook
    order: np.ndarray
    node: np.ndarray

    def users_of(self, part: int) -> np.ndarray:
        """Dataset indices of the users of ``part``, in local order."""
        return self.order[slice(*self.book.user_range(part))]

    def items_of(self, part: int) -> np.ndarray:
        """Dataset indices of the items of ``part``, in local order."""
        return self.order[slice(*self.book.item_range(part))] - self.book.num_users


def _cut(job: Job, graph: Bipartite, method: str) -> np.ndarray:
    if method == "random":
        return random_cut(graph.users, graph.items, job.partition.parts, job.seed)
    if method == "streaming":
        return streaming_cut(graph, job.partition.parts, job.seed)
    return metis_cut(graph, job.partition.parts)


def _layout(part: np.ndarray, users: int, parts: int) -> _Layout:
    order = np.argsort(part, kind="stable")  # users come before items already, and both ascend
    node = np.empty_like(order)
    node[order] = np.arange(len(order))
    book = PartitionBook(
        tuple(np.bincount(part[:users], minlength=parts).tolist()),
        tuple(np.bincount(part[users:], minlength=parts).tolist()),
    )
    return _Layout(book, order, node)


@dataclass(frozen=True)
class _Writer:
    """Writes files of parts and keeps their records."""

    location: Location
    layout: _Layout
    files: dict[str, FileRecord] = field(default_factory=dict)

    def array(self, part: int, name: str, array: np.ndarray) -> None:
        path = f"{names.part_folder(part)}/{name}"
        self.files[path] = (self.location / path).write_array(array)

    def whole(self, name: str, array: np.ndarray) -> None:
        """A file that is no part's."""
        self.files[name] = (self.location / name).write_array(array)

    def table(self, part: int, name: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        path = f"{names.part_folder(part)}/{name}"
        self.files[path] = (self.location / path).write_bytes(sink.getvalue())

    def rows(self, name: str, rows: np.ndarray) -> None:
        """Each part's share of one row per dataset node."""
        bounds = self.layout.book.bounds
        for part in range(self.layout.book.parts):
            self.array(part, name, rows[self.layout.order[bounds[part] : bounds[part + 1]]])

    def item_rows(self, name: str, rows: np.ndarray) -> None:
        """Each part's share of one row per dataset item."""
        for part in range(self.layout.book.parts):
            self.array(part, name, rows[self.layout.items_of(part)])


def _write_ids(writer: _Writer, users: pa.Table, items: pa.Table) -> None:
    for part in range(writer.layout.book.parts):
        writer.table(part, names.USER_IDS, users.take(writer.layout.users_of(part)))
        writer.table(part, names.ITEM_IDS, items.take(writer.layout.items_of(part)))


def _write_graph(writer: _Writer, graph: Bipartite) -> None:
    layout = writer.layout
    root = np.sqrt(graph.degrees[layout.order])  # by node id
    for part in range(layout.book.parts):
        of_users = graph.of_user.take(layout.users_of(part)).relabel(layout.node[graph.users :])
        of_items = graph.of_item.take(layout.items_of(part)).relabel(layout.node[: graph.users])
        neighbours = np.concatenate([of_users.values, of_items.values])
        lengths = np.concatenate([of_users.lengths, of_items.lengths])
        first, last = layout.book.bounds[part], layout.book.bounds[part + 1]
        writer.array(
            part, names.INDPTR, np.concatenate([of_users.indptr, of_users.indptr[-1] + of_items.indptr[1:]])
        )
        writer.array(part, names.NEIGHBOURS, neighbours)
        weight = 1.0 / (np.repeat(root[first:last], lengths) * root[neighbours])
        writer.array(part, names.WEIGHT, weight.astype(np.float32))


def _write_held_out(writer: _Writer, split: str, of_user: Lists) -> None:
    layout = writer.layout
    indptr, items = names.held_out(split)
    for part in range(layout.book.parts):
        chosen = of_user.take(layout.users_of(part)).relabel(layout.node[layout.book.num_users :])
        writer.array(part, indptr, chosen.indptr)
        writer.array(part, items, chosen.values)


def _write_similar(writer: _Writer, modality: str, graph: Lists) -> None:
    layout = writer.layout
    to_node = layout.node[layout.book.num_users :]
    weight = symmetric_weights(graph)
    indptr_name, items_name, weight_name = names.similar(modality)
    for part in range(layout.book.parts):
        own = layout.items_of(part)
        chosen = graph.take(own)
        nodes = to_node[chosen.values]
        order = np.lexsort((nodes, np.repeat(np.arange(len(own)), chosen.lengths)))
        writer.array(part, indptr_name, chosen.indptr)
        writer.array(part, items_name, nodes[order])
        writer.array(part, weight_name, Lists(graph.indptr, weight).take(own).values[order])


def _facts(
    dataset: Manifest, graph: Bipartite, part: np.ndarray, writer: _Writer, item_neighbours: int
) -> dict[str, object]:
    book = writer.layout.book
    edges = np.bincount(part, graph.degrees, minlength=book.parts)
    return {
        "book": {"users": list(book.users), "items": list(book.items)},
        "modalities": {m: facts["dimension"] for m, facts in dataset.facts["modalities"].items()},
        "item_neighbours": item_neighbours,
        "edges": 2 * graph.interactions,  # each interaction is in its user's list and in its item's
        "edge_cut": crossing_fraction(graph, part),
        "edge_cut_of_workers": crossing_between_workers(graph, part, book),  # for 1, 2, ... P of them
        "degrees": {
            "users": degree_counts(graph.of_user.lengths),
            "items": degree_counts(graph.of_item.lengths),
        },
        "balance": {  # largest part over the mean part
            "users": unevenness(np.asarray(book.users)),
            "items": unevenness(np.asarray(book.items)),
            "edges": unevenness(edges),
        },
        "bytes": sum(record.bytes for record in writer.files.values()),
        "user_id_type": dataset.facts["user_id_type"],
        "item_id_type": dataset.facts["item_id_type"],
        "interactions": dict(dataset.facts["interactions"]),
        "cold_items": int((graph.of_item.lengths == 0).sum()),
    }
