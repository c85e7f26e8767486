"""Runs are averaged when they are of one model: their jobs differ in seeds, machines and places alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.report.same_model import require_same_models
from mmssl_dist.storage import Manifest, open_location, publish


def write_run(folder: Path, value: float, **settings: object) -> Path:
    tree = {"output": str(folder), "data": {"path": "raw", "modalities": {"image": {"file": "x"}}}}
    (folder / "evaluation").mkdir(parents=True)
    (folder / "job.yaml").write_text(yaml.safe_dump({**tree, **settings}))
    (folder / "evaluation/metrics.json").write_text(json.dumps({"test": {"recall@20": value}}))
    return folder


def summarize(*runs: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["summarize", *map(str, runs)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 9},
        {"scaling": {"workers": 3}},
        {"training": {"keep_checkpoints": 5}},
        {"export": {"k": 3}},
        {"evaluation": {"user_block": 7}},
        {"tracking": {"experiment": "other"}},
    ],
)
def test_seeds_machines_and_places_may_differ(tmp_path, settings):
    runs = write_run(tmp_path / "a", 0.1), write_run(tmp_path / "b", 0.3, **settings)
    status, output = summarize(*runs)
    assert status == 0, output
    assert "| test | recall@20 | 0.2000 | 0.1000 | 0.1000 0.3000 |" in output


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": {"dimension": 64}}, "model.dimension 64; runs are averaged over seeds of one model, and "),
        ({"training": {"epochs": 3}}, "training.epochs 3;"),
        ({"data": {"path": "other", "modalities": {"image": {"file": "x"}}}}, "data.path other;"),
        ({"partition": {"shuffle_features": True}}, "partition.shuffle_features True;"),
        (
            {"losses": {"l2": 0, "tower_l2": 0, "ranking": {"loss": "bpr", "temperature": 0.1}}},
            "losses.ranking.loss bpr, losses.ranking.temperature 0.1, losses.l2 0.0 and 1 more;",
        ),
    ],
)
def test_different_models_are_refused_with_what_differs(tmp_path, settings, named):
    a, b = write_run(tmp_path / "a", 0.1), write_run(tmp_path / "b", 0.3, **settings)
    status, output = summarize(a, b)
    assert status == 2
    assert output.startswith(f"error: {b}: found {named}")


def test_a_run_without_its_job_is_averaged_with_none(tmp_path):
    a, b = write_run(tmp_path / "a", 0.1), write_run(tmp_path / "b", 0.3)
    (b / "job.yaml").unlink()
    with pytest.raises(InputError, match=r"job\.yaml: found no such file"):
        require_same_models([open_location(str(run), Storage()) for run in (a, b)])
    require_same_models([open_location(str(b), Storage())])  # nothing to average


def test_a_run_ranked_by_dot_products_alone_is_another_model(tmp_path):
    """As those of versions without the exponent are; their jobs say nothing of it."""
    old, new = write_run(tmp_path / "old", 0.1), write_run(tmp_path / "new", 0.3, seed=9)
    for run, facts in ((old, {}), (new, {"length_exponent": 1.0})):
        publish(open_location(str(run), Storage()) / "evaluation", Manifest("evaluation", "x", facts, {}))
    runs = [open_location(str(run), Storage()) for run in (old, new)]
    with pytest.raises(InputError, match=r"evaluation\.length_exponent auto; runs are averaged"):
        require_same_models(runs)
    require_same_models([runs[0], runs[0]])
