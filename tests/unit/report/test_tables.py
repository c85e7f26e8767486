"""The metrics table as text and in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from mmssl_dist.report.tables import metrics_table, metrics_text, rows_of_split, show_metrics

METRICS = {
    "validation": {"recall@10": 0.5, "recall@20": 0.6, "ndcg@10": 0.25, "ndcg@20": 0.31},
    "test": {"recall@10": 0.12345, "recall@20": 0.2, "ndcg@10": 0.05, "ndcg@20": 1.0},
    "baselines": {
        "popularity": {"test": {"recall@10": 0.01, "recall@20": 0.02, "ndcg@10": 0.003, "ndcg@20": 0.004}}
    },
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text() -> None:
    assert metrics_text(rows_of_split(METRICS, "test", "mmssl"), "Test metrics").split("\n") == [
        "Test metrics",
        "             K  recall    ndcg",
        "mmssl       10  0.1235  0.0500",
        "popularity  10  0.0100  0.0030",
        "mmssl       20  0.2000  1.0000",
        "popularity  20  0.0200  0.0040",
    ]


def test_a_metric_that_a_baseline_lacks_is_a_dash() -> None:
    text = metrics_text({"mmssl": {"recall@5": 0.1}, "other": {}}, "t")
    assert text.split("\n")[-1] == "other  5       -"


def test_cutoffs_are_sorted_as_numbers() -> None:
    text = metrics_text({"mmssl": {"recall@100": 0.1, "recall@20": 0.2}}, "t")
    assert [line.split()[1] for line in text.split("\n")[2:]] == ["20", "100"]


def test_baselines_without_the_split_are_left_out() -> None:
    assert list(rows_of_split(METRICS, "validation", "mmssl")) == ["mmssl"]
    assert list(rows_of_split(METRICS, "test", "mmssl")) == ["mmssl", "popularity"]


def test_cold_and_warm_items_have_lines_of_their_own() -> None:
    cold = {"recall@10": 0.1, "recall@20": 0.2, "ndcg@10": 0.0, "ndcg@20": 0.0, "users": 3, "items": 2}
    rows = rows_of_split({**METRICS, "cold": {"test": cold}, "warm": {"test": cold}}, "test", "mmssl")
    assert list(rows) == ["mmssl", "mmssl, cold", "mmssl, warm", "popularity"]
    assert "mmssl, cold  10  0.1000  0.0000" in metrics_text(rows, "t").split("\n")


def test_table_has_the_same_cells() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(metrics_table(rows_of_split(METRICS, "test", "mmssl"), "Test metrics"))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.split() for line in drawn.replace("│", " ").replace("┃", " ").split("\n")]
    for expected in (["Test", "metrics"], ["K", "recall", "ndcg"], ["popularity", "20", "0.0200", "0.0040"]):
        assert expected in lines


def test_show_is_plain_unless_in_a_terminal() -> None:
    plain, terminal = io.StringIO(), Terminal()
    show_metrics(METRICS, "mmssl", plain)
    show_metrics(METRICS, "mmssl", terminal)
    assert plain.getvalue().startswith("Validation metrics\n")
    assert "\nTest metrics\n" in plain.getvalue()
    assert plain.getvalue().isascii()
    assert "┃" in terminal.getvalue()
    assert "0.1235" in terminal.getvalue()


def test_show_without_a_test_split() -> None:
    stream = io.StringIO()
    show_metrics({"validation": {"recall@1": 1.0}}, "my model", stream)
    assert stream.getvalue() == "Validation metrics\n          K  recall\nmy model  1  1.0000\n"
