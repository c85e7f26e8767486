"""Dense float64 reference of MMSSL on a graph small enough to hold as a matrix.

It is the yardstick for the sampled, sharded implementation: with full fanout, every item as a candidate and
dropout off, the implementation must give these numbers. It is written for reading, not for speed, and holds
nothing that scales.

Two variants:
  "mmssl"     the model this project implements: the paper's equations, with the choices listed in
              docs/model.md
  "released"  what the authors' released code computes, quirks included. ``released_forward.npz`` holds
              inputs, weights and outputs of that code (github.com/HKUDS/MMSSL, commit f8d8955, on the CPU, in
              evaluation mode: 12 users, 9 items, D = 16, 4 heads, 2 layers, image and text);
              ``test_rows.py`` compares.

Shapes: U users, I items, D embedding size, F_m feature size of modality m, H heads, B batch, C candidates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

EPS = 1e-8
RELEASED = Path(__file__).with_name("released_forward.npz")


def l2_normalize(x: np.ndarray) -> np.ndarray:
    """Rows of ``x`` scaled to unit length; a zero row stays zero."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def row_sqrt(adjacency: np.ndarray) -> np.ndarray:
    """D_row^(-1/2) A: the sum over a node's neighbours divided by the square root of how many there are."""
    degree = adjacency.sum(1, keepdims=True)
    return np.where(degree > 0, adjacency / np.sqrt(degree + EPS), 0.0)


def symmetric(adjacency: np.ndarray) -> np.ndarray:
    """D_row^(-1/2) A D_col^(-1/2), LightGCN's normalization."""
    rows = adjacency.sum(1, keepdims=True)
    cols = adjacency.sum(0, keepdims=True)
    scale = np.sqrt(rows + EPS) * np.sqrt(cols + EPS)
    return np.where(adjacency > 0, adjacency / scale, 0.0)


def softmax(x: np.ndarray) -> np.ndarray:
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -x)


def modality_tower(adjacency, features, weight, bias):
    """Project item features, then users <- items <- users.

    features [I, F], weight [D, F], bias [D] -> user [U, D], item [I, D].
    Linear, so projecting the pre-aggregated [features, 1] gives the same rows without any sampling.
    """
    projected = features @ weight.T + bias
    user = row_sqrt(adjacency) @ projected
    return user, row_sqrt(adjacency.T) @ user


def modality_aware_ids(modality_graph, user_embedding, item_embedding):
    """Aggregate ID embeddings over the learned modality graph [U, I] -> user [U, D], item [I, D]."""
    return row_sqrt(modality_graph) @ item_embedding, row_sqrt(modality_graph.T) @ user_embedding


