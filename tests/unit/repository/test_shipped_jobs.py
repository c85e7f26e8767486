"""Every job that ships loads, and those meant to be twins are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl_dist.config import load_job

JOBS = sorted((Path(__file__).parents[3] / "jobs").rglob("*.yaml"))


def test_the_jobs_are_all_there() -> None:
    assert {path.stem for path in JOBS} >= {"demo", "tiktok", "large", "local"}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_loads(path: Path) -> None:
    job = load_job(path)
    assert job.scaling.workers <= job.partition.parts
    assert path.read_text().startswith("#"), "the first line says what the job is for"


def test_the_local_twin_differs_in_paths_scaling_and_storage_only() -> None:
    by_name = {path.stem: load_job(path).model_dump() for path in JOBS}
    large, local = by_name["large"], by_name["local"]
    for tree in (large, local):
        del tree["output"], tree["data"]["path"], tree["scaling"], tree["storage"]
    assert large == local


def test_the_jobs_are_what_they_say() -> None:
    by_name = {path.stem: load_job(path) for path in JOBS}
    demo, tiktok, large = by_name["demo"], by_name["tiktok"], by_name["large"]
    assert (demo.scaling.workers, tiktok.scaling.workers, tiktok.partition.parts) == (2, 2, 4)
    assert (tiktok.data.layout, tiktok.data.split.method) == ("mmssl", "given")
    assert {name: modality.file for name, modality in tiktok.data.modalities.items()} == {
        "image": "image_feat.npy",
        "audio": "audio_feat.npy",
    }
    assert large.output.startswith("s3://")
    assert large.data.path.startswith("s3://")
    assert large.scaling.gpus_per_worker == 1
