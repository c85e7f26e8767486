"""An exported run, read from its published files as they are needed: ids, embeddings, recommendations,
similar items.

Users and items have places 0, 1, ...: the order of the export's files. Everything here is numpy, Arrow and
FAISS.
"""

# U users, I items, D embedding, q queries

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM_ID, USER_ID
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.answers import Ranked as Ranked
from mmssl_dist.serving.answers import RankedUsers
from mmssl_dist.serving.arguments import list_length, several_ids
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.item_table import ItemTable
from mmssl_dist.serving.nearest import best, nearest, nearest_in_blocks
from mmssl_dist.serving.new_items import NewItems, unit
from mmssl_dist.serving.new_users import NewUsers
from mmssl_dist.serving.part_rows import PartRows
from mmssl_dist.serving.run_facts import RunFacts
from mmssl_dist.serving.seen import KnownItems, SeenItems, read_known, read_seen
from mmssl_dist.storage import RunFolder, StageFolder, downloads_folder, open_location
from mmssl_dist.storage.export_names import (
    INDEX,
    ITEM_EMBEDDINGS,
    ITEM_ROWS,
    USER_EMBEDDINGS,
    USER_ROWS,
    embeddings_file,
    parquet_file,
)

NOTHING = np.empty(0, np.int64)
_DEEPEST = 2048  # results up to which an approximate index is asked; beyond, every item is scored


