"""Columns that a proposed job does not read, by file, and how they can be used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mmssl_dist.data.images import IMAGE
from mmssl_dist.datasets.interaction_table import has_users, own_item_column
from mmssl_dist.datasets.inventory import RawTable
from mmssl_dist.datasets.item_titles import ItemTitles
from mmssl_dist.datasets.proposed_features import ProposedFeatures

_SHOWN = 20  # columns of a file


def unused_of_items(
    tables: Iterable[RawTable],
    columns: Mapping[str, str],
    modalities: Iterable[ProposedFeatures],
    titles: ItemTitles | None,
    images: str | None,
    explained: Collection[str],
) -> dict[str, str]:
    """Columns of the tables of items: those that have the items' ids and no users.

    Args:
        tables: all but the interactions.
        columns: of the interactions.
        modalities, titles, images: as proposed.
        explained: files and columns that have a reason of their own.
    """
    reason = "add categories, tags and numbers to features (docs/raw-content.md)"
    if titles is None:
        reason += "; for titles of items, set data.titles and data.columns.title"
    user, item = columns["user"], columns["item"]
    read: set[tuple[object, object]] = {(images, IMAGE)}
    read |= set() if titles is None else {(titles.table, titles.column)}
    for settings in (one.settings for one in modalities):
        file = settings.get("file", settings.get("table"))
        features = settings.get("features", {})
        assert isinstance(features, Mapping)
        read |= {(file, name) for name in (settings.get("item"), settings.get("vector"), *features)}
    unused: dict[str, str] = {}
    for table in tables:
        own = own_item_column(table, item)
        of_items = own is not None and not has_users(table, item, user)
        if of_items and not table.is_inter and table.name not in explained:
            left = [name for name in table.columns if name != own and (table.name, name) not in read]
            unused |= _columns(table, left, explained, reason)
    return unused


def unused_of_interactions(
    table: RawTable, columns: Mapping[str, str], explained: Collection[str]
) -> dict[str, str]:
    """Columns of the interactions beside ``columns``."""
    reason = (
        "every row counts as an interaction, whatever it has there; data.min_rating and data.columns.rating "
        "leave rows out whose number is lower"
    )
    left = [name for name in table.columns if name not in columns.values()]
    return _columns(table, left, explained, reason)


def _columns(
    table: RawTable, names: Sequence[str], explained: Collection[str], reason: str
) -> dict[str, str]:
    left = [name for name in names if f"{table.name}, column {name}" not in explained]
    if not left:
        return {}
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    of = "column" if len(left) == 1 else "columns"
    return {f"{table.name}, {of} {', '.join(left[:_SHOWN])}{more}": reason}
