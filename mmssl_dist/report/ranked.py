"""A ranked list for a terminal, for a pipe, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmssl_dist.serving.run import Ranked


def ranked_json(ranked: Ranked, asked: Mapping[str, object], measure: str) -> str:
    """One line of JSON: what was asked, then "items": [{"item": ..., measure: ...}, ...], best first.

    Ids that JSON has no type for, such as dates, are texts.
    """
    items = [
        {"item": item, measure: float(score)} for item, score in zip(ranked.items, ranked.scores, strict=True)
    ]
    return json.dumps({**asked, "items": items}, default=str, ensure_ascii=False)


def show_ranked(ranked: Ranked, measure: str, stream: TextIO) -> None:
    """A table on a terminal; elsewhere lines of rank, item and score between tabs."""
    lines = [
        (str(rank), str(item), f"{score:.4f}")
        for rank, (item, score) in enumerate(zip(ranked.items, ranked.scores, strict=True), 1)
    ]
    if not stream.isatty():
        stream.write("".join("\t".join(line) + "\n" for line in (("rank", "item", measure), *lines)))
        return
    table = Table()
    for name, justify in (("rank", "right"), ("item", "left"), (measure, "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for rank, item, score in lines:
        table.add_row(rank, Text(item), score)  # an id may hold what rich takes for markup
    Console(file=stream).print(table)
