"""The notebook runs from its first cell to its last, and its page in the site is the one stored."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.commands import ROOT

DOCS = ROOT / "docs"


@pytest.mark.timeout(900)
def test_every_cell_runs(tmp_path: Path) -> None:
    before = (DOCS / "notebook.ipynb").read_bytes()
    done = subprocess.run(
        [sys.executable, str(DOCS / "notebook.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output/report.html").exists()
    assert (DOCS / "notebook.ipynb").read_bytes() == before


def test_the_page_is_made_of_the_notebook() -> None:
    notebook = json.loads((DOCS / "notebook.ipynb").read_text())
    assert runpy.run_path(str(DOCS / "notebook.py"))["page"](notebook) == (DOCS / "notebook.md").read_text()
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
