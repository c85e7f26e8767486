"""Which pictures of a folder are named after items: what a report shows is proposed only where some are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.files import ITEM_PLACE
from mmssl_dist.data.ids import id_texts
from mmssl_dist.data.images import IMAGE
from mmssl_dist.datasets.first_rows import first_values
from mmssl_dist.datasets.interaction_table import ID_TYPES, NONE, Ask, Question
from mmssl_dist.datasets.inventory import ImageFolder, Inventory, RawTable

_FILES = 8  # of a table: their first rows have ids enough to see how pictures are named


def choose_pictures(
    inventory: Inventory, tables: Sequence[RawTable], item: str, ask: Ask
) -> tuple[str | None, dict[str, str]]:
    """Pictures named after items, or a Parquet column of them; and by path with ``{item}``, why the pictures
    of a folder cannot be shown.

    Args:
        inventory: the files.
        tables: the interactions, and others after them.
        item: the column with the item's id.
        ask: answers a question with one of its choices.

    Raises:
        InputError: ids cannot be read.
    """
    candidates, reasons = [], {}
    items = _first_items(tables, item) if inventory.images else frozenset()
    for folder in inventory.images:
        if items.isdisjoint(folder.stems):
            reasons[folder.pattern] = _mismatch(folder, items)
        else:
            candidates.append(folder.pattern)
    candidates += [
        t.name for t in tables[1:] if t.is_parquet and t.columns.get(IMAGE) == "binary" and item in t.columns
    ]
    if not candidates:
        return None, reasons
    question = "Which pictures show the items, in the report? {item} stands for the item's id"
    chosen = ask(
        Question(key="data.images", text=question, choices=(*candidates, NONE), proposal=candidates[0])
    )
    return None if chosen == NONE else chosen, reasons


def _mismatch(folder: ImageFolder, items: frozenset[str]) -> str:
    """Why no picture of a folder is one of the items."""
    by_folded = {item.casefold(): item for item in items}
    picture = next((stem for stem in folder.stems if stem.casefold() in by_folded), None)
    if picture is not None:
        meant = by_folded[picture.casefold()]
        name = PurePosixPath(folder.pattern).name.replace(ITEM_PLACE, picture)
        return (
            f"pictures? File names are case-sensitive: {name} is not item {meant}. Rename the files, "
            "and set data.images"
        )
    example = f", such as {min(items)}" if items else ""
    return (
        f"pictures? None is named after one of the {len(items):,} items that were looked at{example}. Name "
        "files after items, and set data.images"
    )


def _first_items(tables: Sequence[RawTable], item: str) -> frozenset[str]:
    """Ids in the first rows of tables that have the column, as texts."""
    items: set[str] = set()
    for table in (table for table in tables if table.columns.get(item) in ID_TYPES):
        like = 0 if table.columns[item] == "integer" else ""
        for file in table.files[:_FILES]:
            for ids in first_values(table, file, item):
                items.update(pc.unique(id_texts(pa.chunked_array([ids]), like)).drop_null().to_pylist())
    return frozenset(items)
