"""Reads published partitions: nothing is handed out whose content differs from the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.errors import ArtifactError
from mmssl_dist.graph import names
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.storage import Location, Manifest


@dataclass(frozen=True, kw_only=True)
class PartitionData:
    """One partition, memory-mapped and read-only. n = users + items local rows: its users, then its items.

    Attributes:
        part: number of the partition.
        users, items: how many of each it owns.
        indptr: [n + 1] int64, where each row's neighbours begin.
        neighbours: [E] int64 node ids of training neighbours, sorted within a row.
        weight: [E] float32, 1 / sqrt(degree of the row * degree of the neighbour).
        held_out: "validation" and "test", where loaded: (indptr [users + 1] int64, item node ids [...] int64)
            of local users.
        propagated: by modality, [n, F + 1] rows of the tower before its projection, float32, or uint16 with
            the bits of bfloat16; the last column carries the bias. Loaded with ``own_features``: the items'
            features as they are, float32, and zeros for users.
        similar: by modality, the item-item graph of the local items: indptr [items + 1] int64, node ids [...]
            int64, weights [...] float32. Without modalities when it was not built.
    """

    part: int
    users: int
    items: int
    indptr: np.ndarray
    neighbours: np.ndarray
    weight: np.ndarray
    held_out: Mapping[str, tuple[np.ndarray, np.ndarray]]
    propagated: Mapping[str, np.ndarray]
    similar: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def read_book(manifest: Manifest) -> PartitionBook:
    """The partition book of a partitions artifact."""
    try:
        book = manifest.facts["book"]
        return PartitionBook(tuple(book["users"]), tuple(book["items"]))
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"the partitions manifest has no partition book ({error}). Run partition again."
        ) from error


def load_partition(
    location: Location,
    manifest: Manifest,
    part: int,
    cache: Path,
    held_out: Sequence[str] = HELD_OUT,
    own_features: bool = False,
) -> PartitionData:
    """Partition ``part`` of the artifact at ``location``; remote files are downloaded below ``cache``.

    Args:
        held_out: splits to load; files of others are not touched.
        own_features: items' own features in place of propagated ones.

    Raises:
        ArtifactError: a file is missing from the manifest, or is not what the manifest says.
    """
    book = read_book(manifest)
    folder = names.part_folder(part)

    def array(name: str) -> np.ndarray:
        path = _localize(location, manifest, f"{folder}/{name}", cache)
        loaded: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return loaded

    def rows(split: str) -> tuple[np.ndarray, np.ndarray]:
        indptr, items = names.held_out(split)
        return array(indptr), array(items)

    left_out, widths = manifest.facts.get("left_out", ()), manifest.facts["modalities"]

    def tower(modality: str) -> np.ndarray:
        if modality in left_out:
            return np.zeros((book.users[part] + book.items[part], widths[modality] + 1), np.float32)
        if not own_features:
            return array(names.propagated(modality))
        features = array(names.features(modality))
        # Zero rows project to zero, which is what users have in this mode.
        return np.concatenate([np.zeros((book.users[part], features.shape[1]), np.float32), features])

    def graph(modality: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if modality in left_out:
            return np.zeros(book.items[part] + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        indptr, items, weight = names.similar(modality)
        return array(indptr), array(items), array(weight)

    similar = widths if manifest.facts["item_neighbours"] else ()
    indptr = array(names.INDPTR)
    _require_rows(indptr, book, part, f"{location.url}/{folder}")
    return PartitionData(
        part=part,
        users=book.users[part],
        items=book.items[part],
        indptr=indptr,
        neighbours=array(names.NEIGHBOURS),
        weight=array(names.WEIGHT),
        held_out={split: rows(split) for split in held_out},
        propagated={modality: tower(modality) for modality in widths},
        similar={modality: graph(modality) for modality in similar},
    )


def _require_rows(indptr: np.ndarray, book: PartitionBook, part: int, where: str) -> None:
    """Raise an ArtifactError unless the lists of ``part`` are of as many nodes as the book says."""
    # Files and book share a manifest but are written apart; rows that do not match would pass for others'.
    if len(indptr) != book.users[part] + book.items[part] + 1:
        raise ArtifactError(
            f"{where}: lists of {len(indptr) - 1} nodes, where the manifest says "
            f"{book.users[part] + book.items[part]}. Run partition again."
        )


def load_ids(location: Location, manifest: Manifest, part: int, cache: Path) -> tuple[pa.Array, pa.Array]:
    """External ids of the users and of the items of ``part``, in local order.

    Raises:
        ArtifactError: as ``load_partition``.
    """
    columns = []
    for name in (names.USER_IDS, names.ITEM_IDS):
        path = _localize(location, manifest, f"{names.part_folder(part)}/{name}", cache)
        columns.append(pq.read_table(path).column(0).combine_chunks())
    return columns[0], columns[1]


def load_features(
    location: Location, manifest: Manifest, part: int, modality: str, cache: Path
) -> np.ndarray:
    """[items, F + 1] float32, the features of the items of ``part`` as training saw them; zeros where they
    are missing.

    The last column carries the bias. Memory-mapped, read-only.

    Raises:
        ArtifactError: as ``load_partition``.
    """
    if modality in manifest.facts.get("left_out", ()):
        width = manifest.facts["modalities"][modality] + 1
        return np.zeros((read_book(manifest).items[part], width), np.float32)
    name = f"{names.part_folder(part)}/{names.features(modality)}"
    loaded: np.ndarray = np.load(
        _localize(location, manifest, name, cache), mmap_mode="r", allow_pickle=False
    )
    return loaded


@dataclass(frozen=True)
class FeatureMap:
    """What makes a modality's features of raw ones.

    Attributes:
        standardization: [2, F] float64, what to subtract, and what to multiply the rest with.
        components: [F, k] float64, the directions to keep of what comes of it; None where all are kept.
    """

    standardization: np.ndarray
    components: np.ndarray | None


def load_feature_map(location: Location, manifest: Manifest, modality: str, cache: Path) -> FeatureMap:
    """How the features of a modality were made.

    Raises:
        ArtifactError: as ``load_partition``.
    """

    def array(name: str) -> np.ndarray:
        loaded: np.ndarray = np.load(_localize(location, manifest, name, cache), allow_pickle=False)
        return loaded

    reduced = names.components(modality) in manifest.files
    return FeatureMap(
        standardization=array(names.standardization(modality)),
        components=array(names.components(modality)) if reduced else None,
    )


def _localize(location: Location, manifest: Manifest, name: str, cache: Path) -> Path:
    record = manifest.files.get(name)
    if record is None:
        raise ArtifactError(f"{location.url}/{name}: the manifest names no such file. Run partition again.")
    source = location / name
    if not source.exists():
        raise ArtifactError(
            f"{source.url}: the manifest names this file, but it is gone. Run partition again."
        )
    return source.localize(cache, record)
