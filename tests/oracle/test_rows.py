"""Every row of the model on sampled blocks equals the dense oracle's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl_dist.model.mmssl import SeedRows
from tests.oracle import reference as oracle
from tests.oracle.dense import (
    World,
    id_table,
    make_model,
    make_world,
    reference_rows,
    sampled_graph,
    single,
)

TOLERANCE = 1e-5


def run(world: World, seeds: torch.Tensor) -> SeedRows:
    model = make_model(world)
    graph, outer = sampled_graph(world, seeds)
    tower = {m: model.project(m, single(x[seeds.numpy()])) for m, x in world.propagated.items()}
    return model(id_table(world)[outer], tower, graph)


def close(actual: torch.Tensor, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), wanted, rtol=0, atol=TOLERANCE)


def test_oracle_reproduces_the_released_code():
    assert oracle.check_released(oracle.RELEASED) < 2e-5


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_rows(modalities, seed):
    world = make_world(modalities, seed)
    rows, truth = run(world, torch.arange(world.users + world.items)), reference_rows(world, world.p)
    close(rows.final, np.concatenate([truth["user"], truth["item"]]))
    assert set(rows.tower) == set(rows.views) == set(world.features)
    for m in world.features:
        close(rows.tower[m], np.concatenate(truth["features"][m]))
        close(rows.views[m], np.concatenate(truth["modality_ids"][m]))


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_rows_of_a_few_seeds_at_any_depth(layers):
    world = make_world(2, seed=2, layers=layers)
    seeds = torch.tensor([1, 4, world.users - 1, world.users + 2, world.users + 5])
    rows, truth = run(world, seeds), reference_rows(world, world.p)
    close(rows.final, np.concatenate([truth["user"], truth["item"]])[seeds])
    for m in world.features:
        close(rows.views[m], np.concatenate(truth["modality_ids"][m])[seeds])


def test_without_modality_graph():
    world = make_world(2, seed=3, views=False)
    model = make_model(world)
    assert all("attention" not in name for name, _ in model.named_parameters())
    seeds = torch.arange(1, world.users + world.items)
    rows, truth = run(world, seeds), reference_rows(world, world.p)
    assert rows.views == {}
    close(rows.final, np.concatenate([truth["user"], truth["item"]])[seeds])