def cross_modal_attention(per_modality, w_q, w_k, w_cat, heads):
    """Multi-head attention of each modality's rows over all modalities of the same node.

    per_modality: list of M arrays [N, D]; w_q, w_k [D, D]; w_cat [H * D, D] -> [N, D], the mean over
    modalities.
    Values are the unprojected rows; each head returns a full D-wide mix.
    """
    x = np.stack(per_modality)  # [M, N, D]
    m, n, d = x.shape
    q = (x @ w_q).reshape(m, n, heads, d // heads)
    k = (x @ w_k).reshape(m, n, heads, d // heads)
    mixed = []
    for h in range(heads):
        score = np.einsum("mnd,knd->nmk", q[:, :, h], k[:, :, h]) / np.sqrt(d // heads)  # [N, M, M]
        mixed.append(np.einsum("nmk,knd->mnd", softmax(score), x))
    return (np.concatenate(mixed, -1) @ w_cat).mean(0)


def released_attention(per_modality, w_cat, heads):
    """The released code broadcasts values along the query axis, so each head returns its input unmixed."""
    x = np.stack(per_modality)
    return (np.concatenate([x] * heads, -1) @ w_cat).mean(0)


def forward(
    p,
    adjacency,
    features,
    modality_graphs,
    *,
    variant="mmssl",
    layers=2,
    heads=4,
    id_weight=0.36,
    modality_weight=0.55,
    propagation=None,
):
    """All final and per-modality rows of every user and item.

    p: user_id [U, D], item_id [I, D], w_q, w_k [D, D], w_cat [H * D, D], proj = {m: (weight, bias)}
    propagation: normalization of the interaction graph for ID propagation; default symmetric for
    "mmssl", row_sqrt for "released".
    """
    released = variant == "released"
    norm = propagation or (row_sqrt if released else symmetric)
    modalities = list(features)
    feat = {m: modality_tower(adjacency, features[m], *p["proj"][m]) for m in modalities}
    ids = {m: modality_aware_ids(modality_graphs[m], p["user_id"], p["item_id"]) for m in modalities}

    def attend(side):
        rows = [ids[m][side] for m in modalities]
        if released:
            return released_attention(rows, p["w_cat"], heads)
        return cross_modal_attention(
            per_modality=rows, w_q=p["w_q"], w_k=p["w_k"], w_cat=p["w_cat"], heads=heads
        )

    user = p["user_id"] + id_weight * l2_normalize(attend(0))
    item = p["item_id"] + id_weight * l2_normalize(attend(1))
    users, items = [user], [item]
    a, at = norm(adjacency), norm(adjacency.T)
    for layer in range(layers):
        if released:  # items read the users of the same layer, and the last layer is a softmax
            user = a @ item
            user = softmax(user) if layer == layers - 1 else user
            item = at @ user
            item = softmax(item) if layer == layers - 1 else item
        else:
            user, item = a @ item, at @ user
        users.append(user)
        items.append(item)
    user, item = np.mean(users, 0), np.mean(items, 0)
    for m in modalities:
        user = user + modality_weight * l2_normalize(feat[m][0])
        item = item + modality_weight * l2_normalize(feat[m][1])
    return {"user": user, "item": item, "features": feat, "modality_ids": ids}


def bpr(user, positive, negative):
    return -log_sigmoid((user * positive).sum(-1) - (user * negative).sum(-1)).mean()


def contrastive(x, y, tau=0.5):
    """InfoNCE of x[b] against y[b]; negatives are the other rows of y and of x."""
    x, y = l2_normalize(x), l2_normalize(y)
    within, between = np.exp(x @ x.T / tau), np.exp(x @ y.T / tau)
    positive = np.diag(between)
    return -np.log(positive / (within.sum(1) + between.sum(1) - np.diag(within)) + EPS).mean()


def generator_rows(user, item, known):
    """Critic input from the generator: scores of unseen pairs, each row at unit length.

    known [B, C] in {0, 1}.
    """
    return l2_normalize((user @ item.T) * (1.0 - known))


def real_rows(known, collaborative_rows, uniform, *, gumbel_scale=1e-5, tau=0.005, signal_scale=100.0):
    """Critic input from the data: Gumbel-softmax of the known interactions plus the collaborative signal.

    uniform [B, C] in (0, 1); the released code scales the noise, not the interactions, by 1/tau.
    """
    noise = np.log(-np.log(uniform + EPS) + EPS)
    return l2_normalize(softmax(known - gumbel_scale * noise / tau) + signal_scale * collaborative_rows)


def check_released(path: Path) -> float:
    """Largest difference between the reference's "released" variant and the released code's own numbers."""
    g = np.load(path, allow_pickle=False)
    p = {
        "user_id": g["param.user_id_embedding.weight"].astype(float),
        "item_id": g["param.item_id_embedding.weight"].astype(float),
        "w_q": g["param.weight_dict.w_q"],
        "w_k": g["param.weight_dict.w_k"],
        "w_cat": g["param.weight_dict.w_self_attention_cat"],
        "proj": {m: (g[f"param.{m}_trans.weight"], g[f"param.{m}_trans.bias"]) for m in ("image", "text")},
    }
    out = forward(
        p,
        g["in.R"].astype(float),
        {m: g[f"in.{m}_feat"] for m in ("image", "text")},
        {m: g[f"in.{m}_graph"] for m in ("image", "text")},
        variant="released",
    )
    users, pos, neg = g["in.users"], g["in.pos"], g["in.neg"]
    known = g["in.R"][users]
    rows = {
        m: generator_rows(out["features"][m][0][users], out["features"][m][1], known)
        for m in ("image", "text")
    }
    cf = generator_rows(out["user"][users], out["item"], known)
    pairs = [
        (out["user"], g["out.user"]),
        (out["item"], g["out.item"]),
        (bpr(out["user"][users], out["item"][pos], out["item"][neg]), g["loss.bpr"]),
        (rows["image"], g["row.image"]),
        (rows["text"], g["row.text"]),
        (cf, g["row.cf"]),
        (real_rows(known, cf, g["in.uniform"]), g["row.real"]),
    ]
    for m in ("image", "text"):
        pairs += [
            (out["features"][m][0], g[f"out.{m}_user"]),
            (out["features"][m][1], g[f"out.{m}_item"]),
            (out["modality_ids"][m][0], g[f"out.{m}_user_id"]),
            (out["modality_ids"][m][1], g[f"out.{m}_item_id"]),
            (contrastive(out["modality_ids"][m][0][users], out["user"][users]), g[f"loss.contrastive_{m}"]),
        ]
    return max(float(np.abs(np.asarray(a) - b).max()) for a, b in pairs)
