"""Which table of a folder has the interactions, and in which columns: decided where headers leave one answer,
asked where not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmssl_dist.data.split_labels import LABEL
from mmssl_dist.datasets.inventory import NO_READER, Inventory, RawTable, ValueType
from mmssl_dist.errors import InputError

NONE = "none"
"""The answer that leaves an optional setting out."""

# Spelled as ``plain_name`` spells names, the likeliest first.
USER_NAMES = tuple(
    "userid user uid usr customerid customer memberid member accountid account clientid".split()
)
USER_NAMES += tuple("client visitorid visitor reviewerid reviewer buyerid buyer profileid sessionid".split())
USER_NAMES += tuple("kunde kunden kundenid kundennummer kundennr nutzer nutzerid".split())
ITEM_NAMES = tuple(
    "itemid item iid productid product sku asin parentasin movieid movie videoid video".split()
)
ITEM_NAMES += tuple(
    "trackid track songid song articleid article bookid book isbn businessid listingid".split()
)
ITEM_NAMES += tuple("postid photoid newsid gameid appid contentid docid".split())
ITEM_NAMES += tuple("artikel artikelid artikelnummer artikelnr produktid produktnummer".split())
_TIME_NAMES = tuple(
    "timestamp time eventtime datetime date ts at createdat unixreviewtime unixtime when".split()
)
_TIME_NAMES += tuple("viewedat clickedat purchasedat orderedat ratedat reviewedat day datum".split())
_SPLIT_NAMES = (LABEL, "split")
_INTERACTIONS = "interaction inter rating click event view purchase order review log history train".split()
_SHOWN = 1  # files that a message names
_SHOWN_UNKNOWN = 3  # likewise, of those without a reader
ID_TYPES: tuple[ValueType, ...] = ("integer", "text", "uuid")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What headers do not show.

    Attributes:
        key: the setting.
        text: the question, for people.
        choices: the possible answers.
        proposal: the likeliest answer; None where nothing speaks for any.
        remedy: what else can be done where nobody answers.
    """

    key: str
    text: str
    choices: tuple[str, ...]
    proposal: str | None
    remedy: str = "Call init without --yes and answer, or write the job by hand."


Ask = Callable[[Question], str]


def choose_interactions(inventory: Inventory, ask: Ask) -> RawTable:
    """The table of who did what.

    Raises:
        InputError: there is none.
    """
    tables, unread = inventory.tables, inventory.unread
    named = [
        t for t in tables if named_columns(t, USER_NAMES, ID_TYPES) and named_columns(t, ITEM_NAMES, ID_TYPES)
    ]
    # Other tables of vectors or pictures describe items, whatever ids they have.
    with_ids = [
        t for t in tables if len(t.columns_of(*ID_TYPES)) >= 2 and not t.columns_of("vector", "binary")
    ]
    # Names that say so come first, then size: interactions are usually the largest table.
    candidates = sorted(named or with_ids, key=lambda t: (not _looks_like_interactions(t.name), -t.bytes))
    if not candidates:
        raise InputError(
            "FOLDER",
            f"no table of interactions{_in_brackets(inventory, unread)}{_without_reader(inventory)}",
            "interactions need a column with the user's id and one with the item's",
            "Name a folder with such a table: Parquet, JSON lines (.jsonl), or CSV, TSV or .inter with a "
            "header.",
        )
    names = tuple(table.name for table in candidates)
    clear = bool(named) and (len(named) == 1 or _looks_like_interactions(candidates[0].name))
    key, question = "data.interactions", "Which table has the interactions?"
    missed = tuple(filter(_looks_like_interactions, unread))
    if missed:
        # Not settled by the only table that can be read: that may be last month's.
        text = f"{question} Perhaps one that cannot be read{_in_brackets(inventory, missed)}"
        remedy = f"Repair {missed[0]}, or move it elsewhere; or call init without --yes and answer."
        chosen = ask(Question(key=key, text=text, choices=names, proposal=None, remedy=remedy))
    else:
        chosen = settle(
            key=key, question=question, choices=names, proposal=names[0] if clear else None, ask=ask
        )
    return candidates[names.index(chosen)]


def _in_brackets(inventory: Inventory, names: Sequence[str]) -> str:
    """Why files cannot be read, as much as fits."""
    reasons = {name: inventory.unusable[name].rstrip(".") for name in names[:_SHOWN]}
    shown = [text if text.startswith(name) else f"{name}: {text}" for name, text in reasons.items()]
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return f" ({'; '.join((*shown, *more))})" if names else ""


