"""Exact final rows of every node: layer by layer over whole neighbourhoods, nothing sampled, in bounded
chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmssl_dist.evaluation.trained import DOT_PRODUCT, Trained
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.model import Mmssl
from mmssl_dist.sampling.block import csr_product
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

# edges whose source rows are held at once: at D = 64 at most 32 MiB, twice with other workers
CHUNK_EDGES = 1 << 17
PIECE_ROWS = 1 << 14  # combined at once, with everything that goes into them


@dataclass(frozen=True)
class ExactRows:
    """Rows of this worker's nodes, each [n, D] float32.

    final: what is ranked with, items' with their length to the power of ``Trained.length_exponent``.
    own: the ID rows. layers: the start rows, then those of each propagation step.
    similar: rows over the item-item graph; None when it is off.
    """

    final: Tensor
    own: Tensor
    layers: tuple[Tensor, ...]
    similar: Tensor | None


@torch.no_grad()
def exact_layers(trained: Trained) -> ExactRows:
    """Rows of this worker's nodes, equations 1 to 5 without dropout (collective).

    Returns:
        rows on the device of the ID rows.
    """
    model, id_rows, graph, exchange = trained.model, trained.id_rows, trained.graph, trained.exchange
    similar = _similar(model, id_rows, graph, exchange)
    layers = [_start_rows(model, id_rows, trained.views, exchange)]
    for _ in range(model.settings.layers):
        # Every layer is kept, since equation 5 takes the mean of them and a new user's row needs them apart.
        layers.append(sum_neighbours(graph.training, layers[-1], exchange))
    final = torch.empty_like(id_rows)
    # In pieces: towers of all modalities for all nodes would take several times the memory of the rows.
    for piece in _pieces(len(id_rows)):
        tower = {m: model.project(m, x[piece].to(id_rows.device)) for m, x in graph.propagated.items()}
        similar_rows = None if similar is None else similar[piece]
        final[piece] = model.combine([rows[piece] for rows in layers], tower, similar_rows)
    scale_items_(final, graph.items, trained.length_exponent)
    return ExactRows(final, id_rows, tuple(layers), similar)


def exact_rows(trained: Trained) -> Tensor:
    """The final rows of ``exact_layers`` alone, [n, D] (collective)."""
    return exact_layers(trained).final


def scale_items_(rows: Tensor, items: Tensor, exponent: float) -> None:
    """In place, ``with_length`` for the rows of the items among ``rows`` [n, D]."""
    if exponent != DOT_PRODUCT:
        items = items.to(rows.device)
        rows.index_copy_(0, items, with_length(rows.index_select(0, items), exponent))


def with_length(rows: Tensor, exponent: float) -> Tensor:
    """Rows [m, D] of the same directions whose lengths are |z|^exponent; rows of zeros stay."""
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    factor = torch.where(length > 0, length, 1.0) ** (exponent - 1.0)
    return rows * factor.to(rows.dtype)


def _start_rows(model: Mmssl, id_rows: Tensor, views: Mapping[str, Adjacency], exchange: Exchange) -> Tensor:
    """Equation 4's rows [n, D]; without views the ID rows themselves."""
    if not views:
        return id_rows
    gathered = {m: sum_neighbours(view, id_rows, exchange) for m, view in views.items()}
    rows = torch.empty_like(id_rows)
    for piece in _pieces(len(rows)):
        rows[piece] = model.start_rows(id_rows[piece], {m: vectors[piece] for m, vectors in gathered.items()})
    return rows


def _similar(model: Mmssl, id_rows: Tensor, graph: LocalGraph, exchange: Exchange) -> Tensor | None:
    """Rows over the item-item graph [n, D]: of items, and for users the mean of their items'."""
    if model.settings.item_graph.weight == 0:
        return None
    items = graph.items
    gathered = {
        m: sum_neighbours(_of_items(lists, items), id_rows, exchange) for m, lists in graph.similar.items()
    }
    rows = torch.zeros_like(id_rows)
    for piece in _pieces(len(items)):
        similar_rows = model.similar({m: vectors[piece] for m, vectors in gathered.items()})
        rows.index_copy_(0, items[piece].to(rows.device), similar_rows)
    del gathered
    # An expanded one takes no memory, where a weight of each edge would take as much as the graph.
    one = replace(graph.training, weight=torch.ones(()).expand(len(graph.training.neighbours)))
    # Rows of users are zero so far, hence items' sums as well; ``rows``, added below, are the items' own.
    result = sum_neighbours(one, rows, exchange)
    result /= graph.training.indptr.diff().clamp(min=1)[:, None].to(result.device)
    result += rows
    return result


def _of_items(lists: Adjacency, items: Tensor) -> Adjacency:
    """The lists of the items alone; users have none, so the edges stay where they are."""
    return replace(lists, indptr=torch.cat([lists.indptr[:1], lists.indptr.index_select(0, items + 1)]))


@torch.no_grad()
def sum_neighbours(adjacency: Adjacency, rows: Tensor, exchange: Exchange) -> Tensor:
    """[k, D]: the weighted sum of each list's neighbours' rows (collective).

    Args:
        adjacency: k lists of any nodes.
        rows: [n, D] the local nodes' own rows, which other workers may ask for.
    """
    result = rows.new_empty(len(adjacency.indptr) - 1, rows.shape[1])
    chunks = _chunks(adjacency.indptr)
    # Routes are collective: a worker with fewer chunks takes part with empty ones.
    for number in range(exchange.max(len(chunks))):
        first, last = chunks[number] if number < len(chunks) else (0, 0)
        indptr = adjacency.indptr[first : last + 1]
        begin, end = int(indptr[0]), int(indptr[-1])
        # A chunk's neighbours overlap; each row is fetched once.
        nodes, column = torch.unique(adjacency.neighbours[begin:end], return_inverse=True)
        route = exchange.route(nodes.to(rows.device))
        fetched = exchange.fetch(route, rows.index_select(0, route.requested))
        result[first:last] = csr_product(
            (indptr - begin).to(rows.device),
            column.to(rows.device),
            weight=adjacency.weight[begin:end].contiguous().to(rows.device),
            columns=len(nodes),
            x=fetched,
        )
    return result


def _pieces(count: int) -> Iterator[slice]:
    """Rows 0 to ``count``, ``PIECE_ROWS`` at once."""
    return (slice(first, min(first + PIECE_ROWS, count)) for first in range(0, count, PIECE_ROWS))


def _chunks(indptr: Tensor) -> list[tuple[int, int]]:
    """Ranges of rows with at most ``CHUNK_EDGES`` edges each, or a single row with more."""
    chunks, first, rows = [], 0, len(indptr) - 1
    while first < rows:
        limit = int(indptr[first]) + CHUNK_EDGES
        last = int(torch.searchsorted(indptr, limit, right=True)) - 1
        chunks.append((first, max(first + 1, min(last, rows))))
        first = chunks[-1][1]
    return chunks
