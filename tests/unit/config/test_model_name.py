"""What tables call a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl_dist.config import load_job, parse_job
from mmssl_dist.config.model_name import model_name, uses_features

BASELINES = Path(__file__).parents[3] / "jobs/baselines"
PLAIN = ("model.item_graph.weight=0", "model.modality_weight=0")


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        ((), "mmssl"),
        (PLAIN, "lightgcn"),
        ((*PLAIN, "model.layers=0"), "mf"),
        ((*PLAIN, "model.modality_graph.size=3"), "mmssl"),
        (("model.item_graph.weight=0",), "mmssl"),
        ((*PLAIN, "model.feature_columns=4"), "mmssl"),
        ((*PLAIN, "model.name=my own"), "my own"),
    ],
)
def test_a_model_is_called_by_its_parts_unless_it_has_a_name(sets, name):
    data = {"path": "raw", "modalities": {"image": {"file": "image.npy"}}}
    assert model_name(parse_job({"output": "o", "data": data}, sets)) == name


def test_every_baseline_has_a_name_of_its_own():
    jobs = [load_job(path) for path in sorted(BASELINES.glob("*.yaml"))]
    names = [model_name(job) for job in jobs]
    assert len(set(names)) == len(names)
    assert all(job.model.name for job in jobs)
    assert {name for name, job in zip(names, jobs, strict=True) if not uses_features(job.model)} == {
        "bpr-mf",
        "lightgcn",
    }
