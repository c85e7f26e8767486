"""Rows of all partitions by place, mapped from their files: only what is looked at is read into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmssl_dist.errors import ArtifactError

_LENGTH_BYTES = 8  # what a safetensors file begins with: the length of its header, little-endian


class PartRows:
    """float32 rows [n, D], partition after partition.

    Args:
        counts: rows of each partition.
        open_part: rows [m, D] of a partition, mapped; called when a row of it is first wanted.
    """

    def __init__(self, counts: Sequence[int], open_part: Callable[[int], np.ndarray]) -> None:
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._open_part = open_part
        self._opened: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def part(self, part: int) -> np.ndarray:
        """The rows of a partition, mapped."""
        if part not in self._opened:
            self._opened[part] = self._open_part(part)
        return self._opened[part]

    def blocks(self) -> list[tuple[int, np.ndarray]]:
        """(first place, rows) of every partition."""
        return [(int(first), self.part(part)) for part, first in enumerate(self._starts[:-1])]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """float32 [q, D], a copy of the rows at ``positions``."""
        positions = np.asarray(positions, np.int64)
        # "right" skips partitions without rows, which begin where the next one does.
        part_of = np.searchsorted(self._starts, positions, side="right") - 1
        # The first partition gives the width where nothing is asked for.
        result = np.empty(
            (len(positions), self.part(int(part_of[0]) if len(part_of) else 0).shape[1]), np.float32
        )
        for part in np.unique(part_of):
            here = part_of == part
            result[here] = self.part(int(part))[positions[here] - self._starts[part]]
        return result


def mapped_tensor(path: Path, name: str) -> np.ndarray:
    """A float32 tensor of a safetensors file, mapped and read-only.

    Raises:
        ArtifactError: the file has no such tensor.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        header = json.loads(stream.read(length))
    tensor = header.get(name)
    if tensor is None or tensor["dtype"] != "F32":
        raise ArtifactError(f"{path}: no float32 tensor {name}. Run `mmssl-dist export --force` on the job.")
    shape = tuple(tensor["shape"])
    if 0 in shape:  # an empty range of a file cannot be mapped
        return np.zeros(shape, np.float32)
    offset = _LENGTH_BYTES + length + tensor["data_offsets"][0]
    return np.memmap(path, dtype=np.dtype("<f4"), mode="r", offset=offset, shape=shape)
