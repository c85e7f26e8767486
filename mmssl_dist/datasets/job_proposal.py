"""Which files and columns of a folder a job reads: decided where headers leave one answer, asked where not.

Names decide first, then types, then what two tables have in common: the column that interactions and features
share is the item's id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mmssl_dist.datasets.interaction_table import (
    ID_TYPES,
    ITEM_NAMES,
    Ask,
    choose_interactions,
    item_column,
    named_columns,
    settle,
    split_column,
    time_column,
    unread_times,
    user_column,
)
from mmssl_dist.datasets.inventory import Inventory, RawTable, ValueType
from mmssl_dist.datasets.item_pictures import choose_pictures
from mmssl_dist.datasets.item_titles import USUAL_TITLE, ItemTitles, choose_titles, possible_titles
from mmssl_dist.datasets.proposed_features import ProposedFeatures, features_of_items
from mmssl_dist.datasets.unused_columns import other_spellings, unused_of_interactions, unused_of_items
from mmssl_dist.errors import InputError

_ENDINGS = r"[-_.]?(feats?|features?|embs?|embeddings?|vectors?)$"
_COLUMN_OF_VECTORS = {"vector", "vectors", "embedding", "embeddings", "features", "feature", "feat", "emb"}
_SPLIT_QUESTION = (
    "How are interactions held out? leave_last_out: each user's last two; temporal: the latest of all; "
    "ratio: at random; given: by the column"
)


@dataclass(frozen=True, kw_only=True)
class JobProposal:
    """The ``data`` section of a job.

    Attributes:
        layout, interactions, columns, titles, images, split: as in the section; None where nothing is set.
        split_choices: the methods that these interactions allow.
        interactions_remark: what the files hold.
        modalities: by name.
        unused: by file, why it is left out.
    """

    layout: str
    interactions: str | None
    interactions_remark: str
    columns: Mapping[str, str]
    modalities: Mapping[str, ProposedFeatures]
    titles: str | None
    images: str | None
    split: str
    split_choices: tuple[str, ...]
    unused: Mapping[str, str] = field(hash=False)


def propose(inventory: Inventory, ask: Ask) -> JobProposal:
    """What a job over the files of ``inventory`` reads.

    Args:
        inventory: the files.
        ask: answers a question with one of its choices.

    Raises:
        InputError: there are no interactions, or no feature vectors.
    """
    if inventory.release:
        return _of_release(inventory)
    table = choose_interactions(inventory, ask)
    item = item_column(table, inventory.tables, ask)
    time, split = time_column(table, item, ask), split_column(table)
    columns = {"user": user_column(table, (item, time, split), ask), "item": item}
    columns |= {name: value for name, value in (("time", time), ("split", split)) if value is not None}
    others = [other for other in inventory.tables if other is not table]
    titles = choose_titles(others, item, columns["user"], ask)
    modalities, reasons = _modalities(
        inventory, others, columns, item_type=table.columns[item], titles=titles, ask=ask
    )
    images, not_shown = choose_pictures(inventory, (table, *others), item, ask)
    choices = _split_methods(time, split)
    method = settle(
        key="data.split.method", question=_SPLIT_QUESTION, choices=choices, proposal=choices[0], ask=ask
    )
    if method != "given":
        # The column stays unread unless the split is the given one.
        columns.pop("split", None)
    titled = None if titles is None else titles.table
    used: set[object] = {table.name, titled, images}
    used |= {one.settings.get(key) for one in modalities.values() for key in ("file", "table")}
    # Where a file has two reasons, the one merged later is shown. Other spellings are merged first, since a
    # reason that says what the file holds is better; what no reason explains is looked for last.
    unused = {**inventory.unusable, **reasons, **not_shown}
    unused |= possible_titles(others, item, columns["user"], titles)
    unused |= unread_times(table) if time is None else {}
    unused = {**other_spellings((other for other in others if other.name not in used), item), **unused}
    left = unused_of_items(
        others, columns, modalities.values(), titles=titles, images=images, explained=unused
    )
    left |= unused_of_interactions(table, columns, unused)
    unused |= _unused_files(table, inventory, used, {*unused, *left})
    if titles is not None and titles.column != USUAL_TITLE:
        columns["title"] = titles.column
    return JobProposal(
        layout="inter" if table.is_inter else "table",
        interactions=table.name,
        interactions_remark=f"{table.bytes:,} bytes, columns {', '.join(table.columns)}",
        columns=columns,
        modalities=modalities,
        titles=titled,
        images=images,
        split=method,
        split_choices=choices,
        unused=unused | left,
    )


def _split_methods(time: str | None, split: str | None) -> tuple[str, ...]:
    """The methods that columns with these names allow, best first: what the data say themselves, then by
    time, as a recommender is used."""
    given = ("given",) if split else ()
    by_time = ("leave_last_out", "temporal") if time else ()
    return *given, *by_time, "ratio"


def _unused_files(
    interactions: RawTable, inventory: Inventory, used: Collection[object], explained: Collection[str]
) -> dict[str, str]:
    """Tables and matrices that are not ``used``; ``explained`` are files and columns with reasons."""
    others = [table for table in inventory.tables if table.name not in used]
    names = (*(table.name for table in others), *(matrix.name for matrix in inventory.matrices))
    unused = {
        name: "neither interactions, nor feature vectors, nor titles"
        for name in names
        if name not in used and not any(key == name or key.startswith(f"{name}, column") for key in explained)
    }
    for table in others:
        if set(table.columns) == set(interactions.columns):
            how = _how_to_read_both(interactions, table)
            unused[table.name] = f"more rows with the columns of {interactions.name}? {how}"
    return unused


def _how_to_read_both(table: RawTable, other: RawTable) -> str:
    if table.format == other.format:
        return "Put both into a folder, or name them by a glob in data.interactions, to read both"
    return (
        f"Interactions are files of one format: to read both, convert {other.name} to {table.format}, put "
        "both into a folder and name that in data.interactions"
    )


def _of_release(inventory: Inventory) -> JobProposal:
    modalities, reasons = _matrices(inventory, "integer")
    _require_modalities(modalities, reasons)
    unused = dict(inventory.unusable)
    unused |= {table.name: "the layout mmssl reads its three JSON files" for table in inventory.tables}
    return JobProposal(
        layout="mmssl",
        interactions=None,
        interactions_remark="train.json, val.json and test.json, whose split is kept",
        columns={},
        modalities=modalities,
        titles=None,
        images=None,
        split="given",
        split_choices=("given", "ratio"),
        unused=unused,
    )


def _modalities(
    inventory: Inventory,
    tables: Sequence[RawTable],
    of: Mapping[str, str],
    item_type: ValueType,
    titles: ItemTitles | None,
    ask: Ask,
) -> tuple[dict[str, ProposedFeatures], dict[str, str]]:
    """Every list column of numbers and every matrix; and why others cannot be used.

    Raises:
        InputError: there is none.
    """
    modalities, reasons = _matrices(inventory, item_type)
    item = of["item"]
    for table in tables:
        vectors = table.columns_of("vector")
        if not vectors:
            continue
        ids = table.columns_of(*ID_TYPES)
        if not ids or not table.is_parquet:
            reasons[table.name] = "its vectors have no column with the item's id beside them"
            continue
        # A column named as in the interactions is taken for the same ids.
        own = item if item in ids else None
        own = own or next(iter(named_columns(table, ITEM_NAMES, ID_TYPES)), None)
        question = f"Which column of {table.name} has the item's id?"
        key = f"data.modalities.{_modality(table.name)}.item"
        chosen = own or settle(key=key, question=question, choices=tuple(ids), proposal=None, ask=ask)
        for vector in vectors:
            alone = len(vectors) == 1 or vector.lower() in _COLUMN_OF_VECTORS
            name = _unused_name(_modality(table.name if alone else vector), modalities)
            settings = {"file": table.name, "item": chosen, "vector": vector}
            modalities[name] = ProposedFeatures(settings, f"{table.bytes:,} bytes")
    if not modalities:
        modalities, apart = features_of_items(tables, item, of["user"], titles)
        reasons |= apart
    unread = {name: inventory.unusable[name] for name in inventory.unread}
    _require_modalities(modalities, unread | reasons | other_spellings(tables, item))
    return modalities, reasons


def _matrices(
    inventory: Inventory, item_type: ValueType
) -> tuple[dict[str, ProposedFeatures], dict[str, str]]:
    modalities: dict[str, ProposedFeatures] = {}
    reasons: dict[str, str] = {}
    for matrix in inventory.matrices:
        # A matrix has no ids but its row numbers.
        if item_type != "integer":
            reasons[matrix.name] = (
                "its rows belong to items 0, 1, ..., and the ids of these items are not integers"
            )
            continue
        name = _unused_name(_modality(matrix.name), modalities)
        remark = f"row r is item r, of {matrix.rows:,}; {matrix.dimension} values"
        modalities[name] = ProposedFeatures({"file": matrix.name}, remark)
    return modalities, reasons


def _require_modalities(modalities: Mapping[str, object], reasons: Mapping[str, str]) -> None:
    if not modalities:
        seen = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise InputError(
            "FOLDER",
            f"no feature vectors{f' ({seen})' if seen else ''}",
            "items have features: a list column of numbers beside their id in Parquet, the rows of a .npy, "
            "or columns such as category, tags and price",
            "Compute embeddings of images or texts and write them there, or see docs/raw-content.md.",
        )


def _modality(name: str) -> str:
    """The name of a modality, from that of a file, a folder or a column."""
    stem = PurePosixPath(name).name.split(".")[0]
    # image_feat.npy is the modality image.
    bare = re.sub(_ENDINGS, "", stem, flags=re.IGNORECASE) or stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", bare).strip("-_") or "features"


def _unused_name(name: str, taken: Iterable[str]) -> str:
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next(one for one in names if one not in taken)
