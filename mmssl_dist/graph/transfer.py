"""Rows of NumPy arrays between the workers of ``partition``: to the owner of an id, from it, to all.

A table is spread by an Exchange: each worker holds the rows of its range of ids. With one worker each of
these functions is plain indexing.
"""

from __future__ import annotations

import numpy as np
import torch

from mmssl_dist.exchange.exchange import Exchange

_AT_ONCE = 1 << 21  # ids looked up together; bounds the temporaries of making them unique


def id_type(count: int) -> np.dtype:
    """The smaller of int32 and int64 that holds the ids 0 to ``count`` - 1."""
    return np.dtype(np.int32 if count <= 2**31 else np.int64)


def send_to_owners(exchange: Exchange, ids: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Send each row to the worker that owns its id (collective).

    Args:
        ids: [n] integers within the exchange's bounds. columns: [n, ...] each.

    Returns:
        ids and columns of the rows that arrive: by sender, and within one in the order they were sent.
    """
    if exchange.world_size == 1:
        return (ids, *columns)
    owner = owners(exchange, ids)
    # Stable, since callers rely on rows of one sender arriving in the order they were sent.
    order = np.argsort(owner, kind="stable")
    outgoing = np.bincount(owner, minlength=exchange.world_size).tolist()
    incoming = exchange.swap_counts(outgoing)
    return tuple(
        exchange.all_to_all(tensor(column[order]), outgoing, incoming).numpy() for column in (ids, *columns)
    )


def owners(exchange: Exchange, ids: np.ndarray) -> np.ndarray:
    """[n] int64 rank of the worker that owns each of ``ids``."""
    bounds = exchange.bounds.numpy()
    assert len(ids) == 0 or 0 <= ids.min() <= ids.max() < bounds[-1]
    return np.asarray(np.searchsorted(bounds[1:], ids, side="right"), np.int64)


def lookup(exchange: Exchange, table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n, ...] the rows of ``ids`` of a spread table (collective).

    Args:
        table: [exchange.rows, ...] this worker's rows. ids: [n] integers in any order, repeated or not.
    """
    if exchange.world_size == 1:
        return np.asarray(table[ids])
    result = np.empty((len(ids), *table.shape[1:]), table.dtype)
    own = tensor(table)
    # As many turns on every worker as the one with most ids needs, since routes are collective.
    for first in range(0, exchange.max(len(ids)), _AT_ONCE):
        piece = ids[first : first + _AT_ONCE]
        # Each once: a route takes sorted and unique ids, and popular ones would travel many times.
        unique, position = np.unique(piece, return_inverse=True)
        route = exchange.route(tensor(unique.astype(np.int64)))
        rows = exchange.fetch(route, own.index_select(0, route.requested)).numpy()
        result[first : first + _AT_ONCE] = rows[position]
    return result


def gather(exchange: Exchange, rows: np.ndarray) -> np.ndarray:
    """The rows of all workers, worker by worker, on each of them (collective)."""
    counts = exchange.gather_counts(len(rows))
    return exchange.gather_rows(tensor(rows), counts).numpy()


def gather_on_first(exchange: Exchange, rows: np.ndarray) -> np.ndarray:
    """The rows of all workers on the first of them, and none on the others (collective)."""
    if exchange.world_size == 1:
        return rows
    outgoing = [len(rows)] + [0] * (exchange.world_size - 1)
    return exchange.all_to_all(tensor(rows), outgoing, exchange.swap_counts(outgoing)).numpy()


def scatter_from_first(exchange: Exchange, rows: np.ndarray) -> np.ndarray:
    """Each worker's own rows of a table that the first one holds whole (collective).

    Args:
        rows: [n, ...] one row per id on the first worker; without rows, of that dtype, on the others.
    """
    if exchange.world_size == 1:
        return rows
    sizes = np.diff(exchange.bounds.numpy()).tolist()
    outgoing = sizes if exchange.rank == 0 else [0] * exchange.world_size
    return exchange.all_to_all(tensor(rows), outgoing, exchange.swap_counts(outgoing)).numpy()


def total(exchange: Exchange, values: np.ndarray) -> np.ndarray:
    """The elementwise sum over the workers; exact, hence the same for any number of them, for integers."""
    return exchange.sum(tensor(np.ascontiguousarray(values))).numpy()


def tensor(array: np.ndarray) -> torch.Tensor:
    """``array`` as a tensor that shares its memory; a read-only one is copied."""
    # torch has no read-only tensors, so what must not be written is copied.
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())
