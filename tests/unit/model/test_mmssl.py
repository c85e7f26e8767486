"""The generator's pieces by hand, its weights, and its behaviour at zero rows and in bf16."""

from __future__ import annotations

import pytest
import torch

from mmssl_dist.config import model_sections
from mmssl_dist.model.attention import CrossModalAttention
from mmssl_dist.model.mmssl import Mmssl
from tests.oracle.dense import id_table, make_model, make_world, sampled_graph, single

DIMENSIONS = {"text": 5, "image": 7}


def settings(**changes) -> model_sections.Model:
    return model_sections.Model(
        **{"dimension": 8, "heads": 2, "modality_graph": model_sections.ModalityGraph(size=10), **changes}
    )


def test_projection_by_hand():
    model = Mmssl(model_sections.Model(dimension=2, heads=1), {"image": 3}, seed=0)
    projection = model.projections["modality_image"]
    with torch.no_grad():
        projection.weight.copy_(torch.tensor([[1.0, 2, 3], [0, 1, 0]]))
        projection.bias.copy_(torch.tensor([10.0, 100]))
    # The last column says how often the bias counts; 0 where the modality is missing.
    rows = model.project("image", torch.tensor([[1.0, 1, 1, 0.5], [0, 0, 0, 0]]))
    assert rows.tolist() == [[11.0, 51.0], [0.0, 0.0]]


def test_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    a = Mmssl(settings(), DIMENSIONS, seed=3)
    torch.manual_seed(2)
    b = Mmssl(settings(), dict(reversed(DIMENSIONS.items())), seed=3)
    c = Mmssl(settings(), DIMENSIONS, seed=4)
    assert a.modalities == b.modalities == ("image", "text")
    for (name, p), (other, q) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q)
    assert all(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


def test_initial_weights_are_xavier_uniform():
    model = Mmssl(model_sections.Model(), {"image": 512}, seed=0)
    weight = model.projections["modality_image"].weight
    bound = (6 / (128 + 512)) ** 0.5
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_any_valid_name_of_a_modality():
    names = {"type": 2, "keys": 2, "a-b_c": 2, "training": 2}
    model = Mmssl(settings(), names, seed=0)
    assert model.modalities == tuple(sorted(names))
    assert all(model.project(m, torch.ones(1, 3)).shape == (1, 8) for m in names)


def test_parameters_present():
    def names(**changes):
        return {n.split(".")[-1] for n, _ in Mmssl(settings(**changes), DIMENSIONS, 0).named_parameters()}

    off = model_sections.ModalityGraph(size=0)
    assert names() == {"weight", "bias", "w_q", "w_k", "w_cat"}
    assert names(modality_graph=off) == {"weight", "bias"}
    learned = model_sections.ItemGraph(learned=True)
    assert names(modality_graph=off, item_graph=learned) == {"weight", "bias", "item_shares"}
    with pytest.raises(ValueError, match="size is 0"):
        Mmssl(settings(modality_graph=off), DIMENSIONS, 0).attend({})


def test_start_rows_without_views_are_the_ids():
    model, own = Mmssl(settings(), DIMENSIONS, 0), torch.ones(3, 8)
    assert model.start_rows(own, {}) is own


def test_combine_by_hand():
    model = Mmssl(
        model_sections.Model(dimension=2, heads=1, modality_weight=0.5), {"image": 3, "text": 3}, seed=0
    )
    layers = [torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 5.0]])]
    tower = {"text": torch.tensor([[0.0, 9.0]]), "image": torch.tensor([[0.0, 0.0]])}
    assert model.combine(layers, tower).tolist() == [[2.0, 3.5]]


def test_feature_columns_by_hand():
    """The tower's rows stand in the last columns, at their own length, and summed over the modalities."""
    model = Mmssl(
        settings(dimension=4, feature_columns=2, modality_weight=0.5), {"image": 3, "text": 1}, seed=0
    )
    with torch.no_grad():
        for m, weight, bias in (
            ("image", [[1.0, 2, 3], [0, 1, 0]], [10.0, 100]),
            ("text", [[4.0], [0]], [0.0, 2]),
        ):
            model.projection(m).weight.copy_(torch.tensor(weight))
            model.projection(m).bias.copy_(torch.tensor(bias))
    item = {"image": torch.tensor([[1.0, 1, 1, 1]]), "text": torch.tensor([[2.0, 1]])}
    tower = {m: model.project(m, x) for m, x in item.items()}
    assert {m: rows.tolist() for m, rows in tower.items()} == {
        "image": [[0, 0, 16, 101]],
        "text": [[0, 0, 8, 2]],
    }
    assert model.combine([torch.tensor([[7.0, 8, 0, 0]])], tower).tolist() == [[7, 8, 12, 51.5]]
    dense = [x.tolist() for x in model.projection("text").dense()]
    assert dense == [[[0], [0], [4], [0]], [0, 0, 0, 2]]


