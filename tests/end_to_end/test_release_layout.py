"""Data in the layout of MMSSL's release, through the command line with the job of TikTok."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.commands import ROOT, succeed
from tests.release import write_release


@pytest.mark.timeout(900)
def test_a_few_epochs_find_the_planted_structure(tmp_path, ray_address):
    (tmp_path / "raw").mkdir()
    write_release(tmp_path / "raw", users=900, items=480, seed=5)
    sets = (
        f"data.path={tmp_path / 'raw'}",
        "output=out",
        "model.dimension=32",
        "training.epochs=5",
        "evaluation.ks=[10, 20]",
    )
    succeed(
        tmp_path,
        "run",
        str(ROOT / "jobs/tiktok.yaml"),
        "--address",
        ray_address,
        *(word for override in sets for word in ("--set", override)),
        timeout=880,
    )
    metrics = json.loads((tmp_path / "out/evaluation/metrics.json").read_text())
    model, popularity = metrics["test"], metrics["baselines"]["popularity"]["test"]
    assert popularity["recall@20"] < 0.15  # communities are equally popular, so popularity knows nothing
    assert model["recall@20"] > 0.3  # a community has 40 items and holds 0.85 of a user's
    assert model["ndcg@20"] > 2 * popularity["ndcg@20"]
