"""Defaults that depend on another value."""

from __future__ import annotations

import pytest

from mmssl_dist.config import parse_job
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