class Run(RunFacts):
    """An exported run; ``open_run`` makes it.

    Args:
        export, partitions: the artifacts that the run is read from.
        read_table: makes the table of the run's items; without it items have neither titles nor columns.
    """

    def __init__(
        self, export: Artifact, partitions: Artifact, read_table: Callable[[Ids], ItemTable] | None = None
    ) -> None:
        self.export, self.partitions, self._read_table = export, partitions, read_table

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

    @cached_property
    def item_table(self) -> ItemTable:
        """Titles and other columns of the items, by place; without any where the run was opened without a
        table."""
        return ItemTable({}) if self._read_table is None else self._read_table(self.items)

    def recommend(
        self,
        users: object,
        k: int = 20,
        exclude_seen: bool = True,
        exact: bool = False,
        candidates: ItemFilter | None = None,
    ) -> Ranked | list[Ranked]:
        """The ``k`` best items of a user, or of each of several: a list, tuple, array or series of users.

        Args:
            users: an external id, or several; of the type in the data, or as text.
            exclude_seen: leave out the items of ``history``.
            exact: score every item, whatever the index; a flat index does so anyhow.
            candidates: which items may be listed; those that ``allow`` or ``where`` let through are all
                scored.

        Raises:
            InputError: an unknown id, k below 1, or a filter by a column that the table of items lacks.
            ArtifactError: a file is not what its manifest says.
        """
        several = several_ids(users)
        positions = self.users.positions([users] if several is None else several)
        ranked = self.recommend_at(positions, k, exclude_seen, exact=exact, candidates=candidates)
        return ranked[0] if several is None else ranked

    def recommend_at(
        self,
        positions: np.ndarray,
        k: int = 20,
        exclude_seen: bool = True,
        exact: bool = False,
        candidates: ItemFilter | None = None,
    ) -> list[Ranked]:
        """``recommend`` for the users at ``positions``."""
        left_out = [self.known.of(position) if exclude_seen else NOTHING for position in positions]
        return self.rank(self.user_rows.take(positions), left_out, k, exact=exact, candidates=candidates)

    def recommend_new(
        self,
        items: Sequence[object],
        k: int = 20,
        exclude_seen: bool = True,
        exact: bool = False,
        candidates: ItemFilter | None = None,
    ) -> Ranked:
        """The ``k`` best items of a user training never saw, by the items known of them; raises as
        ``recommend`` does.

        The row is ``fold_in``'s. ``exclude_seen`` leaves out ``items``.
        """
        return self.recommend_new_many([items], k, exclude_seen, exact=exact, candidates=candidates)[0]

    def recommend_new_many(
        self,
        baskets: Sequence[Sequence[object]],
        k: int,
        exclude_seen: bool = True,
        exact: bool = False,
        candidates: ItemFilter | None = None,
    ) -> list[Ranked]:
        """``recommend_new`` of several."""
        # All rows in one search: FAISS takes a batch in little more time than a single query.
        item_positions = [self.basket(items) for items in baskets]
        rows = np.stack([self.fold_in(positions) for positions in item_positions])
        seen = [positions if exclude_seen else NOTHING for positions in item_positions]
        return self.rank(rows, seen, k, exact=exact, candidates=candidates)

    def popular(self, k: int = 20, candidates: ItemFilter | None = None) -> Ranked:
        """The ``k`` items with most training interactions, and how many; for users of whom nothing is known.

        Raises:
            InputError: k below 1, or a filter by a column that the table of items lacks.
            ArtifactError: a file is not what its manifest says.
        """
        k, counts = list_length(k), self._interactions
        # Stable, so that equally popular items come in the order of the export, as everywhere else.
        order = np.argsort(-counts, kind="stable")
        if candidates is not None:
            order = order[candidates.mask(self.items, self.item_table)[order]]
        return self._titled(order[:k], counts[order[:k]].astype(np.float32))

    def similar(
        self, items: object, k: int = 20, candidates: ItemFilter | None = None
    ) -> Ranked | list[Ranked]:
        """The ``k`` items whose embeddings have the highest cosine with an item's, or with each of several
        items'.

        Every item is compared; the item itself is left out. Raises as ``recommend`` does.
        """
        k, several = list_length(k), several_ids(items)
        positions = self.items.positions([items] if several is None else several)
        itself = [np.asarray([position]) for position in positions]
        ranked = self._scored(self._units[positions], self._units, itself, k, candidates=candidates)
        return ranked[0] if several is None else ranked

    def new_item(self, features: Mapping[str, Sequence[float]]) -> np.ndarray:
        """float32 [D], the row of an item training never saw: what the model makes of an item without
        interactions.

        Args:
            features: modality -> its vector as in the raw files, for one or more of the run's modalities.
                Those that ``partition`` left out count nothing.

        Raises:
            InputError: an unknown modality, none but modalities that were left out, or a vector of another
                width or with values that are not finite.
        """
        return self._new_items.row(features)

    def similar_to_new(
        self, features: Mapping[str, Sequence[float]], k: int = 20, candidates: ItemFilter | None = None
    ) -> Ranked:
        """The ``k`` items whose embeddings have the highest cosine with a new item's row; raises as
        ``new_item``."""
        k, row = list_length(k), unit(self.new_item(features))[None]
        return self._scored(row, self._units, [NOTHING], k, candidates=candidates)[0]

    def users_for_new(self, features: Mapping[str, Sequence[float]], k: int = 20) -> RankedUsers:
        """The ``k`` users with the highest scores of a new item, of all users; raises as ``new_item``."""
        k, row = list_length(k), self.new_item(features)[None]
        scores, neighbours = nearest_in_blocks(row, self.user_rows.blocks(), min(k, len(self.users)))
        if not np.isfinite(scores).all():
            raise InputError(
                "features", "very large values", "scores must be finite in float32", "Correct the features."
            )
        return RankedUsers(self.users.at(neighbours[0]), scores[0])

    def check_users(self) -> None:
        """Open the rows and known items of all users, which lookups open partition by partition.

        Raises:
            ArtifactError: a file is not what its manifest says.
        """
        for part in range(read_book(self.partitions.manifest).parts):
            self.user_rows.part(part)
            self.known.open_part(part)

    def history(self, user: object) -> list[Any]:
        """The items of a user's interactions: all of them, or where ``export.exclude`` is training those of
        training; raises as ``recommend`` does."""
        return self.items.at(self.known.of(self.users.position(user)))

    def fold_in(self, items: np.ndarray) -> np.ndarray:
        """float32 [D], the row of a user of these items, given by place: what the model's propagation makes
        of them."""
        return self._new_users.row(items)

    @cached_property
    def seen(self) -> SeenItems:
        """The training interactions, by place."""
        return read_seen(self.partitions)

    @cached_property
    def known(self) -> KnownItems:
        """The interactions that ``exclude_seen`` leaves out, by place."""
        return read_known(self.partitions, self.exclude, self.seen)

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
    def _new_users(self) -> NewUsers:
        return NewUsers(self.export, self.partitions)

    def basket(self, items: Sequence[object]) -> np.ndarray:
        """Places of a new user's items, each once, ascending.

        Raises:
            InputError: there are none, it is a single id, or one is unknown.
        """
        several = several_ids(items)
        if not several:
            raise InputError(
                "items",
                "none" if several is not None else repr(items),
                "a new user is known by a list of at least one item",
                "Give a list of item ids.",
            )
        return np.unique(self.items.positions(several))

    def rank(
        self,
        rows: np.ndarray,
        left_out: Sequence[np.ndarray],
        k: int,
        exact: bool = False,
        candidates: ItemFilter | None = None,
    ) -> list[Ranked]:
        """The ``k`` best items of each row [q, D] among ``candidates``, without those at its ``left_out``
        places."""
        k = list_length(k)
        filtered = candidates is not None and candidates.selects
        if exact or filtered:
            return self._scored(rows, self.item_embeddings, left_out, k, candidates=candidates)
        blocked = NOTHING if candidates is None else candidates.blocked(self.items)
        # Deep enough that k remain even if every item left out is among the best. An approximate index
        # returns fewer results than that, and slowly; the exact search has no such limit.
        depth = k + len(blocked) + max(map(len, left_out), default=0)
        if min(depth, len(self.items)) > _DEEPEST:
            return self._scored(rows, self.item_embeddings, left_out, k, candidates=candidates)
        # Here alone: a search that scores every item leaves blocked ones out by its mask.
        if len(blocked):
            left_out = [np.union1d(items, blocked) for items in left_out]
        scores, neighbours = self._index.search(rows, min(depth, len(self.items)))
        return self._chosen(scores, neighbours, left_out, k)

    def _scored(
        self,
        queries: np.ndarray,
        rows: np.ndarray,
        left_out: Sequence[np.ndarray],
        k: int,
        *,
        candidates: ItemFilter | None,
    ) -> list[Ranked]:
        """The ``k`` best items of each query by its product with their ``rows``, all of which are scored."""
        mask = None
        if candidates is not None:
            mask = candidates.mask(self.items, self.item_table)
        eligible = len(self.items) if mask is None else int(mask.sum())
        depth = min(k + max(map(len, left_out), default=0), eligible)
        if not depth:
            return [self._titled(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        return self._chosen(*nearest(queries, rows, depth, mask), left_out, k)

    def _titled(self, positions: np.ndarray, scores: np.ndarray) -> Ranked:
        return Ranked(self.items.at(positions), scores, self.item_table.titles(positions))

    def _chosen(
        self, scores: np.ndarray, neighbours: np.ndarray, left_out: Sequence[np.ndarray], k: int
    ) -> list[Ranked]:
        positions, values, lengths = best(
            scores=scores, neighbours=neighbours, left_out=left_out, k=k, count=len(self.items)
        )
        # Ids and titles of all lists at once, then cut into lists.
        all_lists = self._titled(positions, values)
        starts = lengths.cumsum() - lengths
        return [all_lists.between(start, start + n) for start, n in zip(starts, lengths, strict=True)]


def open_run(
    url: str, storage: Storage | None = None, read_table: Callable[[Ids], ItemTable] | None = None
) -> Run:
    """The exported run whose job has the output ``url``.

    Args:
        url: folder, or a URL such as s3://bucket/run or gs://bucket/run.
        storage: how object storage is reached, as the ``storage`` section of a job; by default its defaults.
        read_table: as in ``Run``.

    Raises:
        InputError: nothing is exported there.
        ArtifactError: what is there does not belong together, or another version made it.
    """
    location, cache = open_location(url, storage or Storage()), downloads_folder()
    if location.is_local and not location.is_folder():
        raise InputError("RUN", url, "the output of a job, which is a folder", "Check the path or URL.")
    folder = RunFolder(location)
    export = _artifact(folder.export, cache)
    partitions = _artifact(folder.partitions, cache)
    if "index" not in export.manifest.facts or "length_exponent" not in export.manifest.facts["fold_in"]:
        raise ArtifactError(
            f"{export.location.url}: exported by an earlier version. Run `mmssl-dist export` again."
        )
    # Ids are stored by partition: rows of one cut beside ids of another would name the wrong items.
    if export.manifest.facts["partitions"] != partitions.manifest.fingerprint:
        raise ArtifactError(
            f"{partitions.location.url}: partitioned again after the export was made. "
            "Run `mmssl-dist run` on the job."
        )
    run = Run(export, partitions, read_table)
    run.folder = folder
    return run


def _artifact(folder: StageFolder, cache: Path) -> Artifact:
    return Artifact(folder.location, folder.require(), cache)
