"""An exported run, read from its published files as they are needed: ids, embeddings, recommendations,
similar items.

Users and items have places 0, 1, ...: the order of the export's files. Everything here is numpy, Arrow and
FAISS.
"""

# U users, I items, D embedding, q queries

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM_ID, USER_ID
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.serving.new_items import NewItems, unit
from mmssl_dist.serving.part_rows import PartRows
from mmssl_dist.serving.seen import SeenItems, read_seen
from mmssl_dist.storage import RunFolder, StageFolder, downloads_folder, open_location
from mmssl_dist.storage.export_names import (
    INDEX,
    ITEM_EMBEDDINGS,
    ITEM_ROWS,
    LAYERS,
    SIMILAR,
    USER_EMBEDDINGS,
    USER_ROWS,
    embeddings_file,
    fold_in_file,
    parquet_file,
    tower,
)

NOTHING = np.empty(0, np.int64)
_DEEPEST = 2048  # results up to which an approximate index is asked; beyond, every item is scored


@dataclass(frozen=True)
class Ranked:
    """Items, best first. ``items``: external ids. ``scores``: float32, as many."""

    items: list[Any]
    scores: np.ndarray


@dataclass(frozen=True)
class RankedUsers:
    """Users, best first. ``users``: external ids. ``scores``: float32, as many."""

    users: list[Any]
    scores: np.ndarray


