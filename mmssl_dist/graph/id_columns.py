"""External ids on their way to the owner of their node. Any number of bytes of text fits: what is joined here
has 64-bit offsets, and no table of all ids is ever made."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.transfer import owners, send_to_owners, tensor

_INDEXABLE = 2**31 - 1  # bytes of text in an array with 32-bit offsets


def send_ids(exchange: Exchange, nodes: np.ndarray, ids: pa.ChunkedArray) -> pa.Array:
    """The external ids of the nodes that this worker owns, by ascending node (collective).

    Args:
        nodes: [n] node ids. ids: [n] their external ids, without nulls, of a type that is the same on all
            workers.

    Returns:
        ids of the type they came with; of text and bytes beyond 2 GiB, with 64-bit offsets.
    """
    stored_type = ids.type
    values = _one_array(ids.cast(_carrier(stored_type)))
    if exchange.world_size > 1:
        # In the same order as ``send_to_owners`` sends the nodes below, so that ids and nodes arrive aligned.
        order = np.argsort(owners(exchange, nodes), kind="stable")
        outgoing = np.bincount(owners(exchange, nodes), minlength=exchange.world_size)
        values = _send(exchange, values.take(pa.array(order)), outgoing)
    (arrived,) = send_to_owners(exchange, nodes)
    return as_stored(values.take(pa.array(np.argsort(arrived, kind="stable"))), stored_type)


def as_stored(ids: pa.Array, stored_type: pa.DataType) -> pa.Array:
    """``ids`` as ``stored_type``, or with 64-bit offsets where 32 bits do not reach."""
    if _has_offsets(stored_type) and ids.nbytes > _INDEXABLE:
        return ids.cast(pa.large_string()) if pa.types.is_string(stored_type) else ids
    return ids.cast(stored_type)


def _carrier(stored_type: pa.DataType) -> pa.DataType:
    """The type that travels: one with a whole number of bytes per value, or large_binary."""
    if (
        _has_offsets(stored_type)
        or pa.types.is_large_string(stored_type)
        or pa.types.is_large_binary(stored_type)
    ):
        return pa.large_binary()
    return pa.uint8() if pa.types.is_boolean(stored_type) else stored_type


def _has_offsets(stored_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(stored_type) or pa.types.is_binary(stored_type))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _send(exchange: Exchange, ids: pa.Array, outgoing: np.ndarray) -> pa.Array:
    counts = outgoing.tolist()
    incoming = exchange.swap_counts(counts)
    if not pa.types.is_large_binary(ids.type):
        width = ids.type.bit_width // 8
        rows = _bytes(ids.buffers()[1], ids.offset * width, len(ids) * width).reshape(len(ids), width)
        received = exchange.all_to_all(tensor(rows), counts, incoming).numpy()
        return pa.Array.from_buffers(ids.type, len(received), [None, pa.py_buffer(received.reshape(-1))])
    lengths = pc.binary_length(ids).to_numpy().astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    # A slice shares its parent's buffers: its text begins where its first offset says, not at 0.
    first = np.frombuffer(ids.buffers()[1], np.int64, 1, 8 * ids.offset)[0] if len(ids) else 0
    letters = _bytes(ids.buffers()[2], int(first), int(starts[-1]))
    ends = starts[np.concatenate([[0], np.cumsum(outgoing)])]
    sizes = np.diff(ends).tolist()
    got = exchange.all_to_all(tensor(lengths), counts, incoming).numpy()
    texts = exchange.all_to_all(tensor(letters), sizes, exchange.swap_counts(sizes)).numpy()
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(got)])
    return pa.Array.from_buffers(ids.type, len(got), [None, pa.py_buffer(offsets), pa.py_buffer(texts)])


def _bytes(buffer: pa.Buffer | None, start: int, length: int) -> np.ndarray:
    """uint8 [length]"""
    return np.frombuffer(buffer, np.uint8, length, start) if buffer and length else np.zeros(0, np.uint8)
