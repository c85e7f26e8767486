"""Which columns of a table of items are features: by their names, then by the values of the first rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mmssl_dist.config.data_sections import FeatureType, Modality
from mmssl_dist.datasets.first_rows import FirstValues, tag_separator
from mmssl_dist.datasets.interaction_table import (
    ITEM_NAMES,
    USER_NAMES,
    has_users,
    named_columns,
    own_item_column,
)
from mmssl_dist.datasets.inventory import RawTable, ValueType
from mmssl_dist.datasets.item_titles import USUAL_TITLE, ItemTitles

_FEATURES: dict[FeatureType, tuple[Sequence[str], tuple[ValueType, ...]]] = {
    "category": (
        "category brand color colour department genre maker manufacturer".split(),
        ("integer", "text"),
    ),
    "tags": ("tags genres categories keywords".split(), ("text", "tags")),
    "number": (("price", "cost"), ("integer", "number")),
}


@dataclass(frozen=True)
class ProposedFeatures:
    """A modality: its settings, and a remark on its vectors."""

    settings: Mapping[str, object]
    remark: str


def features_of_items(
    tables: Sequence[RawTable], item: str, user: str, titles: ItemTitles | None
) -> tuple[dict[str, ProposedFeatures], dict[str, str]]:
    """Columns of the first table of items that has some with usual names, or else with values like those of
    features; and the tables that have some beside users. Columns of ``titles`` are not features.

    Raises:
        InputError: columns cannot be read.
    """
    reasons: dict[str, str] = {}
    of_items = []
    for table in tables:
        own = own_item_column(table, item)
        if table.is_inter or own is None:
            continue
        named = _named_features(table)
        # A price beside a user is what that user paid, and may be of an interaction that is held out.
        if not has_users(table, item, user):
            of_items.append((table, own, named))
        elif named:
            beside = f"contains a user column beside {', '.join(named)}"
            reasons[table.name] = f"{beside}: values of interactions, not of items"
    # Names say more than values: a table with usual names comes first.
    for table, own, named in sorted(of_items, key=lambda of_table: not of_table[2]):
        apart = _unread_features(table)
        title = () if titles is None or titles.table != table.name else (titles.column,)
        by_values = _features_by_values(table, own, {*named, *apart, *title})
        features = {name: of for name, of in {**named, **by_values}.items() if name not in apart}
        separator, of_others = _separator(table, features)
        decimal, of_points = _decimal(table, features)
        apart |= of_others | of_points
        reasons |= {f"{table.name}, column {name}": reason for name, reason in apart.items()}
        features = {name: of for name, of in features.items() if name not in apart}
        by_values = {name: of for name, of in by_values.items() if name not in apart}
        if features:
            settings: dict[str, object] = {"table": table.name, "item": own, "features": features}
            remark = f"{table.bytes:,} bytes"
            if separator is not None:
                settings["separator"] = separator
                remark += "; separator: between the tags of a text"
            if decimal is not None:
                settings["decimal"] = decimal
                remark += "; decimal: before the fraction of a number"
            if by_values:
                remark += f"; proposed for their values: {', '.join(by_values)}"
            return {"facts": ProposedFeatures(settings, remark)}, reasons
    return {}, reasons


def _named_features(table: RawTable) -> dict[str, FeatureType]:
    return {
        name: feature_type
        for feature_type, (names, types) in _FEATURES.items()
        for name in named_columns(table, names, types)
    }


def _features_by_values(table: RawTable, item: str, taken: Collection[str]) -> dict[str, FeatureType]:
    """Texts that repeat, as categories or tags, and numbers with a fraction, of columns not ``taken``.
    Integers may be codes, whose size says nothing, so they are left to people."""
    ids = (item, *named_columns(table, (*ITEM_NAMES, *USER_NAMES), ("text",)))
    # Keys of folders are the same for all rows of a file.
    passed_over = {USUAL_TITLE, *ids, *taken, *table.files[0].keys}
    features: dict[str, FeatureType] = {}
    for name in table.columns_of("text", "number"):
        if name in passed_over:
            continue
        first = FirstValues.of(table, name)
        if table.columns[name] == "number" and len(first.distinct) > 1:
            features[name] = "number"
        elif table.columns[name] == "text" and first.have_decimal_commas:
            features[name] = "number"
        elif table.columns[name] == "text" and (first.are_categories or first.are_tags):
            features[name] = "tags" if first.are_tags else "category"
    # Where items repeat, a row is an event of theirs and not the item.
    return features if features and FirstValues.of(table, item).are_unique else {}


def _separator(table: RawTable, features: Mapping[str, FeatureType]) -> tuple[str | None, dict[str, str]]:
    """What stands between tags, which is one setting for all columns of a modality, or None where no column
    has texts of tags; and columns that cannot be read so, with the reason."""
    of_columns = {
        name: tag_separator(table, name)
        for name, of in features.items()
        if of == "tags" and table.columns[name] == "text"
    }
    if not of_columns:
        return None, {}
    default: str = Modality.model_fields["separator"].default
    chosen = next(filter(None, of_columns.values()), default)
    unreadable = (
        'tags? Lists in a text must be JSON, such as ["a", "b"]: write them like that, or with a separator, '
        "and add the column to features as tags"
    )
    others = f"tags, and the separator is not {chosen}: make the column a modality of its own"
    apart = {
        name: unreadable if separator is None else others
        for name, separator in of_columns.items()
        if separator is None or separator not in ("", chosen)
    }
    return (None if len(apart) == len(of_columns) else chosen), apart


def _decimal(table: RawTable, features: Mapping[str, FeatureType]) -> tuple[str | None, dict[str, str]]:
    """The mark before fractions where texts have commas, which is one setting for all columns of a modality,
    else None; and columns that cannot be read so, with the reason."""
    numbers = [name for name, of in features.items() if of == "number"]
    commas = [name for name in numbers if table.columns[name] == "text"]
    # Only Parquet's numbers are not texts
    points = [name for name in numbers if table.columns[name] == "number" and not table.is_parquet]
    if commas and points:
        reason = (
            f"decimal commas, where {', '.join(points)} has points: make the column a modality of its own"
        )
        return None, dict.fromkeys(commas, reason)
    return ("," if commas else None), {}


def _unread_features(table: RawTable) -> dict[str, str]:
    """Columns with the names of numbers that are texts, and how they can be read."""
    reason = (
        "a price? Numbers are written in digits, with a point (or a comma, with decimal) and without units: "
        "write it like that, and add it to features as a number"
    )
    names, _ = _FEATURES["number"]
    texts = named_columns(table, names, ("text",))
    return {name: reason for name in texts if not FirstValues.of(table, name).have_decimal_commas}
