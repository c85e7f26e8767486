"""Gradients of the whole objective on sampled blocks equal autograd of the dense float64 twin, and the twin's
equal finite differences of the oracle."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl_dist import losses
from mmssl_dist.model.mmssl import Mmssl
from tests.oracle import reference as oracle
from tests.oracle import twin
from tests.oracle.dense import (
    Batch,
    World,
    id_table,
    make_batch,
    make_model,
    make_world,
    reference_rows,
    sampled_graph,
    single,
)

CONTRASTIVE, TAU, L2 = 0.3, 0.5, 0.01


def objective(model: Mmssl, ids: Tensor, world: World, batch: Batch) -> Tensor:
    """The losses without the critic, over the seeds' blocks only."""
    nodes = torch.cat([batch.user, world.users + batch.positive, world.users + batch.negative])
    seeds, where = nodes.unique(return_inverse=True)
    graph, outer = sampled_graph(world, seeds)
    tower = {m: model.project(m, single(x[seeds.numpy()])) for m, x in world.propagated.items()}
    rows = model(ids.index_select(0, outer), tower, graph)
    count = len(batch.user)
    user, positive, negative = where.view(3, -1)
    loss = losses.bpr(rows.final[user], rows.final[positive], rows.final[negative], count)
    everyone = torch.arange(count)
    for g in rows.views.values():
        x, y = g[user], rows.final[user]
        loss = loss + CONTRASTIVE * losses.contrastive(
            x_local=x, y_local=y, x_all=x, y_all=y, positions=everyone, temperature=TAU, count=count
        )
    return loss + L2 * losses.l2(*(rows.tower[m][user] for m in rows.tower), count=count)


def twin_objective(p: dict, world: World, batch: Batch) -> Tensor:
    double = torch.from_numpy
    out = twin.forward(
        p=p,
        adjacency=double(world.adjacency),
        features={m: double(x) for m, x in world.features.items()},
        graphs={m: double(x) for m, x in world.modality_graphs.items()},
        settings=world.settings,
    )
    final = out["final"]
    loss = twin.bpr(
        final[batch.user], final[world.users + batch.positive], final[world.users + batch.negative]
    )
    for g in out["views"].values():
        loss = loss + CONTRASTIVE * twin.contrastive(g[batch.user], final[batch.user], TAU)
    square = sum((t[batch.user] ** 2).sum() for t in out["tower"].values())
    return loss + L2 * 0.5 * square / len(batch.user)


def oracle_objective(p: dict, world: World, batch: Batch) -> float:
    out = reference_rows(world, p)
    loss = oracle.bpr(out["user"][batch.user], out["item"][batch.positive], out["item"][batch.negative])
    for user, _ in out["modality_ids"].values():
        loss += CONTRASTIVE * oracle.contrastive(user[batch.user], out["user"][batch.user], TAU)
    square = sum((user[batch.user] ** 2).sum() for user, _ in out["features"].values())
    return float(loss + L2 * 0.5 * square / len(batch.user))


def twin_gradients(world: World, batch: Batch) -> dict[str, Tensor]:
    """By the names of the model's parameters, and "id"."""
    leaf = lambda x: torch.from_numpy(np.array(x)).requires_grad_()  # noqa: E731
    p: dict[str, Any] = {name: leaf(world.p[name]) for name in ("w_q", "w_k", "w_cat")}
    p["id"] = leaf(np.concatenate([world.p["user_id"], world.p["item_id"]]))
    p["proj"] = {m: (leaf(weight), leaf(bias)) for m, (weight, bias) in world.p["proj"].items()}
    twin_objective(p, world, batch).backward()
    result = {f"attention.{name}": p[name].grad for name in ("w_q", "w_k", "w_cat")} | {"id": p["id"].grad}
    for m, (weight, bias) in p["proj"].items():
        result |= {
            f"projections.modality_{m}.weight": weight.grad,
            f"projections.modality_{m}.bias": bias.grad,
        }
    return result


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_equal_the_twin_and_none_is_zero(modalities, seed):
    world = make_world(modalities, seed)
    batch, model, ids = make_batch(world), make_model(world), id_table(world)
    objective(model, ids, world, batch).backward()
    actual = {name: p.grad for name, p in model.named_parameters()} | {"id": ids.grad}
    wanted = twin_gradients(world, batch)
    assert set(actual) == set(wanted) - ({"attention.w_q", "attention.w_k"} if modalities == 1 else set())
    for name, gradient in actual.items():
        assert gradient is not None, name
        assert gradient.abs().max() > 1e-6, name
        np.testing.assert_allclose(gradient, wanted[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_one_modality_needs_no_queries():
    world = make_world(1, seed=4)
    gradients = twin_gradients(world, make_batch(world))
    assert gradients["attention.w_q"].abs().max() < 1e-15
    assert gradients["attention.w_k"].abs().max() < 1e-15


@pytest.mark.parametrize("modalities", [1, 3])
def test_twin_equals_finite_differences_of_the_oracle(modalities):
    world = make_world(modalities, seed=6)
    batch, rng, step = make_batch(world), np.random.default_rng(0), 1e-5
    gradients = twin_gradients(world, batch)
    users = gradients["id"].numpy()[: world.users]
    wanted = {("user_id",): users, ("item_id",): gradients["id"].numpy()[world.users :]}
    wanted |= {(name,): gradients[f"attention.{name}"].numpy() for name in ("w_q", "w_k", "w_cat")}
    for m in world.features:
        for i, name in enumerate(("weight", "bias")):
            wanted[("proj", m, i)] = gradients[f"projections.modality_{m}.{name}"].numpy()
    for path, gradient in wanted.items():
        for _ in range(5):
            at = tuple(rng.integers(0, n) for n in gradient.shape)
            values = []
            for sign in (1, -1):
                p = copy.deepcopy(world.p)
                array = p
                for attribute in path:
                    array = array[attribute]
                array[at] += sign * step
                values.append(oracle_objective(p, world, batch))
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[at], rel=1e-4, abs=1e-8), (
                path,
                at,
            )
