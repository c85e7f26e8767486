"""Features of the items at home here: read, standardized, and moved to the owners of the items."""

from __future__ import annotations

import numpy as np

from mmssl_dist.graph.homes import Homes, sum_over_blocks
from mmssl_dist.graph.numbering import Numbering
from mmssl_dist.graph.own_lists import OwnLists, position_of
from mmssl_dist.graph.source import DatasetReader
from mmssl_dist.graph.transfer import send_to_owners, total


def features_at_home(
    reader: DatasetReader, homes: Homes, modality: str, width: int, shuffle_seed: int | None = None
) -> np.ndarray:
    """[own items, F + 1] float32 of [x, 1], or zeros where an item lacks the modality (collective).

    Args:
        shuffle_seed: gives each item another item's features; None leaves them where they are.
    """
    exchange = homes.items
    taker = None
    if shuffle_seed is not None:
        # The same permutation on every worker, from the seed alone: a control must not depend on the workers.
        taker = np.argsort(np.random.default_rng(shuffle_seed).permutation(int(exchange.bounds[-1])))
    rows = np.zeros((exchange.rows, width + 1), np.float32)
    batches = reader.features(modality)
    nothing = np.empty(0, np.int64), np.empty((0, width), np.float32)
    # Until the last worker has read its last batch: those that are done take part with nothing.
    while exchange.max((batch := next(batches, None)) is not None):
        items, vectors = nothing if batch is None else batch
        if taker is not None:
            items = taker[items]
        items, vectors = send_to_owners(exchange, items, vectors.astype(np.float32, copy=False))
        rows[items - exchange.first, :-1] = vectors
        rows[items - exchange.first, -1] = 1.0
    return rows


def standardize(homes: Homes, rows: np.ndarray) -> np.ndarray:
    """Bring each dimension to mean 0 and variance 1, in place, over the rows that have the modality
    (collective).

    rows: [own items, F + 1] float32 of [x, 1], or zeros where the modality is missing. A constant dimension
        becomes 0.

    Returns:
        [2, F] float64: what was subtracted, and what was multiplied with.
    """
    width = rows.shape[1] - 1
    chunks = present_rows(homes, rows)
    count = int(total(homes.items, np.array([sum(map(len, chunks))]))[0])
    if count == 0:
        return unchanged(width)
    of_blocks = [rows[chunk, :width].sum(0, dtype=np.float64) for chunk in chunks]
    mean = sum_over_blocks(homes.items, of_blocks, (width,)) / count
    # In a second pass: the mean of squares minus the square of the mean cancels for dimensions far from 0.
    of_blocks = [np.square(rows[chunk, :width] - mean).sum(0) for chunk in chunks]
    squares = sum_over_blocks(homes.items, of_blocks, (width,)) / count
    # Rounding leaves a constant dimension a little variance; scaling that up would invent values.
    varies = squares > np.square(1e-7 * mean)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, squares, 1.0)), 0.0)
    for chunk in chunks:
        rows[chunk, :width] = (rows[chunk, :width] - mean) * scale
    return np.stack([mean, scale])


def present_rows(homes: Homes, rows: np.ndarray) -> list[np.ndarray]:
    """Of each block of items at home, the rows that have the modality.

    Args:
        rows: [own items, F + 1] of [x, 1], or zeros where the modality is missing.
    """
    present = np.flatnonzero(rows[:, -1])
    return [present[slice(*np.searchsorted(present, [block.start, block.stop]))] for block in homes.blocks()]


def unchanged(width: int) -> np.ndarray:
    """[2, F] float64, what ``standardize`` returns of features that it leaves as they are."""
    return np.stack([np.zeros(width), np.ones(width)])


def features_of_owned(homes: Homes, numbering: Numbering, own: OwnLists, rows: np.ndarray) -> np.ndarray:
    """[owned items, C] by ascending node, from the rows of the items at home (collective)."""
    exchange = numbering.owner
    position = position_of(exchange, own.items)
    result = np.empty((len(own.items), rows.shape[1]), rows.dtype)
    blocks = list(homes.blocks())
    # Block by block, so that little is in memory twice; every worker has as many rounds as the largest.
    for number in range(exchange.max(len(blocks))):
        block = blocks[number] if number < len(blocks) else slice(0, 0)
        nodes, arrived = send_to_owners(exchange, numbering.of_items[block], rows[block])
        result[position[nodes - exchange.first]] = arrived
    return result
