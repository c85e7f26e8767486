"""Cells and rows of Markdown tables."""

from __future__ import annotations

import re


def table_row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def text_of(description: str | None) -> str:
    """A description on one line, with double backquotes as Markdown has them."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join((description or "").split()))
