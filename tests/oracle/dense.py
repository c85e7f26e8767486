"""A small random world for parity tests: interactions, features and modality graphs as dense matrices, the
oracle's weights, and the same world as a SampledGraph with full neighbourhoods. Users are nodes 0..U-1, items
follow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.config import model_sections
from mmssl_dist.model.mmssl import Mmssl
from mmssl_dist.sampling.block import Block, SampledGraph, make_block
from tests.oracle import reference


@dataclass(kw_only=True)
class World:
    """adjacency [U, I]; features, modality_graphs and propagated per modality; p: the oracle's weights."""

    adjacency: np.ndarray
    features: dict[str, np.ndarray]
    modality_graphs: dict[str, np.ndarray]
    p: dict
    settings: model_sections.Model
    propagated: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def users(self) -> int:
        return self.adjacency.shape[0]

    @property
    def items(self) -> int:
        return self.adjacency.shape[1]


def make_world(modalities: int, seed: int = 0, *, layers: int = 2, views: bool = True) -> World:
    """Random sizes, D = 16, 4 heads. Every node has an interaction; some have no edge in a modality graph,
    and the last user has none in any."""
    rng = np.random.default_rng(seed)
    u, i, d, heads = int(rng.integers(8, 16)), int(rng.integers(9, 14)), 16, 4
    names = ("image", "text", "audio")[:modalities]
    adjacency = (rng.random((u, i)) < 0.3).astype(float)
    adjacency[np.arange(u), rng.integers(0, i, u)] = 1
    adjacency[rng.integers(0, u, i), np.arange(i)] = 1
    features = {m: rng.normal(size=(i, int(rng.integers(5, 12)))) for m in names}
    graphs = {m: (rng.random((u, i)) < 0.2).astype(float) for m in names}
    for graph in graphs.values():
        graph[-1] = 0
    single = lambda *shape: np.asarray(rng.normal(scale=0.3, size=shape), np.float32).astype(float)  # noqa: E731
    p = {
        "user_id": single(u, d),
        "item_id": single(i, d),
        "w_q": single(d, d),
        "w_k": single(d, d),
        "w_cat": single(heads * d, d),
        "proj": {m: (single(d, x.shape[1]), single(d)) for m, x in features.items()},
    }
    settings = model_sections.Model(
        dimension=d,
        heads=heads,
        layers=layers,
        modality_graph=model_sections.ModalityGraph(size=3 if views else 0),
    )
    world = World(
        adjacency=adjacency,
        features=features,
        modality_graphs=graphs if views else {},
        p=p,
        settings=settings,
    )
    for m, x in features.items():
        one = np.concatenate([x, np.ones((i, 1))], 1)
        user = _row_sqrt(adjacency) @ one
        world.propagated[m] = np.concatenate([user, _row_sqrt(adjacency.T) @ user])
    return world


@dataclass(frozen=True)
class Batch:
    """Training pairs: user, positive, negative [B] int64 as users 0..U-1 and items 0..I-1; uniform [B, I] for
    noise."""

    user: Tensor
    positive: Tensor
    negative: Tensor
    uniform: Tensor


def make_batch(world: World, seed: int = 0) -> Batch:
    """Some interactions, with a user twice, and for each an item the user does not know."""
    rng = np.random.default_rng(seed)
    rows = np.nonzero(world.adjacency.sum(1) < world.items)[0]
    user = np.concatenate([rows, rows[:2]])
    positive = [rng.choice(np.nonzero(world.adjacency[u])[0]) for u in user]
    negative = [rng.choice(np.nonzero(world.adjacency[u] == 0)[0]) for u in user]
    as_ids = lambda ids: torch.from_numpy(np.asarray(ids, np.int64))  # noqa: E731
    noise = torch.rand(len(user), world.items, generator=torch.Generator().manual_seed(seed))
    return Batch(as_ids(user), as_ids(positive), as_ids(negative), noise.clamp(1e-6, 1 - 1e-6))


