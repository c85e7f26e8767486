"""Propagates [x, 1] of the items over the training graph once, so that training needs one stored row per
node.

The modality tower (reference equation 1) is linear before its dropout: users sum their items' projected rows
over sqrt|N_u|, items sum those users' rows over sqrt|N_i|. Summing first and projecting afterwards gives the
same rows. Features are float32 at rest, since float16 would lose the sums; sums and moments are float64.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mmssl_dist.graph.bipartite import Bipartite

_COLUMNS = 32  # propagated together; bounds the float64 copies
_VALUES = 2**22  # of features standardized together


def standardize(rows: np.ndarray) -> np.ndarray:
    """Bring each dimension to mean 0 and variance 1, in place, over the rows that have the modality.

    rows: [I, F + 1] float32 of [x, 1], or zeros where the modality is missing. A constant dimension becomes
        0.

    Returns:
        [2, F] float64: what was subtracted, and what was multiplied with.
    """
    present, width = np.flatnonzero(rows[:, -1]), rows.shape[1] - 1
    if len(present) == 0:
        return unchanged(width)
    step = max(1, _VALUES // max(1, width))
    chunks = [present[start : start + step] for start in range(0, len(present), step)]
    mean = sum((rows[c, :width].sum(0, dtype=np.float64) for c in chunks), np.zeros(width)) / len(present)
    squares = sum((np.square(rows[c, :width] - mean).sum(0) for c in chunks), np.zeros(width)) / len(present)
    # Rounding leaves a constant dimension a little variance, relative to its size; scaling that up would
    # invent values.
    varies = squares > np.square(1e-7 * mean)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, squares, 1.0)), 0.0)
    for c in chunks:
        rows[c, :width] = (rows[c, :width] - mean) * scale
    return np.stack([mean, scale])


def unchanged(width: int) -> np.ndarray:
    """[2, F] float64, what ``standardize`` returns of features that it leaves as they are."""
    return np.stack([np.zeros(width), np.ones(width)])


def propagate(graph: Bipartite, rows: np.ndarray) -> None:
    """Fill the user rows and replace the item rows, in place; an item without neighbours keeps its own row.

    rows: [U + I, F + 1] float32, users first; on entry the item rows are [x, 1], or zeros where x is missing.
    """
    ones = np.ones(graph.interactions)
    of_user = sp.csr_array(
        (ones, graph.of_user.values, graph.of_user.indptr), shape=(graph.users, graph.items)
    )
    of_item = sp.csr_array(
        (ones, graph.of_item.values, graph.of_item.indptr), shape=(graph.items, graph.users)
    )
    user_scale, item_scale = _inverse_root(graph.of_user.lengths), _inverse_root(graph.of_item.lengths)
    warm = graph.of_item.lengths > 0
    users, items = rows[: graph.users], rows[graph.users :]
    for start in range(0, rows.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        of_users = (of_user @ items[:, columns].astype(np.float64)) * user_scale
        users[:, columns] = of_users
        of_items = (of_item @ of_users) * item_scale
        np.copyto(items[:, columns], of_items, where=warm[:, None], casting="same_kind")


def _inverse_root(degree: np.ndarray) -> np.ndarray:
    """[n, 1] 1 / sqrt(degree), 0 where there are no neighbours."""
    return np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0.0)[:, None]