def _without_reader(inventory: Inventory) -> str:
    """The files of unknown suffixes, one of which may be the table that is looked for."""
    names = [name for name, reason in inventory.unusable.items() if reason == NO_READER]
    more = f" and {len(names) - _SHOWN_UNKNOWN} more" if len(names) > _SHOWN_UNKNOWN else ""
    return f", and no reader for {', '.join(names[:_SHOWN_UNKNOWN])}{more}" if names else ""


def _looks_like_interactions(name: str) -> bool:
    return any(word in name.lower() for word in _INTERACTIONS)


def item_column(table: RawTable, tables: Sequence[RawTable], ask: Ask) -> str:
    """The column of the interactions with the item's id: by its name, or as the only one that a table of
    vectors has too."""
    named = named_columns(table, ITEM_NAMES, ID_TYPES)
    ids = tuple(table.columns_of(*ID_TYPES))
    if not named:  # the column that features name too
        featured = [set(t.columns_of(*ID_TYPES)) for t in tables if t is not table and t.columns_of("vector")]
        named = [name for name in ids if any(name in columns for columns in featured)]
        named = named if len(named) == 1 else []
    if len(named) == 1:
        return named[0]
    question = f"Which column of {table.name} has the item's id?"
    return ask(
        Question(key="data.columns.item", text=question, choices=ids, proposal=named[0] if named else None)
    )


def user_column(table: RawTable, taken: tuple[str | None, ...], ask: Ask) -> str:
    """The column with the user's id, which is not among ``taken``.

    Raises:
        InputError: there is none.
    """
    ids = tuple(name for name in table.columns_of(*ID_TYPES) if name not in taken)
    named = [name for name in named_columns(table, USER_NAMES, ID_TYPES) if name in ids]
    if len(named) == 1:
        return named[0]
    if not ids:
        raise InputError(
            table.name,
            f"columns {', '.join(table.columns)}",
            "interactions have a column with the user's id, which is an integer or a text",
            "Add the column.",
        )
    question = f"Which column of {table.name} has the user's id?"
    return settle(
        key="data.columns.user", question=question, choices=ids, proposal=named[0] if named else None, ask=ask
    )


def time_column(table: RawTable, item: str, ask: Ask) -> str | None:
    """The column with the time of the interaction, if there is one."""
    named = [
        name for name in named_columns(table, _TIME_NAMES, ("moment", "integer", "number")) if name != item
    ]
    choices = tuple(dict.fromkeys((*named, *table.columns_of("moment"))))
    if len(choices) < 2:
        return next(iter(choices), None)
    question = f"Which column of {table.name} has the time of the interaction?"
    chosen = ask(
        Question(key="data.columns.time", text=question, choices=(*choices, NONE), proposal=choices[0])
    )
    return None if chosen == NONE else chosen


def unread_times(table: RawTable) -> dict[str, str]:
    """Columns of texts that are named like times, with the reason why they are not times."""
    reason = (
        "named like a time, but not written as one: times are numbers, timestamps, or texts such as "
        "2026-01-31 17:05 or 31.01.2026 17:05"
    )
    return dict.fromkeys(
        (f"{table.name}, column {name}" for name in named_columns(table, _TIME_NAMES, ("text",))), reason
    )


def split_column(table: RawTable) -> str | None:
    """The column that says which split an interaction belongs to, if there is one."""
    return next((name for name in _SPLIT_NAMES if table.columns.get(name) in ID_TYPES), None)


def settle(key: str, question: str, choices: tuple[str, ...], proposal: str | None, ask: Ask) -> str:
    """The only choice, or the answer."""
    return (
        choices[0]
        if len(choices) == 1
        else ask(Question(key=key, text=question, choices=choices, proposal=proposal))
    )


def named_columns(table: RawTable, names: Sequence[str], types: tuple[ValueType, ...]) -> list[str]:
    """The columns of these types whose names are among ``names``, likeliest first."""
    plain = {name: plain_name(name) for name in table.columns_of(*types)}
    return sorted((name for name in plain if plain[name] in names), key=lambda name: names.index(plain[name]))


def has_users(table: RawTable, item: str, user: str) -> bool:
    """Whether a table has users beside the item's id, so that its rows are interactions."""
    users = {name for name in (user, *named_columns(table, USER_NAMES, ID_TYPES)) if name in table.columns}
    return bool(users - {item, own_item_column(table, item)})


def own_item_column(table: RawTable, item: str) -> str | None:
    """The column of ``table`` with the item's id: called ``item`` as in the interactions, spelled in another
    way, or by another usual name."""
    ids = table.columns_of(*ID_TYPES)
    if item in ids:
        return item
    spelled = [name for name in ids if plain_name(name) == plain_name(item)]
    return next(iter((*spelled, *named_columns(table, ITEM_NAMES, ID_TYPES))), None)


def plain_name(name: str) -> str:
    """``name`` in small letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
