"""Jobs written with the former names of settings."""

from __future__ import annotations

from typing import Any

import pytest

from mmssl_dist.config import parse_job
from mmssl_dist.config.load import parse_storage
from mmssl_dist.config.renamed import RENAMINGS
from mmssl_dist.errors import ConfigError

SMALL: dict[str, Any] = {
    "output": "runs/x",
    "data": {"path": "raw", "modalities": {"image": {"file": "image.npy"}}},
}
OLD = {
    "partition": {"metis_gigabytes": 2.5},
    "storage": {"cache_bytes": 3_000_000_000, "retries": 1},
    "losses": {"adversarial": {"candidates": 64, "weight": 0.5}, "l2": 0.25},
}


def values(job: Any) -> tuple[object, ...]:
    return job.partition.metis_gb, job.storage.cache_gb, job.losses.candidates


def test_former_names_still_load_and_the_warning_names_the_present_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = parse_job({**SMALL, **OLD}, source="old.yaml")
    assert values(job) == (2.5, 3.0, 64)
    assert (job.losses.adversarial.weight, job.losses.l2, job.storage.retries) == (0.5, 0.25, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    for renaming, record in zip(RENAMINGS, caplog.records, strict=True):
        assert record.getMessage() == (
            f"old.yaml: {renaming.old} is now called {renaming.new}; please rename it"
        )
    assert "candidates" in OLD["losses"]["adversarial"]  # type: ignore[operator]  # the tree given stays


def test_former_names_as_overrides(caplog: pytest.LogCaptureFixture) -> None:
    old = [
        "partition.metis_gigabytes=2.5",
        "storage.cache_bytes=3000000000",
        "losses.adversarial.candidates=all",
    ]
    job = parse_job({**SMALL, "losses": {"candidates": 7}}, old)
    assert values(job) == (2.5, 3.0, "all")
    assert len(caplog.records) == 3
    assert parse_storage({}, ["storage.cache_bytes=500000000"]).cache_gb == 0.5


def test_former_names_of_searched_settings(caplog: pytest.LogCaptureFixture) -> None:
    space = {"losses.adversarial.candidates": {"int": [8, 16]}, "model.layers": {"choice": [2]}}
    job = parse_job({**SMALL, "search": {"space": space}})
    assert set(job.search.space) == {"losses.candidates", "model.layers"}
    assert "search.space.losses.adversarial.candidates is now called" in caplog.text


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"storage.cache_bytes: the former name of storage.cache_gb"):
        parse_job({**SMALL, "storage": {"cache_bytes": 1, "cache_gb": 1.0}})


@pytest.mark.parametrize("value", ["many", True, None, [1]])
def test_a_wrong_value_is_refused_under_the_present_name(value: object) -> None:
    with pytest.raises(ConfigError, match=r"storage\.cache_gb: found "):
        parse_job({**SMALL, "storage": {"cache_bytes": value}})


def test_present_names_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    parse_job(parse_job({**SMALL, **OLD}).model_dump(mode="json"))
    assert len(caplog.records) == len(RENAMINGS)  # of the first reading alone