def reference_rows(world: World, p: dict) -> dict:
    """All rows as the oracle computes them from the weights ``p``."""
    s = world.settings
    return reference.forward(
        p,
        world.adjacency,
        world.features,
        world.modality_graphs or {m: np.zeros_like(world.adjacency) for m in world.features},
        layers=s.layers,
        heads=s.heads,
        id_weight=s.id_weight,
        modality_weight=s.modality_weight,
    )


def make_model(world: World) -> Mmssl:
    """The model with the world's weights in it."""
    model = Mmssl(world.settings, {m: x.shape[1] for m, x in world.features.items()}, seed=0)
    with torch.no_grad():
        for m, (weight, bias) in world.p["proj"].items():
            model.projections[f"modality_{m}"].weight.copy_(torch.from_numpy(weight))
            model.projections[f"modality_{m}"].bias.copy_(torch.from_numpy(bias))
        if model.attention is not None:
            for name, weight in model.attention.named_parameters():
                weight.copy_(torch.from_numpy(world.p[name]))
    return model


def id_table(world: World) -> Tensor:
    """[U + I, D] float32, a leaf."""
    return single(np.concatenate([world.p["user_id"], world.p["item_id"]])).requires_grad_()


def sampled_graph(world: World, seeds: Tensor) -> tuple[SampledGraph, Tensor]:
    """Full neighbourhoods of the seeds (unique node ids), each node set in node order, and the outermost
    set's ids."""
    symmetric = _bipartite(_symmetric(world.adjacency), _symmetric(world.adjacency).T)
    sets, layers = [seeds], []
    for _ in range(world.settings.layers):
        block, source = _block(symmetric, sets[-1])
        layers.append(block)
        sets.append(source)
    outer, views = sets[-1], {}
    if world.modality_graphs:
        dense = {m: _bipartite(_row_sqrt(g), _row_sqrt(g.T)) for m, g in world.modality_graphs.items()}
        outer = _sources(sum((np.abs(a) for a in dense.values()), np.zeros(1)), sets[-1])
        views = {m: _block(a, sets[-1], outer)[0] for m, a in dense.items()}
    return SampledGraph(
        layers=tuple(reversed(layers)),
        views=views,
        similar=None,
        start_keep=torch.searchsorted(outer, sets[-1]),
        seeds=torch.searchsorted(sets[-1], seeds),
        seeds_source=torch.searchsorted(outer, seeds),
    ), outer


def single(x: np.ndarray) -> Tensor:
    """As a float32 tensor."""
    return torch.from_numpy(np.asarray(x, np.float32))


def _block(dense: np.ndarray, destination: Tensor, source: Tensor | None = None) -> tuple[Block, Tensor]:
    if source is None:
        source = _sources(dense, destination)
    part = dense[destination.numpy()][:, source.numpy()]
    row, column = np.nonzero(part)
    indptr = np.concatenate([[0], np.cumsum((part != 0).sum(1))])
    return make_block(
        indptr=torch.from_numpy(indptr.astype(np.int64)),
        source=torch.from_numpy(column),
        weight=single(part[row, column]),
        num_source=len(source),
        keep=torch.searchsorted(source, destination),
    ), source


def _sources(dense: np.ndarray, destination: Tensor) -> Tensor:
    """The destination's nodes and all their neighbours, in node order."""
    neighbours = np.nonzero(dense[destination.numpy()].any(0))[0]
    return torch.from_numpy(np.union1d(neighbours, destination.numpy()))


def _bipartite(user_item: np.ndarray, item_user: np.ndarray) -> np.ndarray:
    """[U + I, U + I]: rows read their neighbours."""
    u, i = user_item.shape
    return np.block([[np.zeros((u, u)), user_item], [item_user, np.zeros((i, i))]])


def _row_sqrt(a: np.ndarray) -> np.ndarray:
    degree = a.sum(1, keepdims=True)
    return np.divide(a, np.sqrt(degree), out=np.zeros_like(a), where=degree > 0)


def _symmetric(a: np.ndarray) -> np.ndarray:
    return a / np.sqrt(a.sum(1, keepdims=True) * a.sum(0, keepdims=True))
