"""Cells of the item-item graph: a crowded one is split, so that nobody is compared with a hub's whole
cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph import cells
from mmssl_dist.graph.cells import assign_cells, learn_cells
from mmssl_dist.graph.homes import homes
from mmssl_dist.graph.item_units import ItemUnits
from mmssl_dist.graph.similar import similar_items

ITEMS, CROWD = 3000, 2400


def crowded() -> np.ndarray:
    """Four of five items are the same, so that they are all in one cell."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ITEMS, 8)).astype(np.float32)
    features[rng.permutation(ITEMS)[:CROWD]] = rng.normal(size=8)
    return features


def units_of(features: np.ndarray) -> ItemUnits:
    return ItemUnits(
        homes(
            Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path(), group=None),
            1,
            len(features),
        ),
        features,
    )


def test_a_crowded_cell_is_split_and_an_item_looks_into_one_piece_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells, "PROBED", 6)
    units = units_of(crowded())
    learned = learn_cells(units, seed=0)
    nearest = cells._nearest_cells(units.vectors(units.present), learned.means, 6)
    most = cells._SPLIT * ITEMS // len(learned.means)
    crowd = np.bincount(nearest[:, 0]).max()
    own, looked = assign_cells(units, learned)
    sizes = np.bincount(own.cell, minlength=own.cells)
    assert crowd > 1.5 * most
    assert own.cells > len(learned.means)
    assert sizes.sum() == ITEMS
    assert sizes.max() < 1.25 * most  # pieces are drawn by a hash, and about equally large
    pairs = set(zip(looked.cell.tolist(), looked.row.tolist(), strict=True))
    assert len(pairs) == 6 * ITEMS
    assert set(zip(own.cell.tolist(), own.row.tolist(), strict=True)) <= pairs
    compared = np.zeros(ITEMS, np.int64)
    np.add.at(compared, looked.row, sizes[looked.cell])
    assert compared.max() < 6 * 1.25 * most


def test_items_of_a_split_cell_have_neighbours_of_their_own_piece() -> None:
    rows = crowded()
    alone = homes(
        Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path(), group=None), 1, ITEMS
    )
    lists = similar_items(alone, rows, 5, 0, exact_up_to=10).lists
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert (lists.lengths == 5).all()
    cosine = (unit[np.repeat(np.arange(ITEMS), 5)] * unit[lists.values]).sum(1)
    # Twins are many, so each has five of them within its piece.
    assert (cosine > 0.999).reshape(ITEMS, 5).all(1).sum() >= CROWD
