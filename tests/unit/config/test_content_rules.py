"""What a modality needs beside an encoder, and what it may not have."""

from __future__ import annotations

import pytest

from mmssl_dist.config import parse_job
from mmssl_dist.errors import ConfigError

TEXT = {"table": "items.csv", "columns": ["title"], "encoder": "owner/model"}
FACTS = {"table": "items.csv", "features": {"brand": "category", "price": "number"}}
PICTURES = {"files": "images/{item}.jpg", "encoder": "owner/model"}


def _parsed(modality: dict[str, object]) -> object:
    return parse_job({"output": "out", "data": {"path": "raw", "modalities": {"m": modality}}}, ())


@pytest.mark.parametrize(
    "modality",
    [
        TEXT,
        PICTURES,
        FACTS,
        {**FACTS, "one_hot": 8, "hashed": 16, "separator": " "},
        {**TEXT, "revision": "v1", "dimension": 384},
        {**PICTURES, "table": "items.csv", "files": "images/{picture}"},
        {**PICTURES, "table": "items.csv", "files": "{shop}/{item}.png"},
    ],
)
def test_content_with_an_encoder_is_valid(modality):
    _parsed(modality)


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        ({}, "data.modalities.m.file: missing; a modality has vectors in a file, content and an encoder, or"),
        ({"features": {"price": "number"}}, "data.modalities.m.table: missing; features are columns of a"),
        (
            {**FACTS, "encoder": "owner/model"},
            "data.modalities.m.encoder: found owner/model; a modality with",
        ),
        ({**FACTS, "hashed": 65537}, "data.modalities.m.hashed: found 65537; must be at most 65536"),
        ({**FACTS, "one_hot": 10**9}, "data.modalities.m.one_hot: found 1000000000; must be at most 65536"),
        ({**FACTS, "file": "a.npy"}, "data.modalities.m.file: found a.npy; a modality with features has"),
        ({**FACTS, "columns": ["brand"]}, "data.modalities.m.columns: found brand; a modality with features"),
        (
            {**FACTS, "item": "brand"},
            "data.modalities.m.features: found brand; this column has the item's id",
        ),
        ({**FACTS, "features": {"price": "price"}}, "data.modalities.m.features.price: "),
        (
            {"file": "a.npy", "columns": ["title"]},
            "data.modalities.m.columns: found title; only an encoder reads",
        ),
        (
            {"file": "a.npy", "dimension": 3},
            "data.modalities.m.dimension: found 3; only an encoder reads it",
        ),
        ({**TEXT, "file": "a.npy"}, "data.modalities.m.file: found a.npy; the encoder makes the vectors"),
        ({"encoder": "owner/model"}, "data.modalities.m.table: missing; an encoder embeds texts"),
        ({**TEXT, "columns": []}, "data.modalities.m.columns: missing; an encoder embeds texts"),
        ({**TEXT, **PICTURES}, "data.modalities.m.columns: found title; a modality has texts or pictures"),
        ({**PICTURES, "files": "images/*.jpg"}, "data.modalities.m.files: found images/*.jpg; it has {item}"),
        ({**PICTURES, "files": "{picture}"}, "data.modalities.m.files: found {picture}; without a table"),
        (
            {**PICTURES, "files": "{item}/{item}.png"},
            "without a table the only name in braces is {item}, once",
        ),
    ],
)
def test_what_does_not_fit_is_named(modality, message):
    with pytest.raises(ConfigError) as caught:
        _parsed(modality)
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("path", ["images/{SKU}.jpg", "{item}/{item}.jpg", "{shop}/{item}.jpg"])
def test_a_picture_of_the_report_is_named_by_the_item_alone(path):
    with pytest.raises(ConfigError) as raised:
        parse_job({"output": "out", "data": {"path": "raw", "modalities": {"m": TEXT}, "images": path}}, ())
    assert f"data.images: found {path}; {{item}} stands where the item's id does" in str(raised.value)
