"""The partitions a worker holds, side by side: neighbouring partitions make one contiguous range of node
ids."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import PartitionData
from mmssl_dist.sharding.topology import Adjacency

_WIRES = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class LocalGraph:
    """What one worker holds of the graph. Local rows are node ids minus ``first``.

    Attributes:
        book: the partition book.
        parts: the partitions held.
        offsets: [len(parts) + 1] first local row of each partition, then the number of rows.
        training: the interaction graph's lists of the local nodes; weights are 1 / sqrt(degree * neighbour's
            degree).
        held_out: "validation", "test": lists of the local nodes' held-out items; empty for item rows.
        propagated: modality -> [n, F + 1] propagated features and bias column (equation 1), float32 or
            bfloat16 by partition.row_type; with
            model.feature_columns the items' own, and zeros for users.
        similar: modality -> the item-item graph's lists of the local nodes; empty for user rows.
    """

    book: PartitionBook
    parts: range
    offsets: tuple[int, ...]
    training: Adjacency
    held_out: Mapping[str, Adjacency]
    propagated: Mapping[str, Tensor]
    similar: Mapping[str, Adjacency]

    @property
    def first(self) -> int:
        """Lowest node id of this worker."""
        return int(self.book.bounds[self.parts.start])

    @property
    def num_rows(self) -> int:
        """Number of this worker's nodes."""
        return self.offsets[-1]

    def user_rows(self, part: int) -> range:
        """Local rows of the users of ``part``."""
        first, last = self.book.user_range(part)
        return range(first - self.first, last - self.first)

    def item_rows(self, part: int) -> range:
        """Local rows of the items of ``part``."""
        first, last = self.book.item_range(part)
        return range(first - self.first, last - self.first)

    @property
    def users(self) -> Tensor:
        """int64, local rows of all users held, ascending."""
        return _rows(self.user_rows(part) for part in self.parts)

    @property
    def items(self) -> Tensor:
        """int64, local rows of all items held, ascending."""
        return _rows(self.item_rows(part) for part in self.parts)

    def exchange(self, worker: Worker, wire: str = "fp32") -> Exchange:
        """The exchange over this graph's nodes, on the worker's device; ``wire`` as in ``training.wire``."""
        bounds = self.book.worker_bounds(worker.world_size)
        return Exchange(worker.group, bounds, worker.rank, _WIRES[wire])


def join_partitions(book: PartitionBook, partitions: list[PartitionData]) -> LocalGraph:
    """Neighbouring partitions as one local graph; a single one stays memory-mapped."""
    parts = range(partitions[0].part, partitions[0].part + len(partitions))
    assert [p.part for p in partitions] == list(parts)
    offsets = tuple(int(x) for x in book.bounds[parts.start : parts.stop + 1] - book.bounds[parts.start])
    training = Adjacency(
        _join_indptr([p.indptr for p in partitions]),
        _join([p.neighbours for p in partitions]),
        _join([p.weight for p in partitions]),
    )
    held_out = {split: _held_out(partitions, split) for split in partitions[0].held_out}
    # Sorted, so that all workers hold the modalities in one order.
    modalities = sorted(partitions[0].propagated)
    propagated = {m: _floats(_join([p.propagated[m] for p in partitions])) for m in modalities}
    similar = {m: _similar(partitions, m) for m in sorted(partitions[0].similar)}
    return LocalGraph(
        book=book,
        parts=parts,
        offsets=offsets,
        training=training,
        held_out=held_out,
        propagated=propagated,
        similar=similar,
    )


def _held_out(partitions: list[PartitionData], split: str) -> Adjacency:
    indptrs = []
    for p in partitions:
        indptr, _ = p.held_out[split]
        # Items hold nothing out.
        indptrs.append(np.concatenate([indptr, np.full(p.items, indptr[-1], np.int64)]))
    items = _join([p.held_out[split][1] for p in partitions])
    return Adjacency(_join_indptr(indptrs), items, torch.ones(len(items)))


def _similar(partitions: list[PartitionData], modality: str) -> Adjacency:
    indptrs = [np.concatenate([np.zeros(p.users, np.int64), p.similar[modality][0]]) for p in partitions]
    items, weight = (_join([p.similar[modality][i] for p in partitions]) for i in (1, 2))
    return Adjacency(_join_indptr(indptrs), items, weight)


def _rows(ranges: Iterable[range]) -> Tensor:
    return torch.cat([torch.arange(r.start, r.stop) for r in ranges])


def _join(arrays: list[np.ndarray]) -> Tensor:
    # A single partition stays mapped: pages come in as they are read, and need no memory of their own.
    if len(arrays) == 1:
        return _tensor(arrays[0])
    # Copied one after the other into one array: concatenating would hold all of them twice.
    joined = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    first = 0
    for array in arrays:
        joined[first : first + len(array)] = array
        first += len(array)
        _release_pages(array)
    return torch.from_numpy(joined)


def _floats(stored: Tensor) -> Tensor:
    """NumPy has no bfloat16, so partitions hold its bits."""
    return stored.view(torch.bfloat16) if stored.dtype == torch.uint16 else stored


def _join_indptr(indptrs: list[np.ndarray]) -> Tensor:
    if len(indptrs) == 1:
        return _tensor(indptrs[0])
    # Each partition's row starts count from its own first edge.
    ends = np.cumsum([0, *(p[-1] for p in indptrs[:-1])])
    pieces = [p[1:] + end for p, end in zip(indptrs, ends, strict=True)]
    return torch.from_numpy(np.concatenate([np.zeros(1, np.int64), *pieces]).astype(np.int64))


def _release_pages(array: np.ndarray) -> None:
    """Pages of a mapped file count as this process's memory until they are released; all files together
    would double it."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _tensor(array: np.ndarray) -> Tensor:
    if array.flags.writeable:
        return torch.from_numpy(array)
    # torch has no read-only tensors and warns; copy-on-write pages make a stray write harmless for the file
    if isinstance(array, np.memmap) and array.size:
        return torch.from_numpy(
            np.memmap(
                str(array.filename), dtype=array.dtype, mode="c", offset=array.offset, shape=array.shape
            )
        )
    return torch.from_numpy(array.copy())
