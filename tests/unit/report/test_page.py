"""Parts of the report's page from facts alone."""

from __future__ import annotations

import re
from typing import Any

from mmssl_dist.report.html import _about
from mmssl_dist.report.page import _data, _graph, _metrics
from tests.jobs import make_job

METRICS = {"recall@10": 0.25, "ndcg@10": 0.125}


def test_the_head_names_the_period_and_one_worker_without_a_gpu():
    history = [{"epoch": 2.0, "train_seconds": 2.0, "validation_seconds": 1.0}]
    machine = {"workers": 1, "cores": 2, "memory": 8e9, "gpu": None}
    facts: dict[str, Any] = {
        "dataset": {
            "window": {"from": "2025-12-31T23:00:00Z", "to": "2026-03-31T23:00:00Z"},
            "period": {"from": "2026-01-01T00:00:00Z", "to": "2026-03-31T12:30:00Z"},
        },
        "training": {"history": history, "machine": machine},
    }
    about = _about(make_job(), facts, None)
    assert "raw, interactions from 2026-01-01 to 2026-03-31, trained for 5.0 s by one worker" in about
    assert "(machine: 2 cores, 8.0 GB of memory, no GPU)" in about
    del facts["training"]["machine"], facts["dataset"]["period"]  # of an earlier version
    assert "interactions from 2025-12-31 to 2026-03-31" in _about(make_job(), facts, None)
    assert ", trained for 5.0 s, mmssl-dist" in _about(make_job(), facts, None)


def test_scores_that_are_no_dot_products_are_explained():
    metrics = {"test": METRICS, "baselines": {"popularity": {"test": METRICS}}}
    shown = _metrics(metrics | {"length_exponent": 0.75}, "mmssl")
    assert "<p>scores: cosine times the length of an item&#x27;s row to the power of 0.75</p>" in shown
    assert "losses.ranking" not in shown
    assert "a higher losses.ranking.temperature" in _metrics(metrics | {"length_exponent": 2.0}, "mmssl")
    assert "scores:" not in _metrics(metrics | {"length_exponent": 1.0}, "mmssl")


def test_the_times_of_the_data_are_in_its_table():
    times = {"from": "2026-01-01T00:00:00Z", "to": "2026-03-31T12:30:00Z"}
    table = _data({"interactions": {"train": 5}, "items": 2, "period": times})
    assert "first and last interaction" in table
    assert "2026-01-01T00:00:00Z to 2026-03-31T12:30:00Z" in table
    assert "window" not in table


def test_modalities_are_shown_beside_chance():
    facts = {"edge_cut": 0.1, "edges": 10, "balance": {"users": 1.0}, "left_out": ["text"]}
    graphs = {
        "image": {"recall": 1.0, "lift": 6.123},
        "text": {"recall": 1.0, "lift": 0.984},
        "audio": {"recall": 1.0, "lift": None},
    }
    *_, chart = _graph({**facts, "item_graphs": graphs}, None)
    assert "6.12" in chart
    assert "0.984, left out" in chart
    assert "audio" not in chart
    (title,) = re.findall(r'class="title">([^<]*)<', chart)
    assert len(title) <= 50  # as many letters as a chart is wide
    assert len(_graph({**facts, "left_out": []}, None)) == 2  # where no item-item graph was made
