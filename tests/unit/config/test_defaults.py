"""Defaults that depend on another value."""

from __future__ import annotations

import pytest

from mmssl_dist.config import Job, parse_job
from mmssl_dist.config.candidates import check_search, with_settings
from mmssl_dist.errors import ConfigError

DATA = {"path": "raw", "modalities": {"image": {"file": "image.npy"}}}


def test_the_release_layout_comes_with_its_split():
    assert parse_job({"output": "o", "data": {**DATA, "layout": "mmssl"}}).data.split.method == "given"
    assert parse_job({"output": "o", "data": DATA}).data.split.method == "ratio"


def test_a_wrong_layout_is_one_problem():
    with pytest.raises(ConfigError) as caught:
        parse_job({"output": "o", "data": {**DATA, "layout": "tables"}})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("data.layout")


@pytest.mark.parametrize(
    ("sets", "followed"),
    [
        (
            ["model.item_graph.weight=0"],
            {"losses.contrastive.weight": 0.0, "losses.adversarial.rows": "final"},
        ),
        (
            ["model.item_graph.weight=0", "model.modality_graph.size=4"],
            {"losses.contrastive.weight": 0.0, "losses.contrastive.rows": "lists"},
        ),
        (
            ["partition.item_neighbours=0"],
            {"model.item_graph.weight": 0.0, "losses.contrastive.weight": 0.0},
        ),
        (
            ["model.layers=0"],
            {"training.fanout": "all", "model.item_graph.weight": 0.0, "losses.contrastive.weight": 0.0},
        ),
        (["model.layers=3"], {"training.fanout": (10, 10, 10)}),
        (["model.dimension=10"], {"model.heads": 2}),
        (["model.dimension=7"], {"model.heads": 1}),
        ([], {"losses.adversarial.kind": "none"}),
        (["losses.adversarial.kind=critic"], {"losses.adversarial.weight": 1e-4}),
        (["losses.adversarial.weight=0.3"], {"losses.adversarial.kind": "critic"}),
        (
            ["losses.adversarial.weight=0", "losses.adversarial.penalty=1"],
            {"losses.adversarial.kind": "none"},
        ),
        (
            ["losses.adversarial.penalty=1"],
            {"losses.adversarial.kind": "critic", "losses.adversarial.weight": 1e-4},
        ),
        (
            ["losses.adversarial.eps=0.2", "losses.adversarial.weight=1"],
            {"losses.adversarial.kind": "perturbation", "losses.adversarial.weight": 1.0},
        ),
        (["model.feature_columns=8"], {"losses.adversarial.weight": 0.5, "losses.adversarial.rows": "final"}),
        (["evaluation.ks=[5]"], {"evaluation.metric": "recall@5"}),
        (["evaluation.ks=[5, 100]"], {"evaluation.metric": "recall@100"}),
        (["partition.parts=5000"], {"training.batch_size": 5000}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_setting_alone_takes_the_defaults_that_depend_on_it_along(sets, followed):
    job = parse_job({"output": "o", "data": DATA}, sets)
    assert {path: _value(job, path) for path in followed} == followed
    assert parse_job(job.model_dump(mode="json")) == job
    set_sections = {"output", "data"} | {path.split(".")[0] for path in sets}
    assert job.model_fields_set == set_sections  # what followed is still a default


def test_defaults_that_fit_stay():
    job = parse_job({"output": "o", "data": DATA}, ["model.dimension=64", "evaluation.ks=[20]"])
    untouched = parse_job({"output": "o", "data": DATA})
    assert job.model_copy(update={"model": untouched.model, "evaluation": untouched.evaluation}) == untouched
    assert job.model.heads == 4


def test_what_a_job_says_is_never_replaced():
    with pytest.raises(ConfigError, match=r"losses\.contrastive\.rows: found item_graph; model\.item_graph"):
        parse_job(
            {"output": "o", "data": DATA, "losses": {"contrastive": {"weight": 0.001}}},
            ["model.item_graph.weight=0"],
        )


def test_defaults_follow_what_a_search_tries():
    base = {"output": "o", "data": DATA, "search": {"space": {"model.item_graph.weight": {"choice": [0, 1]}}}}
    job = parse_job(base)
    check_search(job)
    as_trials_get_it = Job.model_validate_json(job.model_dump_json(exclude_unset=True))
    without = with_settings(as_trials_get_it, {"model.item_graph.weight": 0})
    assert (without.model.item_graph.weight, without.losses.contrastive.weight) == (0.0, 0.0)
    assert without.losses.adversarial.rows == "final"


def _value(job: Job, path: str) -> object:
    value: object = job
    for key in path.split("."):
        value = getattr(value, key)
    return value
