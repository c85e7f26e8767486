"""The item-item graph against every pair compared, and its weights by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.bipartite import Lists
from mmssl_dist.graph.homes import homes
from mmssl_dist.graph.similar import LocalItemGraph, similar_items, symmetric_weights


def similar(features: np.ndarray, size: int, exact_up_to: int = 100_000) -> LocalItemGraph:
    alone = homes(
        Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path(), group=None), 1, len(features)
    )
    return similar_items(homes=alone, features=features, size=size, seed=0, exact_up_to=exact_up_to)


def nearest_items(features: np.ndarray, size: int, exact_up_to: int = 100_000) -> Lists:
    return similar(features, size, exact_up_to).lists


def rows_of(graph: Lists) -> list[list[int]]:
    return [graph.values[a:b].tolist() for a, b in zip(graph.indptr, graph.indptr[1:], strict=False)]


def compared(features: np.ndarray, size: int) -> list[list[int]]:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    return [sorted(row) for row in np.argsort(-cosine, axis=1)[:, :size].tolist()]


@pytest.mark.parametrize("size", [1, 4, 29])
def test_exact_search_finds_what_comparing_every_pair_does(size):
    features = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    features *= np.random.default_rng(1).uniform(0.1, 10, (30, 1)).astype(np.float32)  # length does not count
    assert rows_of(nearest_items(features, size)) == compared(features, size)


def test_more_neighbours_than_items_are_all_others():
    features = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert rows_of(nearest_items(features, 10)) == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_items_without_features_have_no_neighbours_and_are_nobodys():
    features = np.array([[1, 0], [0, 0], [1, 0.1], [0, 1], [0, 0]], np.float32)
    assert rows_of(nearest_items(features, 1)) == [[2], [], [0], [2], []]


def test_equal_items_are_neighbours_but_never_of_themselves():
    result = rows_of(nearest_items(np.ones((6, 3), np.float32), 2))
    assert all(len(row) == 2 and item not in row for item, row in enumerate(result))


@pytest.mark.parametrize("items", [0, 1])
def test_there_may_be_nobody_to_be_near_to(items):
    assert rows_of(nearest_items(np.ones((items, 3), np.float32), 5)) == [[]] * items


def test_the_inverted_file_finds_nearly_the_same():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, 16))[rng.integers(0, 40, 3000)] + rng.normal(size=(3000, 16))).astype(
        np.float32
    )
    exact, approximate = nearest_items(features, 10), nearest_items(features, 10, exact_up_to=1000)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(rows_of(exact), rows_of(approximate), strict=True)]
    assert all(item not in row for item, row in enumerate(rows_of(approximate)))
    assert np.mean(shared) > 0.8
    assert rows_of(approximate) == rows_of(
        nearest_items(features, 10, exact_up_to=1000)
    )  # the same every time


def test_weights_are_symmetric_in_length_and_listings():
    graph = Lists(np.array([0, 2, 3, 3, 4]), np.array([1, 3, 3, 0]))
    half = 0.5**0.5
    listed = np.array([1, 2, 2, 1])
    np.testing.assert_allclose(symmetric_weights(graph, listed), [half, 0.5, half, 1.0], rtol=1e-6)


def test_large_features_have_the_neighbours_of_their_direction():
    """The squares of values above 1e19 are beyond float32."""
    features = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    wanted = nearest_items(features, 4)
    for size in (1e20, 1e30, 1e37):
        result = nearest_items(features * np.float32(size), 4)
        np.testing.assert_array_equal(result.values, wanted.values)
        np.testing.assert_array_equal(result.lengths, wanted.lengths)
