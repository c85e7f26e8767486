"""A ranked list for a terminal, for a pipe, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmssl_dist.serving.answers import Ranked


def ranked_json(ranked: Ranked, asked: Mapping[str, object], measure: str) -> str:
    """One line of JSON: what was asked, then "items": [{"item": ..., measure: ...}, ...], best first; with
    "title" in each where titles are known.

    Ids that JSON has no type for, such as dates, are texts.
    """
    titles = [{}] * len(ranked.items) if ranked.titles is None else [{"title": t} for t in ranked.titles]
    items = [
        {"item": item, **title, measure: float(score)}
        for item, title, score in zip(ranked.items, titles, ranked.scores, strict=True)
    ]
    return json.dumps({**asked, "items": items}, default=str, ensure_ascii=False)


def show_ranked(ranked: Ranked, measure: str, stream: TextIO) -> None:
    """A table on a terminal; elsewhere lines of rank, item and score between tabs; with the title behind the
    item where titles are known."""
    titles = [()] * len(ranked.items) if ranked.titles is None else [(_line(t or ""),) for t in ranked.titles]
    lines = [
        (str(rank), _line(str(item)), *title, f"{score:.4f}")
        for rank, (item, title, score) in enumerate(zip(ranked.items, titles, ranked.scores, strict=True), 1)
    ]
    names = ("rank", "item", *(() if ranked.titles is None else ("title",)), measure)
    if not stream.isatty():
        stream.write("".join("\t".join(line) + "\n" for line in (names, *lines)))
        return
    table = Table()
    for name in names:
        table.add_column(name, justify="right" if name in ("rank", measure) else "left")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))  # a title may hold what rich takes for markup
    Console(file=stream).print(table)


def _line(text: str) -> str:
    """``text`` without what would end a line or a column."""
    return " ".join(text.split("\n")).replace("\t", " ").replace("\r", " ")
