"""Which table and column of a folder have the titles of items: by their names, asked where several may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmssl_dist.config.data_sections import Columns
from mmssl_dist.datasets.interaction_table import (
    NONE,
    Ask,
    Question,
    has_users,
    named_columns,
    own_item_column,
)
from mmssl_dist.datasets.inventory import RawTable

USUAL_TITLE = Columns().title
# Spelled as ``plain_name`` spells names, the likeliest first.
_TITLE_NAMES = tuple("title name itemname itemtitle productname producttitle movietitle moviename".split())
_TITLE_NAMES += tuple("booktitle bookname articletitle songtitle trackname gamename headline".split())
_TITLE_NAMES += tuple("titel bezeichnung titre titulo titolo nombre nome".split())


@dataclass(frozen=True)
class ItemTitles:
    """A table, and its columns of titles and of items' ids."""

    table: str
    column: str
    item: str


def choose_titles(tables: Sequence[RawTable], item: str, user: str, ask: Ask) -> ItemTitles | None:
    """The titles among ``tables``: a column ``title`` beside the item's id, or else one with another usual
    name in a table without users."""
    columns = {table.name: _columns(table, item) for table in tables}
    usual = {name: [USUAL_TITLE] for name, titles in columns.items() if USUAL_TITLE in titles}
    # Beside users, another name may be theirs.
    candidates = usual or {
        table.name: columns[table.name]
        for table in tables
        if columns[table.name] and not has_users(table, item, user)
    }
    if not candidates:
        return None
    table = _chosen("data.titles", "Which table has the titles of items?", tuple(candidates), ask)
    if table is None:
        return None
    question = f"Which column of {table} has the titles of items?"
    column = _chosen("data.columns.title", question, tuple(candidates[table]), ask)
    if column is None:
        return None
    own = next(own_item_column(one, item) for one in tables if one.name == table)
    return ItemTitles(table, column, own or item)


def possible_titles(
    tables: Sequence[RawTable], item: str, user: str, titles: ItemTitles | None
) -> dict[str, str]:
    """Columns beside users that may be titles, by file and column, and how they can be read; none where there
    are ``titles``."""
    reason = "titles of items, or names of users? For titles, set data.titles and data.columns.title"
    return {
        f"{table.name}, column {column}": reason
        for table in tables
        if titles is None and has_users(table, item, user)
        for column in _columns(table, item)[:1]
    }


def _columns(table: RawTable, item: str) -> list[str]:
    """The columns with names of titles, likeliest first; none in a table without the items' ids."""
    own = own_item_column(table, item)
    if own is None or table.is_inter:
        return []
    named = [name for name in named_columns(table, _TITLE_NAMES, ("text",)) if name != own]
    return sorted(named, key=lambda name: name != USUAL_TITLE)


def _chosen(key: str, question: str, choices: tuple[str, ...], ask: Ask) -> str | None:
    """The only choice, or the answer; None for none."""
    if len(choices) == 1:
        return choices[0]
    chosen = ask(Question(key=key, text=question, choices=(*choices, NONE), proposal=choices[0]))
    return None if chosen == NONE else chosen
