"""Which files and columns of a folder a job reads: decided where headers leave one answer, asked where not.

Names decide first, then types, then what two tables have in common: the column that interactions and features
share is the item's id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from mmssl_dist.datasets.interaction_table import (
    ID_TYPES,
    Ask,
    choose_interactions,
    item_column,
    own_item_column,
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
from mmssl_dist.datasets.unused_columns import unused_of_interactions, unused_of_items
from mmssl_dist.errors import InputError

_ENDINGS = r"[-_.]?(feats?|features?|embs?|embeddings?|vectors?)$"
_COLUMN_OF_VECTORS = {"vector", "vectors", "embedding", "embeddings", "features", "feature", "feat", "emb"}
_SPLITS = {
    "given": "as the column says",
    "leave_last_out": "each user's last two",
    "temporal": "the latest of all",
    "ratio": "at random",
}


@dataclass(frozen=True, kw_only=True)
class JobProposal:
    """The ``data`` section of a job.

    Attributes:
        layout, interactions, columns, titles, images, split: as in the section; None where nothing is set.
        split_choices: the methods that these interactions allow.
        interactions_remark: what the files hold.
        modalities: by name.
        further: modalities that wait in a comment, since what they add to vectors is not known.
        unused: by file, why it is left out.
    """

    layout: str
    interactions: str | None
    interactions_remark: str
    columns: Mapping[str, str]
    modalities: Mapping[str, ProposedFeatures]
    further: Mapping[str, ProposedFeatures]
    titles: str | None
    images: str | None
    split: str
    split_choices: tuple[str, ...]
    unused: Mapping[str, str] = field(hash=False)

    def with_further(self) -> JobProposal:
        """The same with all modalities, since vectors alone leave items without features."""
        added = {
            name: replace(one, remark=f"{one.remark}; some items have no vectors")
            for name, one in self.further.items()
        }
        return replace(self, modalities={**self.modalities, **added}, further={})


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
    modalities, reasons = _modalities(inventory, others, columns, item_type=table.columns[item], ask=ask)
    facts, apart = features_of_items(others, item, columns["user"], titles)
    modalities, further = (modalities, facts) if modalities else (facts, {})
    reasons |= apart
    _require_modalities(modalities, _unread(inventory) | reasons)
    images, not_shown = choose_pictures(inventory, (table, *others), item, ask)
    choices = _split_methods(time, split)
    method = _split_method(choices, ask)
    if method != "given":
        # The column stays unread unless the split is the given one.
        columns.pop("split", None)
    titled = None if titles is None else titles.table
    used: set[object] = {table.name, titled, images}
    offered = (*modalities.values(), *further.values())
    used |= {one.settings.get(key) for one in offered for key in ("file", "table")}
    # Where a file has two reasons, the one merged later is shown; what no reason explains is looked for last.
    unused = {**inventory.unusable, **reasons, **not_shown}
    unused |= possible_titles(others, item, columns["user"], titles)
    unused |= unread_times(table) if time is None else {}
    left = unused_of_items(others, columns, offered, titles=titles, images=images, explained=unused)
    left |= unused_of_interactions(table, columns, unused)
    unused |= _unused_files(table, columns, inventory, used=used, explained={*unused, *left})
    columns |= _title_columns(titles, item)
    return JobProposal(
        layout="inter" if table.is_inter else "table",
        interactions=table.name,
        interactions_remark=f"{table.bytes:,} bytes, columns {', '.join(table.columns)}",
        columns=columns,
        modalities=modalities,
        further=further,
        titles=titled,
        images=images,
        split=method,
        split_choices=choices,
        unused=unused | left,
    )


def _title_columns(titles: ItemTitles | None, item: str) -> dict[str, str]:
    """The columns of titles whose names are not the default."""
    if titles is None:
        return {}
    names = {"title": (titles.column, USUAL_TITLE), "title_item": (titles.item, item)}
    return {setting: name for setting, (name, default) in names.items() if name != default}


def _split_methods(time: str | None, split: str | None) -> tuple[str, ...]:
    """The methods that columns with these names allow, best first: what the data say themselves, then by
    time, as a recommender is used."""
    given = ("given",) if split else ()
    by_time = ("leave_last_out", "temporal") if time else ()
    return *given, *by_time, "ratio"


def _split_method(choices: tuple[str, ...], ask: Ask) -> str:
    ways = "; ".join(f"{name}: {_SPLITS[name]}" for name in choices)
    question = f"Which interactions are held out for the test? {ways}"
    return settle(key="data.split.method", question=question, choices=choices, proposal=choices[0], ask=ask)


def _unused_files(
    interactions: RawTable,
    columns: Mapping[str, str],
    inventory: Inventory,
    used: Collection[object],
    explained: Collection[str],
) -> dict[str, str]:
    """Tables and matrices that are not ``used``; ``explained`` are files and columns with reasons.

    Args:
        interactions: their table, and ``columns`` those of it that the job names.
    """
    others = [table for table in inventory.tables if table.name not in used]
    names = (*(table.name for table in others), *(matrix.name for matrix in inventory.matrices))
    unused = {
        name: "neither interactions, nor feature vectors, nor titles"
        for name in names
        if name not in used and not any(key == name or key.startswith(f"{name}, column") for key in explained)
    }
    for table in others:
        same = set(table.columns) == set(interactions.columns)
        of_both = {columns["user"], columns["item"]} <= table.columns.keys()
        if same or (of_both and _without_digits(table.name) == _without_digits(interactions.name)):
            shared = "the columns" if same else f"columns {columns['user']} and {columns['item']}"
            how = _how_to_read_both(interactions, table)
            unused[table.name] = f"more rows with {shared} of {interactions.name}? {how}"
    return unused


def _without_digits(name: str) -> str:
    return re.sub("[0-9]+", "", name)


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
        further={},
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
    ask: Ask,
) -> tuple[dict[str, ProposedFeatures], dict[str, str]]:
    """Every column of vectors and every matrix; and why others cannot be used."""
    modalities, reasons = _matrices(inventory, item_type)
    item = of["item"]
    for table in tables:
        vectors = table.columns_of("vector")
        if not vectors:
            continue
        ids = table.columns_of(*ID_TYPES)
        if not ids:
            reasons[table.name] = "its vectors have no column with the item's id beside them"
            continue
        own = own_item_column(table, item)
        question = f"Which column of {table.name} has the item's id?"
        key = f"data.modalities.{_modality(table.name)}.item"
        chosen = own or settle(key=key, question=question, choices=tuple(ids), proposal=None, ask=ask)
        for vector in vectors:
            alone = len(vectors) == 1 or vector.lower() in _COLUMN_OF_VECTORS
            name = _unused_name(_modality(table.name if alone else vector), modalities)
            settings = {"file": table.name, "item": chosen, "vector": vector}
            modalities[name] = ProposedFeatures(settings, f"{table.bytes:,} bytes")
    return modalities, reasons


def _unread(inventory: Inventory) -> dict[str, str]:
    return {name: inventory.unusable[name] for name in inventory.unread}


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
            "items have features: vectors beside their id in a table, the rows of a .npy, or columns such as "
            "category, tags and price",
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
