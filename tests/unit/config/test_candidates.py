"""What may be searched: settings of training, with values that the schema takes."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mmssl_dist.config import Job, parse_job
from mmssl_dist.config.candidates import check_search, with_settings
from mmssl_dist.errors import ConfigError, InputError

BASE = {"output": "x", "data": {"path": "y", "modalities": {"image": {"file": "z"}}}}


def searching(space: Mapping[str, object], *sets: str, **search: object) -> Job:
    return parse_job({**BASE, "search": {"space": space, **search}}, sets)


@pytest.mark.parametrize(
    "space",
    [
        {"training.rows.learning_rate": {"loguniform": [1e-4, 1e-2]}, "model.dropout": {"uniform": [0, 0.5]}},
        {
            "losses.ranking.loss": {"choice": ["bpr", "softmax"]},
            "losses.adversarial.hidden": {"choice": [[8], [8, 4]]},
        },
        {
            "model.layers": {"int": [1, 3]},
            "training.fanout": {"choice": ["all"]},
        },  # one without the other is no job
    ],
)
def test_a_search(space):
    job = searching(space)
    check_search(job)
    assert Job.model_validate_json(job.model_dump_json()) == job  # as the trials get it


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"seed": {"int": [1, 3]}}, "search.space.seed: found seed; only settings that shape training"),
        ({"partition.parts": {"int": [1, 3]}}, "only settings that shape training can be searched"),
        ({"evaluation.metric": {"choice": ["ndcg@20"]}}, "only settings that shape training can be searched"),
        ({"training.epochs": {"int": [5, 9]}}, "only settings that shape training can be searched"),
        ({"training.prefetch": {"int": [5, 9]}}, "only settings that shape training can be searched"),
        (
            {"model.item_graph": {"choice": [{"weight": 1}]}},
            "this is a section. Search the settings below it",
        ),
        ({"model.item_graf.weight": {"uniform": [0, 1]}}, "unknown key; did you mean item_graph?"),
        ({"training.rows.learning_rate": {"uniform": [0, 1]}}, "learning_rate=0.0 breaks a rule:"),
        (
            {"model.layers": {"int": [1, 3]}, "training.fanout": {"choice": [[5, 5]]}},
            "model.layers=1, training.fanout=[5, 5] breaks a rule: training.fanout: found 2 number(s)",
        ),
        ({"model.heads": {"int": [1, 4]}}, "model.heads=3 breaks a rule: model.heads: found 3; must divide"),
        (
            {"model.heads": {"choice": [1, 8]}, "model.dimension": {"choice": [8, 4]}},
            "model.heads=8, model.dimension=4",
        ),
    ],
)
def test_what_cannot_be_searched_is_told_with_its_path(space, message):
    with pytest.raises(ConfigError) as caught:
        check_search(searching(space))
    assert message in str(caught.value)
    assert caught.value.exit_status == 2


def test_problems_come_together():
    with pytest.raises(ConfigError) as caught:
        check_search(searching({"seed": {"int": [1, 3]}, "output": {"choice": ["b"]}}, grace_epochs=200))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "search.space.seed",
        "search.space.output",
        "search.grace_epochs",
    ]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"uniform": [0.5, 0]}, "must be [lowest, highest], in this order"),
        ({"loguniform": [0, 1]}, "must be greater than 0 for a logarithmic scale"),
        ({"int": [1, 2], "choice": [3]}, "must have exactly one of choice, uniform, loguniform and int"),
        ({}, "must have exactly one of"),
        ({"normal": [0, 1]}, "unknown key"),
        ({"int": [1.5, 2]}, "whole number"),
    ],
)
def test_a_space_that_is_none(space, message):
    with pytest.raises(ConfigError) as caught:
        searching({"model.dropout": space})
    assert message in str(caught.value)
    assert "search.space.model.dropout" in str(caught.value)


def test_nothing_to_search():
    with pytest.raises(InputError, match=r"search\.space: found nothing"):
        check_search(parse_job(BASE))


def test_settings_take_their_places_and_the_search_goes():
    job = searching({"model.heads": {"choice": [1, 2]}}, "model.dropout=0.1")
    result = with_settings(job, {"model.heads": 2, "training.fanout": [5, 5], "losses.l2": 0.5})
    assert (result.model.heads, result.training.fanout, result.losses.l2, result.model.dropout) == (
        2,
        (5, 5),
        0.5,
        0.1,
    )
    assert result.search.space == {}
    assert parse_job(json.loads(result.model_dump_json())) == result