class Run:
    """An exported run; ``open_run`` makes it. ``export``, ``partitions``: the artifacts that it is read
    from."""

    def __init__(self, export: Artifact, partitions: Artifact) -> None:
        self.export, self.partitions = export, partitions

    @cached_property
    def users(self) -> Ids:
        """External ids of the users, by place."""
        return Ids(self.export.column(partial(parquet_file, USER_EMBEDDINGS), USER_ID), "user")

    @cached_property
    def items(self) -> Ids:
        """External ids of the items, by place."""
        return Ids(self.export.column(partial(parquet_file, ITEM_EMBEDDINGS), ITEM_ID), "item")

    @cached_property
    def user_embeddings(self) -> np.ndarray:
        """float32 [U, D], by place, all in memory. A user's score of an item is the dot product of their
        rows."""
        return self.export.rows(embeddings_file, USER_ROWS)

    @cached_property
    def user_rows(self) -> PartRows:
        """The same rows mapped from their files: what lookups read, a user at a time."""
        return self.export.mapped(embeddings_file, USER_ROWS, read_book(self.partitions.manifest).users)

    @cached_property
    def item_embeddings(self) -> np.ndarray:
        """float32 [I, D], by place."""
        return self.export.rows(embeddings_file, ITEM_ROWS)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the export's manifest says: sizes, the index and its recall."""
        return self.export.manifest.facts

    def recommend(
        self, users: object, k: int = 20, exclude_seen: bool = True, exact: bool = False
    ) -> Ranked | list[Ranked]:
        """The ``k`` best items of a user, or of each of several: a list, tuple, array or series of users.

        Args:
            users: an external id, or several; of the type in the data, or as text.
            exclude_seen: leave out the items of the user's training interactions.
            exact: score every item, whatever the index; a flat index does so anyhow.

        Raises:
            InputError: an unknown id, or k below 1.
            ArtifactError: a file is not what its manifest says.
        """
        several = _several(users)
        positions = self.users.positions([users] if several is None else several)
        ranked = self.recommend_at(positions, k, exclude_seen, exact)
        return ranked[0] if several is None else ranked

    def recommend_at(
        self, positions: np.ndarray, k: int = 20, exclude_seen: bool = True, exact: bool = False
    ) -> list[Ranked]:
        """``recommend`` for the users at ``positions``."""
        seen = [self.seen.of(position) if exclude_seen else NOTHING for position in positions]
        return self.rank(self.user_rows.take(positions), seen, k, exact)

    def recommend_new(
        self, items: Sequence[object], k: int = 20, exclude_seen: bool = True, exact: bool = False
    ) -> Ranked:
        """The ``k`` best items of a user training never saw, by the items known of them; raises as
        ``recommend`` does.

        The row is ``fold_in``'s. ``exclude_seen`` leaves out ``items``.
        """
        return self.recommend_new_many([items], k, exclude_seen, exact)[0]

    def recommend_new_many(
        self, baskets: Sequence[Sequence[object]], k: int, exclude_seen: bool = True, exact: bool = False
    ) -> list[Ranked]:
        """``recommend_new`` of several."""
        # All rows in one search: FAISS takes a batch in little more time than a single query.
        known = [self.basket(items) for items in baskets]
        rows = np.stack([self.fold_in(positions) for positions in known])
        return self.rank(rows, [positions if exclude_seen else NOTHING for positions in known], k, exact)

    def popular(self, k: int = 20) -> Ranked:
        """The ``k`` items with most training interactions, and how many; for users of whom nothing is known.

        Raises:
            InputError: k below 1.
            ArtifactError: a file is not what its manifest says.
        """
        k, counts = _length(k), self._interactions
        # Stable, so that equally popular items come in the order of the export, as everywhere else.
        order = np.argsort(-counts, kind="stable")[:k]
        return Ranked(self.items.at(order), counts[order].astype(np.float32))

    def similar(self, items: object, k: int = 20) -> Ranked | list[Ranked]:
        """The ``k`` items whose embeddings have the highest cosine with an item's, or with each of several
        items'.

        Every item is compared; the item itself is left out. Raises as ``recommend`` does.
        """
        import faiss

        k, several = _length(k), _several(items)
        positions = self.items.positions([items] if several is None else several)
        # One more, since the nearest to an item is usually the item itself.
        wanted = min(k + 1, len(self.items))
        scores, neighbours = faiss.knn(
            self._units[positions], self._units, wanted, faiss.METRIC_INNER_PRODUCT
        )
        ranked = self._chosen(scores, neighbours, [np.asarray([position]) for position in positions], k)
        return ranked[0] if several is None else ranked

    def new_item(self, features: Mapping[str, Sequence[float]]) -> np.ndarray:
        """float32 [D], the row of an item training never saw: what the model makes of an item without
        interactions.

        Args:
            features: modality -> its vector as in the raw files, for one or more of the run's modalities.

        Raises:
            InputError: an unknown modality, or a vector of another width or with values that are not finite.
        """
        return self._new_items.row(features)

    def similar_to_new(self, features: Mapping[str, Sequence[float]], k: int = 20) -> Ranked:
        """The ``k`` items whose embeddings have the highest cosine with a new item's row; raises as
        ``new_item``."""
        import faiss

        k = _length(k)
        row = unit(self.new_item(features))[None]
        wanted = min(k, len(self.items))
        scores, neighbours = faiss.knn(row, self._units, wanted, faiss.METRIC_INNER_PRODUCT)
        return self._chosen(scores, neighbours, [NOTHING], k)[0]

    def users_for_new(self, features: Mapping[str, Sequence[float]], k: int = 20) -> RankedUsers:
        """The ``k`` users with the highest scores of a new item, of all users; raises as ``new_item``."""
        import faiss

        k = _length(k)
        row, wanted = self.new_item(features)[None], min(k, len(self.users))
        # Partition by partition, so that no more than the users' rows of one have to be in memory.
        results = [
            (first, *faiss.knn(row, np.asarray(rows), min(wanted, len(rows)), faiss.METRIC_INNER_PRODUCT))
            for first, rows in self.user_rows.blocks()
            if len(rows)
        ]
        scores = np.concatenate([scores for _, scores, _ in results], 1)
        neighbours = np.concatenate([first + neighbours for first, _, neighbours in results], 1)
        if not np.isfinite(scores).all():
            raise InputError(
                "features", "very large values", "scores are finite in float32", "Correct the features."
            )
        # Of equals the first place, as in every list.
        order = np.lexsort((neighbours, -scores))[:, :wanted]
        scores, neighbours = np.take_along_axis(scores, order, 1), np.take_along_axis(neighbours, order, 1)
        return RankedUsers(self.users.at(neighbours[0]), scores[0])

    def check_users(self) -> None:
        """Open the rows and training interactions of all users, which lookups open partition by partition.

        Raises:
            ArtifactError: a file is not what its manifest says.
        """
        for part in range(read_book(self.partitions.manifest).parts):
            self.user_rows.part(part)
            self.seen.of_part(part)

    def history(self, user: object) -> list[Any]:
        """The items of a user's training interactions; raises as ``recommend`` does."""
        return self.items.at(self.seen.of(self.users.position(user)))

    def fold_in(self, items: np.ndarray) -> np.ndarray:
        """float32 [D], the row of a user of these items, given by place: what the model's propagation makes
        of them.

        It is the final row that the user would have if they were added to the training graph with the weights
        and the items' rows as they are: the mean of all layers, the mean of the items' rows over the
        item-item graph, the unit tower rows. Missing is the user's own ID row, which nobody has learned: it
        counts as zero.
        """
        rows, facts = self._fold_in_rows, self.facts["fold_in"]
        # Equation 5 for a user of these items; the items' side of the weights, 1 / sqrt(degree), is in the
        # stored rows.
        row = rows[LAYERS][items].sum(0) / len(items) ** 0.5
        if SIMILAR in rows:
            row = row + facts["similar_weight"] * rows[SIMILAR][items].mean(0)
        for name in rows:
            if name not in (LAYERS, SIMILAR):
                row = row + facts["modality_weight"] * unit(rows[name][items].sum(0))
        return np.asarray(row, np.float32)

    @cached_property
    def seen(self) -> SeenItems:
        """The training interactions, by place."""
        return read_seen(self.partitions)

    @cached_property
    def _interactions(self) -> np.ndarray:
        """int64 [I], training interactions of each item, by place."""
        return self.seen.item_degrees

    @cached_property
    def _index(self) -> Any:
        import faiss

        return faiss.read_index(str(self.export.path(INDEX)))

    @cached_property
    def _units(self) -> np.ndarray:
        return unit(self.item_embeddings)

    @cached_property
    def _new_items(self) -> NewItems:
        return NewItems(self.export, self.partitions)

    @cached_property
    def _fold_in_rows(self) -> dict[str, np.ndarray]:
        names = [LAYERS]
        if not self.facts["fold_in"]["feature_columns"]:  # with them users have no tower rows
            names += [tower(modality) for modality in sorted(self.partitions.manifest.facts["modalities"])]
        if self.facts["fold_in"]["similar_weight"] > 0:
            names.append(SIMILAR)
        return {name: self.export.rows(fold_in_file, name) for name in names}

    def basket(self, items: Sequence[object]) -> np.ndarray:
        """Places of a new user's items, each once, ascending.

        Raises:
            InputError: there are none, it is a single id, or one is unknown.
        """
        several = _several(items)
        if not several:
            raise InputError(
                "items",
                "none" if several is not None else repr(items),
                "a new user is known by a list of at least one item",
                "Give a list of item ids.",
            )
        return np.unique(self.items.positions(several))

    def rank(
        self, rows: np.ndarray, left_out: Sequence[np.ndarray], k: int, exact: bool = False
    ) -> list[Ranked]:
        """The ``k`` best items of each row [q, D], without those at its ``left_out`` places."""
        import faiss

        k = _length(k)
        # Deep enough that k remain even if every item left out is among the best.
        wanted = min(k + max(map(len, left_out), default=0), len(self.items))
        # An approximate index returns fewer results than that, and slowly; the exact search has no such
        # limit.
        if exact or wanted > _DEEPEST:
            scores, neighbours = faiss.knn(rows, self.item_embeddings, wanted, faiss.METRIC_INNER_PRODUCT)
        else:
            scores, neighbours = self._index.search(rows, wanted)
        return self._chosen(scores, neighbours, left_out, k)

    def _chosen(
        self, scores: np.ndarray, neighbours: np.ndarray, left_out: Sequence[np.ndarray], k: int
    ) -> list[Ranked]:
        # FAISS fills up with -1 where it found fewer.
        kept = neighbours >= 0
        if any(map(len, left_out)):
            first = np.arange(len(neighbours)) * len(self.items)  # makes a number of a row and a place
            left = np.repeat(first, [len(items) for items in left_out]) + np.concatenate(left_out)
            kept &= ~np.isin(first[:, None] + neighbours, left)
        # Equal scores are ordered by number, so that every index and batch size gives the same list
        # Of equals the first place, as exported.
        order = np.lexsort((neighbours, np.where(kept, -scores, np.inf)))[:, :k]
        lengths = np.minimum(kept.sum(1), k)
        is_filled = np.arange(order.shape[1]) < lengths[:, None]
        ids = self.items.at(np.take_along_axis(neighbours, order, 1)[is_filled])
        values = np.take_along_axis(scores, order, 1)
        ends = lengths.cumsum()
        return [
            Ranked(ids[end - n : end], row[:n]) for end, n, row in zip(ends, lengths, values, strict=True)
        ]


