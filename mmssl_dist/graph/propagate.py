"""Propagates [x, 1] of the items over the training graph once, so that training needs one stored row per
node.

The modality tower (reference equation 1) is linear before its dropout: users sum their items' projected rows
over sqrt|N_u|, items sum those users' rows over sqrt|N_i|. Summing first and projecting afterwards gives the
same rows. Rows are float32 at rest and when they are sent; each sum is float64, in the order of the list, so
that it is the same however many workers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmssl_dist.exchange.exchange import Exchange, Route
from mmssl_dist.graph.bipartite import Lists
from mmssl_dist.graph.distinct import distinct_ids
from mmssl_dist.graph.transfer import tensor
from mmssl_dist.kernels.sums import scaled_sums

COLUMNS = 32  # propagated together
CHUNK_EDGES = 1 << 19  # whose source rows are held together: at most 64 MiB
_ROWS = 4096  # put together from their columns at once


@dataclass(frozen=True)
class _Chunk:
    """Some lists: local rows, their starts, positions among the distinct neighbours, and the way to those."""

    rows: slice
    indptr: np.ndarray
    columns: np.ndarray
    route: Route


class NeighbourSums:
    """Sums of neighbours' rows over sqrt(number of neighbours), for the lists of one side.

    Args:
        exchange: over node ids.
        rows: local rows (node ids minus ``exchange.first``) of the lists, ascending.
        lists: their neighbours' node ids.
    """

    def __init__(self, exchange: Exchange, rows: np.ndarray, lists: Lists) -> None:
        self.exchange, self.rows, self.lengths = exchange, rows, lists.lengths
        # Equation 1 divides by the root of the degree; a node without neighbours keeps its row unchanged.
        self.scale = np.where(self.lengths > 0, 1 / np.sqrt(np.maximum(self.lengths, 1)), 0.0)
        ranges = list(_ranges(lists.indptr))
        self.chunks = []
        # Routes are collective: a worker with fewer chunks takes part with empty ones.
        for number in range(exchange.max(len(ranges))):
            first, last = ranges[number] if number < len(ranges) else (len(rows), len(rows))
            begin, end = int(lists.indptr[first]), int(lists.indptr[last])
            nodes, columns = distinct_ids(lists.values[begin:end], int(exchange.bounds[-1]))
            route = exchange.route(tensor(nodes))
            self.chunks.append(
                _Chunk(
                    rows=slice(first, last),
                    indptr=np.asarray(lists.indptr[first : last + 1] - begin),
                    columns=columns,
                    route=route,
                )
            )

    def fill(self, table: np.ndarray) -> None:
        """Write the sums of rows of ``table`` to the lists' own rows of it; lists without neighbours keep
        theirs (collective).

        Args:
            table: [exchange.rows, C] float32. No list's own row may be another's neighbour.
        """
        source = tensor(table)
        for chunk in self.chunks:
            neighbours = self.exchange.fetch(
                chunk.route, source.index_select(0, chunk.route.requested)
            ).numpy()
            sums = scaled_sums(chunk.indptr, chunk.columns, neighbours, self.scale[chunk.rows])
            own = self.rows[chunk.rows]
            # A cold item keeps its own features, so that the tower still has something to project for it.
            listed = self.lengths[chunk.rows] > 0
            table[own[listed]] = sums[listed]


def propagate(
    users: NeighbourSums, items: NeighbourSums, features: np.ndarray, scratch: Path
) -> Callable[[int, int], Iterator[np.ndarray]]:
    """Propagate users <- items <- users, some columns at a time (collective). An item without neighbours
    keeps its own row, a user without any has zeros.

    Args:
        features: [own items, F + 1] float32 of [x, 1], or zeros where x is missing, by node.
        scratch: local folder, to which the rows go some columns at a time.

    Returns:
        the local rows [first, last), a few at a time: float32 [n, F + 1].
    """
    width, nodes = features.shape[1], users.exchange.rows
    blocks = [(first, min(first + COLUMNS, width)) for first in range(0, width, COLUMNS)]
    # Some columns at a time: a table of all columns of all nodes would be as large as the result itself.
    for first, last in blocks:
        table = np.zeros((nodes, last - first), np.float32)
        table[items.rows] = features[:, first:last]
        # Users first: items then sum rows that users have just received.
        users.fill(table)
        items.fill(table)
        table.tofile(scratch / str(first))
    return lambda first, last: _joined(scratch, blocks, first, last)


def _joined(scratch: Path, blocks: Sequence[tuple[int, int]], first: int, last: int) -> Iterator[np.ndarray]:
    files = [(scratch / str(start)).open("rb") for start, _ in blocks]
    try:
        for row in range(first, last, _ROWS):
            count = min(_ROWS, last - row)
            pieces = []
            for file, (start, stop) in zip(files, blocks, strict=True):
                file.seek(4 * row * (stop - start))
                piece = np.fromfile(file, np.float32, count * (stop - start))
                pieces.append(piece.reshape(count, stop - start))
            yield np.concatenate(pieces, 1)
    finally:
        for file in files:
            file.close()


def _ranges(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows with at most ``CHUNK_EDGES`` edges each, or a single row with more."""
    first, rows = 0, len(indptr) - 1
    while first < rows:
        last = int(np.searchsorted(indptr, indptr[first] + CHUNK_EDGES, side="right")) - 1
        # A single row with more edges than a chunk may hold still has to be taken whole.
        last = max(first + 1, min(last, rows))
        yield first, last
        first = last
