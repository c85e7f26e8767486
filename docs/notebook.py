"""Runs docs/notebook.ipynb: `python docs/notebook.py` stores what its cells show, and writes notebook.md.

With a folder as argument it runs the cells there and stores nothing. Cells are plain Python without magics;
the value of a cell's last line is shown.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
NOTEBOOK, PAGE = DOCS / "notebook.ipynb", DOCS / "notebook.md"


def execute(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The notebook with the outputs of its cells, which run in ``folder`` one after the other."""
    known: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    before = Path.cwd()
    os.chdir(folder)
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                outputs = list(_outputs("".join(cell["source"]), known, count))
                cell = {**cell, "outputs": outputs, "execution_count": count}
            cells.append(cell)
    finally:
        os.chdir(before)
    return {**notebook, "cells": cells}


def page(notebook: dict[str, Any]) -> str:
    """The notebook as a page of the site."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output["data"]
            html = "".join(data.get("text/html", []))
            parts.append(html if html else "```text\n{}\n```".format("".join(data["text/plain"])))
    return "\n\n".join(parts) + "\n"


def _outputs(source: str, known: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {count}", "exec"), known)  # noqa: S102, the repository's own notebook
    if last is None:
        return
    value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), known)  # noqa: S307
    if value is None:
        return
    data = {"text/plain": _lines(repr(value))}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = _lines(value._repr_html_())
    yield {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """See the top of this file."""
    notebook = json.loads(NOTEBOOK.read_text())
    if len(sys.argv) > 1:
        execute(notebook, Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        done = execute(notebook, Path(folder))
    NOTEBOOK.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(done))


if __name__ == "__main__":
    main()
