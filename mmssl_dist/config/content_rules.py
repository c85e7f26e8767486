"""Rules for a modality: it has vectors, raw content and the encoder that embeds it, or columns of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmssl_dist.config.data_sections import Data, Modality
from mmssl_dist.config.disagreement import Disagreement

_COLUMN = re.compile(r"\{([^{}/]+)\}")
_BESIDE_FEATURES = ("file", "columns", "files", "encoder", "revision", "dimension")
_OF_CONTENT = ("table", "columns", "files", "revision", "dimension")


def columns_of_path(pattern: str) -> list[str]:
    """The names in braces of a path of pictures: ``item``, or columns of a table."""
    return _COLUMN.findall(pattern)


def content_disagreements(data: Data) -> Iterator[Disagreement]:
    """Every rule that a modality of ``data``, or its path of pictures, breaks."""
    named = columns_of_path(data.images or "")
    if named and named != ["item"]:
        yield Disagreement(
            ("data.images",),
            f"found {data.images}; {{item}} stands where the item's id does, once, and is the only name in "
            "braces. Write images/{item}.jpg, for example",
        )
    for name, modality in data.modalities.items():
        key = f"data.modalities.{name}"
        if modality.features:
            yield from _tabular(key, modality)
            continue
        if modality.encoder is not None:
            yield from _embedded(key, modality)
            continue
        if modality.file is None:
            yield Disagreement(
                (f"{key}.file", f"{key}.encoder"),
                "missing; a modality has vectors in a file, content and an encoder, or a table and "
                "features. Name one of them",
            )
        for field in _OF_CONTENT:
            if getattr(modality, field):
                yield Disagreement(
                    (f"{key}.{field}", f"{key}.encoder"),
                    f"found {_shown(getattr(modality, field))}; only an encoder reads it, and none is "
                    "named. Name the encoder, or remove this",
                )


def _tabular(key: str, modality: Modality) -> Iterator[Disagreement]:
    if modality.table is None:
        yield Disagreement(
            (f"{key}.table", f"{key}.features"),
            "missing; features are columns of a table. Name it",
        )
    for field in _BESIDE_FEATURES:
        if getattr(modality, field):
            yield Disagreement(
                (f"{key}.{field}", f"{key}.features"),
                f"found {_shown(getattr(modality, field))}; a modality with features has columns of a table "
                "alone. Remove one of them, or make two modalities",
            )
    if modality.item in modality.features:
        yield Disagreement(
            (f"{key}.features", f"{key}.item"),
            f"found {modality.item}; this column has the item's id, which says nothing about a new item. "
            "Remove it",
        )


def _embedded(key: str, modality: Modality) -> Iterator[Disagreement]:
    if modality.file is not None:
        yield Disagreement(
            (f"{key}.file", f"{key}.encoder"),
            f"found {modality.file}; the encoder makes the vectors. Remove one of them",
        )
    if modality.files is not None:
        yield from _pictures(key, modality, modality.files)
        return
    if modality.table is None or not modality.columns:
        missing = "columns" if modality.table is not None else "table"
        yield Disagreement(
            (f"{key}.{missing}", f"{key}.encoder"),
            "missing; an encoder embeds texts (table and columns) or pictures (files). Name them",
        )


def _pictures(key: str, modality: Modality, pattern: str) -> Iterator[Disagreement]:
    if modality.columns:
        yield Disagreement(
            (f"{key}.columns", f"{key}.files"),
            f"found {_shown(modality.columns)}; a modality has texts or pictures, and files names pictures. "
            "Make two modalities of them",
        )
    named = columns_of_path(pattern)
    if not named:
        yield Disagreement(
            (f"{key}.files",),
            f"found {pattern}; it has {{item}} where the item's id stands, or a column of the table in "
            "braces. Write images/{item}.jpg, or images/{picture} beside table",
        )
    elif modality.table is None and named != ["item"]:
        yield Disagreement(
            (f"{key}.files", f"{key}.table"),
            f"found {pattern}; without a table the only name in braces is {{item}}, once. "
            "Name the table that has the column",
        )


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
