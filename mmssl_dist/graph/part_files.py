"""Files of the parts of one worker, and the record of what is published: each step of ``partition`` leaves a
manifest per part when all files of that part are there, so that a later start need not write them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config.data_sections import RowType
from mmssl_dist.graph import names
from mmssl_dist.storage import FileRecord, Location, Manifest, publish, read_manifest

if TYPE_CHECKING:
    from mmssl_dist.exchange.exchange import Exchange

PROGRESS = "progress"


@dataclass(frozen=True)
class PartFiles:
    """Writes files of one part, and of the whole artifact, and keeps their records.

    Attributes:
        location: of the partitions. part: number of the part.
    """

    location: Location
    part: int
    files: dict[str, FileRecord] = field(default_factory=dict)

    def array(self, name: str, array: np.ndarray) -> None:
        """Write an array of the part."""
        path = f"{names.part_folder(self.part)}/{name}"
        self.files[path] = (self.location / path).write_array(array)

    def rows(
        self, name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray], row_type: RowType
    ) -> None:
        """An array that comes in pieces of float32, stored as ``row_type``."""
        path = f"{names.part_folder(self.part)}/{name}"
        dtype: np.dtype = np.dtype(np.float32)
        if row_type == "bfloat16":
            dtype, pieces = np.dtype(np.uint16), map(bfloat16_bits, pieces)
        self.files[path] = (self.location / path).write_rows(shape, dtype, pieces)

    def table(self, name: str, table: pa.Table) -> None:
        """Write a table of the part."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        path = f"{names.part_folder(self.part)}/{name}"
        self.files[path] = (self.location / path).write_bytes(sink.getvalue())

    def whole(self, name: str, array: np.ndarray) -> None:
        """Write a file of the whole artifact."""
        self.files[name] = (self.location / name).write_array(array)


def bfloat16_bits(rows: np.ndarray) -> np.ndarray:
    """float32 rows rounded to bfloat16, which NumPy lacks, as uint16: the upper halves of their bits."""
    import torch

    return torch.from_numpy(rows).to(torch.bfloat16).view(torch.uint16).numpy()


@dataclass(frozen=True)
class Progress:
    """What is published of the partitions with ``fingerprint``, by step and part."""

    location: Location
    fingerprint: str

    def step(self, name: str, part: int) -> Manifest | None:
        """The manifest of a step's part; None where it is not published."""
        manifest = read_manifest(self._folder(name, part), names.KIND)
        # Steps of other settings may be left from an earlier job in the same output.
        return manifest if manifest is not None and manifest.fingerprint == self.fingerprint else None

    def done(self, exchange: Exchange, name: str, parts: range) -> bool:
        """Whether all workers have published the step ``name`` of their ``parts`` (collective)."""
        return exchange.max(sum(self.step(name, part) is None for part in parts)) == 0

    def mark(self, name: str, files: PartFiles, facts: Mapping[str, Any]) -> None:
        """Note that all files of a step's part are there."""
        publish(self._folder(name, files.part), Manifest(names.KIND, self.fingerprint, facts, files.files))

    def remove(self) -> None:
        """Forget everything; the files stay."""
        (self.location / PROGRESS).remove()

    def _folder(self, name: str, part: int) -> Location:
        return self.location / PROGRESS / name / names.part_folder(part)
