"""External ids of nodes whose owner is another worker. Ids keep their Arrow type and value exactly;
dictionary-encoded ones come back as plain values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange, Route


@dataclass(frozen=True)
class LocalIds:
    """External ids of nodes this worker owns: its users, its items, or both.

    Attributes:
        nodes: int64 [m] node ids, ascending.
        ids: [m] their external ids, without nulls, of the same type on all workers.
    """

    nodes: np.ndarray
    ids: pa.Array


@dataclass(frozen=True)
class RankedIds:
    """The external ids in a block of ranked lists, each of them once.

    Attributes:
        ids: [u] external ids, without duplicates.
        index: int64 [n, k] place in ``ids``; -1 where a list has ended.
    """

    ids: pa.Array
    index: np.ndarray


def ranked_ids(nodes: Tensor, exchange: Exchange, local: LocalIds) -> RankedIds:
    """External ids of ranked nodes. Every worker has to call it, if only with an empty block.

    Args:
        nodes: int64 [n, k] node ids, -1 where a list has ended, on the exchange's device.
        exchange: over the workers of the ranking.
        local: ids of this worker's items.
    """
    ranked = nodes >= 0
    unique, inverse = torch.unique(nodes[ranked], return_inverse=True)
    index = torch.full_like(nodes, -1)
    index[ranked] = inverse
    return RankedIds(fetch_external_ids(unique, exchange, local), index.cpu().numpy())


def fetch_external_ids(nodes: Tensor, exchange: Exchange, local: LocalIds) -> pa.Array:
    """External ids of ``nodes``, from their owners. Every worker has to call it, if only with no nodes.

    Args:
        nodes: int64 [u] node ids, sorted and unique, on the exchange's device.
        exchange: between the owners.
        local: ids of this worker's nodes; must hold every node that another worker asks for.

    Returns:
        [u] ids in the order of ``nodes``.

    Raises:
        InputError: ids of a type that cannot be sent, such as lists.
    """
    route = exchange.route(nodes)
    asked = route.requested.cpu().numpy() + exchange.first
    # searchsorted finds a slot for any number, hence the assertion that it is the node's own.
    slots = np.searchsorted(local.nodes, asked)
    assert np.array_equal(local.nodes[slots], asked), "asked for nodes without an id here"
    ids = local.ids.take(pa.array(slots))
    assert ids.null_count == 0
    # Dictionaries differ between workers, so indices into them mean nothing elsewhere.
    if isinstance(ids, pa.DictionaryArray):
        ids = ids.dictionary_decode()
    # Extension types have no casts; their storage travels, and the type is put around it again.
    if isinstance(ids, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(ids.type, _fetch(route, exchange, ids.storage))
    return _fetch(route, exchange, ids)


def _fetch(route: Route, exchange: Exchange, ids: pa.Array) -> pa.Array:
    carrier = _carrier(ids.type)
    # Bytes travel, since torch sends no texts; the type is put back on arrival, as it is the same everywhere.
    encoded = ids.cast(carrier)
    if carrier == pa.large_binary():
        return _fetch_texts(route, exchange, encoded).cast(ids.type)
    return _fetch_values(route, exchange, encoded).cast(ids.type)


def _carrier(type_: pa.DataType) -> pa.DataType:
    """The type that travels: one with a whole number of bytes per value, or large_binary."""
    types = pa.types
    if any(
        test(type_)
        for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    ):
        return pa.large_binary()
    # Arrow packs booleans eight to a byte, which can't be sliced row by row.
    if types.is_boolean(type_):
        return pa.uint8()
    if types.is_primitive(type_) or types.is_decimal(type_) or types.is_fixed_size_binary(type_):
        return type_
    raise InputError(
        "export",
        f"ids of type {type_}",
        "ids are numbers, texts, bytes, dates or times",
        "Give users and items ids of such a type.",
    )


def _fetch_values(route: Route, exchange: Exchange, ids: pa.Array) -> pa.Array:
    width = ids.type.bit_width // 8
    # Arrays taken from a slice share their parent's buffer, so their own values begin at the offset.
    rows = _bytes(ids.buffers()[1], ids.offset * width, len(ids) * width).reshape(len(ids), width)
    received = exchange.fetch(route, rows.to(route.requested.device))
    return pa.Array.from_buffers(ids.type, len(received), [None, _buffer(received)])


def _fetch_texts(route: Route, exchange: Exchange, ids: pa.Array) -> pa.Array:
    _, starts_buffer, data = ids.buffers()
    offsets = np.zeros(1, np.int64)  # Arrow may leave out the buffer of an empty array
    if len(ids):
        offsets = np.frombuffer(starts_buffer, np.int64, len(ids) + 1, 8 * ids.offset)
    letters = _bytes(data, int(offsets[0]), int(offsets[-1] - offsets[0]))
    lengths = torch.from_numpy(np.diff(offsets))
    device = route.requested.device
    received, (texts,) = exchange.fetch_ragged(route, lengths.to(device), [letters.to(device)])
    starts = np.concatenate([np.zeros(1, np.int64), received.cpu().numpy().cumsum()])
    return pa.Array.from_buffers(ids.type, len(received), [None, pa.py_buffer(starts), _buffer(texts)])


def _bytes(buffer: pa.Buffer | None, start: int, length: int) -> Tensor:
    """uint8 [length], a copy, since Arrow's memory is read-only."""
    if buffer is None or not length:
        return torch.zeros(0, dtype=torch.uint8)
    return torch.from_numpy(np.frombuffer(buffer, np.uint8, length, start).copy())


def _buffer(rows: Tensor) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(rows.cpu().numpy()).reshape(-1))
