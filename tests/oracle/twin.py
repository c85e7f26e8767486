"""The oracle's equations and losses in torch, dense and float64, so that autograd gives reference
gradients."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-8


def normalize(x: Tensor) -> Tensor:
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, x / norm.clamp_min(1e-12), 0.0)


def row_sqrt(a: Tensor) -> Tensor:
    degree = a.sum(1, keepdim=True)
    return torch.where(degree > 0, a / (degree + EPS).sqrt(), 0.0)


def symmetric(a: Tensor) -> Tensor:
    return a / ((a.sum(1, keepdim=True) + EPS).sqrt() * (a.sum(0, keepdim=True) + EPS).sqrt())


def attend(rows: list[Tensor], w_q: Tensor, w_k: Tensor, w_cat: Tensor, heads: int) -> Tensor:
    x = torch.stack(rows)
    m, n, d = x.shape
    q, k = (x @ w_q).view(m, n, heads, -1), (x @ w_k).view(m, n, heads, -1)
    share = (torch.einsum("mnhd,knhd->nhmk", q, k) / (d // heads) ** 0.5).softmax(-1)
    mixed = torch.einsum("nhmk,knd->mnhd", share, x).reshape(m, n, heads * d)
    return (mixed @ w_cat).mean(0)


def forward(p: dict, adjacency: Tensor, features: dict, graphs: dict, settings) -> dict:
    """As the oracle's ``forward``; users first, then items, in one table each."""
    users = adjacency.shape[0]
    tower, views = {}, {}
    for m, x in features.items():
        weight, bias = p["proj"][m]
        user = row_sqrt(adjacency) @ (x @ weight.T + bias)
        tower[m] = torch.cat([user, row_sqrt(adjacency.T) @ user])
        g = graphs[m]
        views[m] = torch.cat([row_sqrt(g) @ p["id"][users:], row_sqrt(g.T) @ p["id"][:users]])
    rows = p["id"] + settings.id_weight * normalize(
        attend(rows=list(views.values()), w_q=p["w_q"], w_k=p["w_k"], w_cat=p["w_cat"], heads=settings.heads)
    )
    a, layers = symmetric(adjacency), [rows]
    for _ in range(settings.layers):
        rows = torch.cat([a @ rows[users:], a.T @ rows[:users]])
        layers.append(rows)
    final = torch.stack(layers).mean(0)
    for m in tower:
        final = final + settings.modality_weight * normalize(tower[m])
    return {"final": final, "tower": tower, "views": views}


def bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return -torch.nn.functional.logsigmoid((user * positive).sum(-1) - (user * negative).sum(-1)).mean()


def contrastive(x: Tensor, y: Tensor, tau: float) -> Tensor:
    x, y = normalize(x), normalize(y)
    within, between = (x @ x.T / tau).exp(), (x @ y.T / tau).exp()
    positive = between.diagonal()
    return -(positive / (within.sum(1) + between.sum(1) - within.diagonal()) + EPS).log().mean()
