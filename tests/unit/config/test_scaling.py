"""Workers as one number or as a range, and what one of them takes."""

from __future__ import annotations

import pytest

from mmssl_dist.config import Job
from mmssl_dist.errors import ConfigError
from tests.jobs import make_job


def scaled_job(**scaling: object) -> Job:
    return make_job(partition={"parts": 4}, scaling=scaling)


def test_one_number_and_a_range() -> None:
    fixed, elastic = scaled_job(workers=3).scaling, scaled_job(workers=[2, 4]).scaling
    assert (fixed.workers, fixed.fewest, fixed.most) == (3, 3, 3)
    assert (elastic.workers, elastic.fewest, elastic.most) == ((2, 4), 2, 4)
    assert Job.model_validate_json(scaled_job(workers=[2, 4]).model_dump_json()).scaling == elastic


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        (5, r"scaling.workers: found 5; must be at most partition.parts \(4\)"),
        ([2, 8], r"scaling.workers: found 8; must be at most partition.parts \(4\)"),
        ([3, 2], r"scaling.workers.*or \[fewest, most\], in this order"),
        ([0, 2], r"scaling.workers.0: found 0; must be at least 1"),
        ([1, 2, 3], "scaling.workers"),
        ("all", "scaling.workers"),
        (0, "scaling.workers: found 0"),
    ],
)
def test_what_is_refused(workers: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        scaled_job(workers=workers)


def test_what_one_worker_takes() -> None:
    assert scaled_job(cpus_per_worker=2).scaling.per_worker == {"CPU": 2.0}
    assert scaled_job(cpus_per_worker=7, gpus_per_worker=1, accelerator="L4").scaling.per_worker == {
        "CPU": 7.0,
        "GPU": 1.0,
        "accelerator_type:L4": 0.001,
    }