def open_run(url: str, storage: Storage | None = None) -> Run:
    """The exported run whose job has the output ``url``.

    Args:
        url: folder or s3:// URL.
        storage: how s3:// is reached, as the ``storage`` section of a job; by default its defaults.

    Raises:
        InputError: nothing is exported there.
        ArtifactError: what is there does not belong together, or another version made it.
    """
    folder, cache = RunFolder(open_location(url, storage or Storage())), downloads_folder()
    export = _artifact(folder.export, cache)
    partitions = _artifact(folder.partitions, cache)
    if "index" not in export.manifest.facts or "feature_columns" not in export.manifest.facts["fold_in"]:
        raise ArtifactError(
            f"{export.location.url}: exported by an earlier version. Run `mmssl-dist export` again."
        )
    # Ids are stored by partition: rows of one cut beside ids of another would name the wrong items.
    if export.manifest.facts["partitions"] != partitions.manifest.fingerprint:
        raise ArtifactError(
            f"{partitions.location.url}: partitioned again after the export was made. "
            "Run `mmssl-dist run` on the job."
        )
    return Run(export, partitions)


def _length(k: int) -> int:
    """``k`` as a Python number: FAISS takes no other, NumPy's for example."""
    rule, remedy = "a list has at least one item", "Give a whole number from 1 on."
    try:
        number = operator.index(k)
    except TypeError as error:
        raise InputError("k", repr(k), rule, remedy) from error
    if isinstance(k, bool | np.bool_) or number < 1:
        raise InputError("k", k, rule, remedy)
    return number


def _several(argument: object) -> list[object] | None:
    """The ids of a list, tuple, array, series, range or set; None for a single id."""
    if isinstance(argument, np.ndarray) and argument.ndim == 0:
        return None
    if isinstance(argument, str | bytes | pa.Scalar) or not isinstance(argument, Iterable):
        return None
    return list(argument)


def _artifact(folder: StageFolder, cache: Path) -> Artifact:
    return Artifact(folder.location, folder.require(), cache)
