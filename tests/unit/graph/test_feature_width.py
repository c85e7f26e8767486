"""Fewer feature dimensions against a dense singular value decomposition, and rows of 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.config.job import Job
from mmssl_dist.graph.partition import partition
from mmssl_dist.graph.partition_files import load_feature_map, load_features, read_book
from mmssl_dist.sharding.partitions import join_partitions
from mmssl_dist.storage import Manifest
from tests.artifacts import write_dataset
from tests.unit.graph.conftest import ITEMS, USERS, features
from tests.unit.graph.published_partitions import dense_truth, load_all, location, names_by_node, rows_by_name

MakeJob = Callable[..., Job]


def directions(x: np.ndarray, dimensions: int) -> np.ndarray:
    """[F, k]: the first principal directions, with the entry of largest magnitude positive."""
    vectors = np.linalg.svd(x, full_matrices=False)[2][:dimensions].T
    return np.asarray(vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(dimensions)]))


@pytest.mark.parametrize("standardized", [True, False])
def test_features_are_reduced_to_their_principal_components(
    dataset: Manifest, partition_job: MakeJob, standardized: bool
) -> None:
    job = partition_job(method="random", parts=3, standardize=standardized, feature_dimensions=4)
    manifest = partition(job, dataset)
    names = names_by_node(job, manifest)
    expected_names = [f"user user/{u}" for u in range(USERS)] + [f"item {9000 + i}" for i in range(ITEMS)]
    order = [names.index(name) for name in expected_names]
    assert manifest.facts["modalities"] == {"image": 4, "text": 4}
    for modality, (having, raw) in features().items():
        x = raw.astype(np.float64)
        x = (x - x.mean(0)) / x.std(0) if standardized else x
        components = directions(x, 4)
        rows = np.concatenate([data.propagated[modality] for data in load_all(job, manifest)])[order]
        expected = dense_truth(x @ components, having, standardized=False)
        np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        feature_map = load_feature_map(location(job), manifest, modality, Path(job.output))
        np.testing.assert_allclose(feature_map.components, components, atol=1e-6)
        reduced = manifest.facts["reduced"][modality]
        assert reduced["from"] == x.shape[1]
        assert reduced["kept"] == pytest.approx(np.square(x @ components).sum() / np.square(x).sum())


def test_features_that_are_narrow_enough_keep_their_dimensions(
    dataset: Manifest, partition_job: MakeJob
) -> None:
    wide, narrow = (partition_job(method="random", feature_dimensions=k) for k in (0, 40))
    before = rows_by_name(wide, partition(wide, dataset))
    manifest = partition(narrow, dataset)
    assert rows_by_name(narrow, manifest) == before
    assert manifest.facts["reduced"] == {}
    assert load_feature_map(location(narrow), manifest, "text", Path(narrow.output)).components is None


def test_features_in_few_directions_lose_nothing(tmp_path: Path, partition_job: MakeJob) -> None:
    """Twelve items in a plane, some equal, and a modality of zeros: dot products stay."""
    rng = np.random.default_rng(0)
    flat = np.repeat(rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5)), 2, 0).astype(np.float32)
    dataset = write_dataset(
        path=tmp_path / "dataset",
        train=[(0, item) for item in range(12)],
        validation=[(0, 1)],
        test=[],
        features={"image": (list(range(12)), flat), "text": (list(range(12)), np.zeros((12, 3), np.float32))},
    )
    job = partition_job(parts=1, standardize=False, feature_dimensions=2)
    manifest = partition(job, dataset)
    rows = load_features(
        location=location(job), manifest=manifest, part=0, modality="image", cache=Path(job.output)
    )[:, :-1]
    np.testing.assert_allclose(rows @ rows.T, flat @ flat.T, atol=1e-5 * np.abs(flat).max() ** 2)
    assert manifest.facts["reduced"]["image"]["kept"] == pytest.approx(1)
    assert not load_features(
        location=location(job), manifest=manifest, part=0, modality="text", cache=Path(job.output)
    )[:, :-1].any()


def test_rows_of_16_bits_are_those_of_32_rounded(dataset: Manifest, partition_job: MakeJob) -> None:
    full, half = (partition_job(method="random", parts=3, row_type=t) for t in ("float32", "bfloat16"))
    graph = []
    for job in (full, half):
        manifest = partition(job, dataset)
        graph.append(join_partitions(read_book(manifest), load_all(job, manifest)))
    for modality, rows in graph[0].propagated.items():
        stored = graph[1].propagated[modality]
        assert (rows.dtype, stored.dtype) == (torch.float32, torch.bfloat16)
        assert torch.equal(stored, rows.to(torch.bfloat16))
