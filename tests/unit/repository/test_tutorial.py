"""The scripts of docs/own-data.md that repair what a shop's own programs export."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ORDERS = """\ufefforder;customer;sku;quantity
1;7;000306;2
2;7;306;-2
3;8;000306;1
4;8;ab-1;1
5;8;AB-1;-1
6;8; ab-1;1
7;;000306;1
8;9;SHIPPING;1
"""


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Runs the script of the tutorial with ``word`` in it, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(word: str) -> None:
        text = (ROOT / "docs/own-data.md").read_text()
        blocks = re.findall(r"^```python\n(import pandas\n.*?)^```", text, flags=re.M | re.S)
        (script,) = [block for block in blocks if word in block]
        exec(compile(script, "own-data.md", "exec"), {})

    return run


def test_returns_and_spellings_of_ids(run_script):
    Path("orders.csv").write_text(ORDERS)
    run_script("SHIPPING")
    kept = Path("purchases.csv").read_text().splitlines()
    assert kept == ["order;customer;sku;quantity", "3;8;000306;1", "4;8;00AB-1;1", "6;8;00AB-1;1"]


def test_dates_with_slashes(run_script):
    Path("orders.csv").write_text("customer,date\n007,11/03/2026 14:05\n8,12/31/2026 00:00\n")
    run_script("%m/%d/%Y")
    assert Path("orders.csv").read_text() == "customer,date\n007,2026-11-03T14:05\n8,2026-12-31T00:00\n"
