"""Ids in a request are what JSON has them as: numbers and texts, and no booleans."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel, ValidationError

from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.serving.messages import RecommendRequest, SimilarRequest


def parsed(model: type[BaseModel], text: str) -> Any:
    """A request's body as FastAPI reads it."""
    return model.model_validate(json.loads(text))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (RecommendRequest, '{"user": true}'),
        (RecommendRequest, '{"users": [7, false]}'),
        (RecommendRequest, '{"items": [true]}'),
        (RecommendRequest, '{"user": 7, "candidates": {"allow": [true]}}'),
        (RecommendRequest, '{"user": 7, "candidates": {"block": [false]}}'),
        (SimilarRequest, '{"item": true}'),
    ],
)
def test_a_boolean_is_no_id(model, text):
    with pytest.raises(ValidationError, match="Input should be a valid string"):
        parsed(model, text)


@pytest.mark.parametrize("text", ["7", "7.0", '"7"'])
def test_a_number_is_found_as_number_and_as_text(text):
    ids = Ids(pa.array([0, 1, 7]), "item")
    assert ids.position(parsed(SimilarRequest, f'{{"item": {text}}}').item) == 2
    several = parsed(RecommendRequest, f'{{"users": [1, {text}]}}').users
    assert ids.positions(several).tolist() == [1, 2]


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("7.5", 7.5), ('"7"', "7"), ('"007"', "007")])
def test_an_id_keeps_its_type(text, value):
    user = parsed(RecommendRequest, f'{{"user": {text}}}').user
    assert (user, type(user)) == (value, type(value))


def test_a_condition_of_the_table_may_have_bounds():
    text = '{"user": "7", "candidates": {"where": {"stock": {"gt": 0, "lte": 4.5}, "size": ["m", 7]}}}'
    where = parsed(RecommendRequest, text).filter().where
    assert where == {"stock": {"gt": 0, "lte": 4.5}, "size": ["m", 7]}
    for bad in ("{}", '{"from": 1}', '{"gt": true}', '{"gt": "1"}'):
        with pytest.raises(ValidationError):
            parsed(RecommendRequest, f'{{"user": "7", "candidates": {{"where": {{"stock": {bad}}}}}}}')


def test_a_condition_of_the_table_may_be_a_boolean():
    request = parsed(RecommendRequest, '{"user": "7", "candidates": {"where": {"in_stock": true}}}')
    assert request.candidates.where == {"in_stock": True}
