"""Features in fewer dimensions: the directions along which the rows of all items are longest.

Of standardized features these are their principal components; features that are not standardized are turned
about zero and not about their mean, so that cosines of items stay what they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmssl_dist.graph.homes import Homes, sum_over_blocks
from mmssl_dist.graph.item_features import present_rows
from mmssl_dist.graph.transfer import gather, total

_LARGEST = 2.0**60  # to which sums of products are scaled as integers


@dataclass(frozen=True)
class Directions:
    """Directions of a modality's features.

    Attributes:
        components: [F, k] float64, orthonormal, by falling length of the rows along them.
        kept: share of the rows' squared length that lies along them.
    """

    components: np.ndarray
    kept: float


def principal_directions(homes: Homes, rows: np.ndarray, dimensions: int) -> Directions:
    """The ``dimensions`` directions along which rows are longest, the same for any number of workers
    (collective).

    Args:
        rows: [own items, F + 1] float32 of [x, 1], or zeros where the modality is missing.
    """
    width = rows.shape[1] - 1
    chunks = present_rows(homes, rows)
    of_blocks = [np.square(rows[chunk, :width], dtype=np.float64).sum(0) for chunk in chunks]
    squares = sum_over_blocks(homes.items, of_blocks, (width,))
    # No sum of products is larger than the largest sum of squares, so that none leaves the range of int64.
    scale = _LARGEST / (squares.max() or 1.0)
    products = np.zeros((width, width), np.int64)
    for chunk in chunks:
        wide = rows[chunk, :width].astype(np.float64)
        # Sums of floats depend on their order, and so on the number of workers; sums of integers do not.
        products += np.rint(wide.T @ wide * scale).astype(np.int64)
    products = total(homes.items, products)
    # One worker decomposes for all: processors of different makes round differently.
    alone = homes.items.rank == 0
    longest = _longest(products / _LARGEST, dimensions) if alone else np.empty((0, width + 1))
    longest = gather(homes.items, longest)
    sum_of_all = float(np.trace(products / _LARGEST))
    kept = float(longest[:, width].sum()) / sum_of_all if sum_of_all > 0 else 1.0
    return Directions(np.ascontiguousarray(longest[:, :width].T), kept)


def _longest(products: np.ndarray, dimensions: int) -> np.ndarray:
    """[k, F + 1]: unit vectors, and the sum of squares along each of them."""
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1][:dimensions], vectors.T[::-1][:dimensions]
    # An eigenvector's sign is arbitrary: its entry of largest magnitude is positive here.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
    return np.concatenate([np.where(largest < 0, -vectors, vectors), values[:, None]], 1)


def along(homes: Homes, rows: np.ndarray, components: np.ndarray) -> np.ndarray:
    """[own items, k + 1] float32: ``rows`` as in ``principal_directions``, along its ``components``."""
    width, dimensions = components.shape
    result = np.zeros((len(rows), dimensions + 1), np.float32)
    result[:, -1] = rows[:, -1]
    # By blocks, whose products are rounded alike whoever holds them.
    for chunk in present_rows(homes, rows):
        result[chunk, :-1] = rows[chunk, :width].astype(np.float64) @ components
    return result
