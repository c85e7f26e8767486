"""Result tables: as their files have them, no two alike, and no figure in the text without a source."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
RESULTS = sorted((ROOT / "docs/results").glob("*.json"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ACCURACY = (ROOT / "docs/accuracy.md").read_text()
FIGURE = re.compile(r"\b0\.\d{4}\b")
SMALLEST_P = "< 0.0001"  # the floor of the draws, no measured value


def result(name: str) -> dict[str, Any]:
    """A file of results."""
    content: dict[str, Any] = json.loads((ROOT / f"docs/results/{name}.json").read_text())
    return content


def tables(text: str) -> list[str]:
    """The bodies of the Markdown tables of ``text``, without their header and its line of dashes."""
    whole = re.findall(r"^\|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, flags=re.M)
    assert all(whole)
    return whole


@pytest.mark.processes
def test_every_table_is_what_its_file_says() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/tables.py"), "--check"], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, ""), "run python benchmarks/tables.py"


def test_every_table_of_accuracy_has_a_file_and_every_file_is_used() -> None:
    named = re.findall(r"^<!-- results: ([\w.]+)", ACCURACY, flags=re.M)
    assert len(named) == len(tables(ACCURACY))
    unused = {path.name for path in RESULTS} - {
        name for path in DOCUMENTS for name in re.findall(r"<!-- results: ([\w.]+)", path.read_text())
    }
    assert unused == {"remarks.json"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_file_says_what_made_it(path: Path) -> None:
    results = json.loads(path.read_text())
    assert results["provenance"]
    assert results.get("experiments") or results["rows"]


def test_no_two_tables_are_equal() -> None:
    """Nor do two share most of their lines, as where one was pasted in the place of another. Commands and
    requests whose options are the same are no mistake."""
    written = [path for path in DOCUMENTS if path.name not in ("command-options.md", "http-api.md")]
    bodies = [(path.name, set(body.splitlines())) for path in written for body in tables(path.read_text())]
    equal = [
        (name, other)
        for at, (name, body) in enumerate(bodies)
        for other, body_2 in bodies[at + 1 :]
        if not name.startswith("README")
        and len(body & body_2) > 0.5 * min(len(body), len(body_2)) > 0.5
        # the headline's own table repeats popularity beside it
        and min(len(body), len(body_2)) > 2
    ]
    assert equal == []


def test_no_line_of_a_document_begins_in_the_middle_of_a_table() -> None:
    stray = re.compile(r"^(?! *\|)[^`\n]*\| \|.*\n\|---", flags=re.M)
    assert [path.name for path in DOCUMENTS if stray.search(path.read_text())] == []


def columns_of(results: dict[str, Any]) -> list[list[float]]:
    """The columns of numbers in a result file, the first row first; of experiments each seed's too."""
    if "experiments" not in results:
        cells = zip(*results["rows"], strict=True)
        number = re.compile(r"[\d.]+")
        return [[float(cell) for cell in column] for column in cells if all(map(number.fullmatch, column))]
    rows, columns = results["experiments"], []
    for metric in ("validation recall@20", "test recall@20"):
        columns.append([row[metric]["mean"] for row in rows])
        for seed in range(3):
            columns.append([row[metric]["runs"][seed] for row in rows if len(row[metric]["runs"]) > seed])
    return [*columns, [row["test ndcg@20"] for row in rows]]


def test_every_figure_in_the_text_of_accuracy_is_measured() -> None:
    """It stands in a result file, or is how much a row differs from the first one of its table."""
    known: set[str] = set()
    for path in RESULTS:
        known.update(FIGURE.findall(path.read_text()))
        for column in columns_of(json.loads(path.read_text())):
            known.update(f"{value:.4f}" for value in column)
            known.update(f"{abs(value - column[0]):.4f}" for value in column)
    text = "".join(line for line in ACCURACY.splitlines(keepends=True) if not line.startswith("|"))
    assert set(FIGURE.findall(text.replace(SMALLEST_P, ""))) - known == set()
    assert "0.0159" not in known  # nor is every number of four digits one


def test_the_text_gives_the_measured_worth_of_the_lists() -> None:
    rows = {row["name"]: row for row in result("tiktok")["experiments"]}
    gain = rows["lists and attention"]["test recall@20"]["mean"] - rows["full"]["test recall@20"]["mean"]
    assert f"{gain:.4f}" in ACCURACY


def test_the_paired_table_has_the_differences_of_the_results() -> None:
    paired = result("adversarial")["paired"]
    rows = result("adversarial_paired")["rows"]
    for difference, row in zip(paired, rows, strict=True):
        assert row[0] == f"{difference['data']}: {difference['experiment']}"
        assert row[4].startswith(f"{difference['test recall@20']['difference']:+.4f} (")


def test_the_readmes_give_the_measured_headline() -> None:
    rows = {row["name"]: row for name in ("tiktok", "adversarial") for row in result(name)["experiments"]}
    headline = rows["TikTok 256: final rows 0.2"]["test recall@20"]
    measured = {
        f"{headline['mean']:.4f}",
        f"{headline['standard error']:.4f}",
        f"{rows['popularity']['test recall@20']['mean']:.4f}",
        next(row[3] for row in result("peers")["rows"] if row[0] == "MMSSL"),
    }
    for name in ("README.md", "README.zh-CN.md"):
        assert set(FIGURE.findall((ROOT / name).read_text())) == measured


def test_the_readmes_give_the_measured_scale() -> None:
    """100 million interactions: minutes of prepare and partition by three workers, and GB at the peak."""
    rows = {row[0]: row for row in result("hundred")["rows"]}
    stages = [rows["prepare"], rows["partition by three workers"]]
    minutes = round(sum(int(row[-1]) for row in stages) / 60)
    gigabytes = int(max(float(row[1]) for row in stages))
    assert f"in {minutes} minutes, in {gigabytes} GB" in (ROOT / "README.md").read_text()
    assert f"用 {minutes} 分钟、{gigabytes} GB" in (ROOT / "README.zh-CN.md").read_text()


def test_benchmarks_are_those_of_the_results_file() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from figures import Figure, lines_of
    finally:
        sys.path.pop(0)
    measured = [Figure(**entry) for entry in json.loads((ROOT / "benchmarks/results.json").read_text())]
    assert tables((ROOT / "docs/benchmarks.md").read_text()) == ["\n".join(lines_of(measured)) + "\n"]


def test_an_empty_line_ends_every_table() -> None:
    """Text that follows a table directly is a row of it."""
    wrong = []
    for path in DOCUMENTS:
        lines = path.read_text().splitlines()
        for number, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
            if line.startswith("|") and after.strip() and not after.startswith("|"):
                wrong.append(f"{path.name}:{number}: {after[:40]}")
    assert wrong == []


def test_a_table_that_is_written_ends_with_an_empty_line() -> None:
    rendered = runpy.run_path(str(ROOT / "benchmarks/tables.py"))["rendered"]
    marker = "<!-- results: wire.json -->\n\n"
    apart = rendered(f"{marker}\nText.\n")
    assert "|\n\nText.\n" in apart
    assert rendered(apart) == apart
    assert rendered(apart.replace("|\n\nText.", "|\nText.")) == apart
    assert rendered(marker).endswith("|\n")
