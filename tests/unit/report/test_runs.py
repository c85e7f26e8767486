"""Mean and standard error over runs."""

from __future__ import annotations

import json

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.report.runs import read_metrics, summarize, summary_lines
from mmssl_dist.storage import open_location

RUNS = [
    {"test": {"recall@20": 0.1, "ndcg@20": 0.3}},
    {"test": {"recall@20": 0.2}},
    {"test": {"recall@20": 0.6}},
]


def test_mean_and_standard_error_by_hand():
    result = summarize(RUNS, "test")
    assert set(result) == {"recall@20"}  # what not every run has has no mean
    assert result["recall@20"].mean == pytest.approx(0.3)
    assert result["recall@20"].error == pytest.approx(
        (0.14 / 2 / 3) ** 0.5
    )  # squares .04 + .01 + .09, n - 1 = 2


def test_a_single_run_has_no_error():
    assert summarize(RUNS[:1], "test")["ndcg@20"].error is None
    assert summary_lines(RUNS[:1])[2] == "| test | recall@20 | 0.1000 |  | 0.1000 |"


def test_metrics_are_read_from_the_run(tmp_path):
    run = open_location(str(tmp_path), Storage())
    with pytest.raises(InputError, match="no such file"):
        read_metrics(run)
    (run / "evaluation" / "metrics.json").write_bytes(json.dumps(RUNS[0]).encode())
    assert read_metrics(run) == RUNS[0]
    (run / "evaluation" / "metrics.json").write_bytes(b"{")
    with pytest.raises(InputError, match="JSON"):
        read_metrics(run)
