"""Every loss, and every row handed to the critic, equals the dense oracle's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl_dist import losses
from mmssl_dist.config import model_sections
from tests.oracle import reference as oracle
from tests.oracle.dense import (
    Batch,
    id_table,
    make_batch,
    make_model,
    make_world,
    reference_rows,
    sampled_graph,
    single,
)

TOLERANCE = 1e-5


@pytest.fixture(params=[1, 2, 3])
def case(request):
    """(world, batch, the model's rows of all nodes, the oracle's)"""
    world = make_world(request.param, seed=5)
    everyone = torch.arange(world.users + world.items)
    graph, outer = sampled_graph(world, everyone)
    model = make_model(world)
    tower = {m: model.project(m, single(x)) for m, x in world.propagated.items()}
    with torch.no_grad():
        rows = model(id_table(world)[outer], tower, graph)
    return world, make_batch(world), rows, reference_rows(world, world.p)


def test_bpr(case):
    world, batch, rows, truth = case
    actual = losses.bpr(
        rows.final[batch.user],
        rows.final[world.users + batch.positive],
        rows.final[world.users + batch.negative],
        len(batch.user),
    )
    wanted = oracle.bpr(
        truth["user"][batch.user], truth["item"][batch.positive], truth["item"][batch.negative]
    )
    assert actual.item() == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_contrastive(case, temperature):
    _, batch, rows, truth = case
    for m in rows.views:
        x, y = rows.views[m][batch.user], rows.final[batch.user]
        actual = losses.contrastive(
            x_local=x,
            y_local=y,
            x_all=x,
            y_all=y,
            positions=torch.arange(len(x)),
            temperature=temperature,
            count=len(x),
        )
        wanted = oracle.contrastive(
            truth["modality_ids"][m][0][batch.user], truth["user"][batch.user], temperature
        )
        assert actual.item() == pytest.approx(wanted, abs=TOLERANCE)


def test_critic_rows(case):
    world, batch, rows, truth = case
    known = world.adjacency[batch.user]
    mask = torch.from_numpy(known > 0)
    for m in rows.tower:
        actual = losses.generator_rows(rows.tower[m][batch.user], rows.tower[m][world.users :], mask)
        wanted = oracle.generator_rows(truth["features"][m][0][batch.user], truth["features"][m][1], known)
        np.testing.assert_allclose(actual.detach(), wanted, rtol=0, atol=TOLERANCE)
    settings = model_sections.Adversarial()
    for scale in (settings.signal_scale, 0.0):
        collaborative = losses.generator_rows(rows.final[batch.user], rows.final[world.users :], mask)
        actual = losses.real_rows(
            mask, collaborative, batch.uniform, settings.model_copy(update={"signal_scale": scale})
        )
        wanted = oracle.real_rows(
            known,
            oracle.generator_rows(truth["user"][batch.user], truth["item"], known),
            batch.uniform.numpy().astype(float),
            gumbel_scale=settings.gumbel_scale,
            tau=settings.gumbel_temperature,
            signal_scale=scale,
        )
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=TOLERANCE)


def test_l2(case):
    world, batch, _, _ = case
    user, item = world.p["user_id"], world.p["item_id"]
    parts = [user[batch.user], item[batch.positive], item[batch.negative]]
    wanted = 0.5 * sum((part**2).sum() for part in parts) / len(batch.user)
    assert losses.l2(*map(single, parts), count=len(batch.user)).item() == pytest.approx(
        wanted, abs=TOLERANCE
    )


def test_batch_repeats_a_user(case):
    _, batch, _, _ = case
    assert isinstance(batch, Batch)
    assert len(batch.user) > len(batch.user.unique())
