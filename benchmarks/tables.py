"""Writes the result tables of the documents from the files that hold the results: python benchmarks/tables.py

A table in a document follows a line `<!-- results: FILE -->`, with FILE below docs/results/. The line may end
in `; rows: A, B` or `; without rows: A, B`. A file has either

- "experiments", as `benchmarks/accuracy.py --results` writes them, or
- "columns" and "rows", lists of texts;

and "provenance", which says what made it. --check changes nothing and ends with status 1 where a document
differs from its files.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "README.zh-CN.md", "docs/*.md")
MARKER = re.compile(
    r"^(<!-- results: (?P<file>[\w./-]+)(?:; (?P<without>without )?rows: (?P<rows>[^>]+?))? -->)\n\n"
    r"(?P<table>(?:\|[^\n]*\n)*)(?P<end>\n|\Z)?",
    flags=re.M,
)
EXPERIMENT_COLUMNS = (
    "",
    "runs",
    "validation Recall@20",
    "test Recall@20",
    "standard error over runs",
    "test NDCG@20",
    "test Recall@20, cold items",
    "epochs to the best",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where a table differs")
    check = parser.parse_args().check
    stale = []
    for document in documents():
        text = document.read_text()
        if (current := rendered(text)) != text:
            stale.append(document.relative_to(ROOT).as_posix())
            if not check:
                document.write_text(current)
    sys.stdout.write("".join(f"{name}: {'differs' if check else 'written'}\n" for name in stale))
    sys.exit(1 if check and stale else 0)


def documents() -> list[Path]:
    """Every document that may hold result tables."""
    return sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def rendered(text: str) -> str:
    """A document's ``text`` with every result table as its file has it."""

    def replace(match: re.Match[str]) -> str:
        results = json.loads((ROOT / "docs/results" / match["file"]).read_text())
        names = [name.strip() for name in match["rows"].split(",")] if match["rows"] else None
        lines = table(results, names, leave_out=bool(match["without"]))
        # An empty line ends a table: what follows it directly would be a row of it.
        end = "\n" if match["end"] is None else match["end"]
        return "\n".join([match[1], "", *lines]) + "\n" + end

    return MARKER.sub(replace, text)


def table(results: dict[str, Any], names: Sequence[str] | None = None, leave_out: bool = False) -> list[str]:
    """The lines of a Markdown table of a result file.

    Args:
        names: rows to show, or with ``leave_out`` those not to show; all without.

    Raises:
        KeyError: there is no row of such a name.
    """
    if "experiments" in results:
        columns: Sequence[str] = EXPERIMENT_COLUMNS
        rows = [_cells(experiment) for experiment in results["experiments"]]
    else:
        columns, rows = results["columns"], results["rows"]
    if names is not None:
        if unknown := set(names) - {row[0] for row in rows}:
            raise KeyError(f"no row {', '.join(sorted(unknown))}")
        rows = [row for row in rows if (row[0] in names) != leave_out]
    return [_line(columns), "|" + "---|" * len(columns), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _cells(experiment: dict[str, Any]) -> list[str]:
    test, cold = experiment["test recall@20"], experiment["cold test recall@20"]
    error, epochs = test["standard error"], experiment["best epochs"]
    return [
        experiment["name"],
        str(experiment["runs"]),
        _values(experiment["validation recall@20"]),
        _values(test),
        "" if error is None else f"{error:.4f}",
        f"{experiment['test ndcg@20']:.4f}",
        "" if cold is None else f"{cold:.3f}",
        "" if not epochs else str(epochs[0]) if len(set(epochs)) == 1 else f"{min(epochs)} to {max(epochs)}",
    ]


def _values(metric: dict[str, Any]) -> str:
    runs = " ".join(f"{value:.4f}" for value in metric["runs"])
    return f"{metric['mean']:.4f} ({runs})" if len(metric["runs"]) > 1 else runs


if __name__ == "__main__":
    main()
