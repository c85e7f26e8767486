"""A job through Ray Jobs on a cluster of ``ray start --head``."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from tests.ray.shared_head.submitted import submit_demo


@pytest.mark.timeout(900)
def test_demo_runs_on_the_cluster_and_its_files_are_where_the_yaml_says(demo):
    assert "train: epoch 2/2: recall@20" in demo.done.stdout
    assert "popularity" in demo.done.stdout
    assert ": succeeded" in demo.done.stdout.splitlines()[-1]
    metrics = json.loads((demo.folder / "out/evaluation/metrics.json").read_text())
    assert 0 <= metrics["test"]["recall@20"] <= 1
    lists = pq.read_table(demo.folder / "out/export/recommendations")
    assert lists.num_rows == 120
    assert all(len(items) <= 5 for items in lists["items"].to_pylist())


def test_bad_input_on_the_cluster_is_exit_status_2_here(head, demo):
    done = submit_demo(head, demo.folder, data__path="nowhere")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"data.path: found {demo.folder}/nowhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