def test_attention_mixes_over_modalities():
    attention = CrossModalAttention(4, 2, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention.w_q.zero_()  # equal scores: each head is the mean over modalities
        attention.w_cat.copy_(torch.cat([torch.eye(4), 2 * torch.eye(4)]))
    a, b = torch.arange(8.0).view(2, 4), torch.full((2, 4), 3.0)
    assert torch.allclose(attention([a, b]), 3 * (a + b) / 2)


def test_attention_of_no_nodes():
    for modalities in (1, 2):
        attention = CrossModalAttention(4, 2, modalities, torch.Generator().manual_seed(0))
        assert attention([torch.zeros(0, 4)] * modalities).shape == (0, 4)


@pytest.mark.parametrize("modalities", [1, 2])
def test_zero_rows(modalities):
    names = ("image", "text")[:modalities]
    model = Mmssl(settings(), dict.fromkeys(names, 3), seed=0)
    views = {m: torch.randn(3, 8, generator=torch.Generator().manual_seed(i)) for i, m in enumerate(names)}
    for view in views.values():
        view[1] = 0
        view.requires_grad_()
    own = torch.full((3, 8), 0.5, requires_grad=True)
    assert torch.equal(model.attend(views)[1], torch.zeros(8))
    rows = model.start_rows(own, views)
    assert torch.equal(rows[1], own[1])
    (rows**2).sum().backward()
    for tensor in (*views.values(), own, *model.attention.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() < 100


def test_bf16_weights_give_float32_rows_near_the_float32_ones():
    world = make_world(3, seed=8)
    nodes = torch.arange(world.users + world.items)
    graph, outer = sampled_graph(world, nodes)
    result = []
    for dtype in (torch.float32, torch.bfloat16):
        model, ids = make_model(world).to(dtype), id_table(world)
        tower = {m: model.project(m, single(x)) for m, x in world.propagated.items()}
        rows = model(ids.index_select(0, outer), tower, graph)
        rows.final.square().sum().backward()
        assert rows.final.dtype == torch.float32
        assert all(t.dtype == torch.float32 for t in (*rows.tower.values(), *rows.views.values()))
        for name, p in model.named_parameters():
            assert p.grad.isfinite().all(), name
            assert p.grad.abs().max() > 0, name
        assert ids.grad.isfinite().all()
        result.append(rows.final)
    assert torch.allclose(*result, atol=0.03)
    assert not torch.equal(*result)


def test_rows_over_the_item_graph_by_hand():
    model = Mmssl(
        settings(dimension=2, heads=1, item_graph=model_sections.ItemGraph(weight=2.0)), DIMENSIONS, seed=0
    )
    gathered = {
        "image": torch.tensor([[2.0, 0], [0, 1], [0, 0]]),
        "text": torch.tensor([[4.0, 8], [0, 0], [0, 0]]),
    }
    similar = model.similar(gathered)
    torch.testing.assert_close(similar, torch.tensor([[0.6, 0.8], [0, 1], [0, 0]]))
    tower = {m: torch.zeros(3, 2) for m in DIMENSIONS}
    final = model.combine([torch.ones(3, 2)], tower, similar)
    torch.testing.assert_close(final, torch.tensor([[2.2, 2.6], [1, 3], [1, 1]]))


def test_learned_shares_weigh_the_modalities():
    model = Mmssl(
        settings(dimension=2, heads=1, item_graph=model_sections.ItemGraph(learned=True)), DIMENSIONS, seed=0
    )
    gathered = {"image": torch.tensor([[1.0, 0]]), "text": torch.tensor([[0.0, 1]])}
    equal = model.similar(gathered)
    torch.testing.assert_close(equal, torch.full((1, 2), 0.5**0.5))
    with torch.no_grad():
        model.item_shares.copy_(torch.tensor([3.0, 1.0]).log())
    torch.testing.assert_close(
        model.similar(gathered), torch.nn.functional.normalize(torch.tensor([[3.0, 1]]))
    )
