"""The distinct ids of a long array, and the position of each entry among them, without sorting."""

from __future__ import annotations

import numpy as np

from mmssl_dist.graph.transfer import id_type
from mmssl_dist.kernels import bits as sets

_SPARSE = 2048  # ids there are for one that is listed, from which on sorting is cheaper
_AT_ONCE = 1 << 22  # entries looked up together; bounds memory


def distinct_ids(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids in ``values``, ascending, as int64; and of each entry its position among them, in the
    smaller of int32 and int64.

    Args:
        values: [n] integers from 0 to ``count`` - 1.
    """
    # Bits of a catalogue far larger than the list would cost more to clear and count than the sort.
    if count > _SPARSE * len(values):
        nodes, positions = np.unique(values, return_inverse=True)
        return nodes.astype(np.int64), positions.astype(id_type(len(nodes)))
    pieces = [values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE)]
    bits = np.zeros((count >> 6) + 1, np.uint64)
    # Contiguous, as the kernels are compiled for nothing else.
    outside = sum(sets.add(bits, count, np.ascontiguousarray(piece)) for piece in pieces)
    assert outside == 0, f"{outside} ids are outside of 0 to {count - 1}"
    before = np.empty(len(bits), np.int64)
    nodes = np.empty(sets.count_before(bits, before), np.int64)
    sets.members(bits, nodes)
    positions = np.empty(len(values), id_type(len(nodes)))
    piece_ranks = np.empty(min(_AT_ONCE, len(values)), np.int64)
    for number, piece in enumerate(pieces):
        sets.ranks(bits, before, np.ascontiguousarray(piece), piece_ranks[: len(piece)])
        positions[number * _AT_ONCE : number * _AT_ONCE + len(piece)] = piece_ranks[: len(piece)]
    return nodes, positions
