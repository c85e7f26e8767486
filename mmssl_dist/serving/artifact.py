"""Files of a published artifact: none is handed out whose content differs from the manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.data.ids import concatenated
from mmssl_dist.errors import ArtifactError
from mmssl_dist.serving.part_rows import PartRows, mapped_tensor
from mmssl_dist.storage import Location, Manifest


@dataclass(frozen=True)
class Artifact:
    """A published artifact. ``cache``: local folder for what has to be downloaded."""

    location: Location
    manifest: Manifest
    cache: Path

    def path(self, name: str) -> Path:
        """A local path with the verified content of a file.

        Raises:
            ArtifactError: the manifest names no such file, or the file is not what it says.
        """
        record = self.manifest.files.get(name)
        if record is None:
            raise ArtifactError(
                f"{self.location.url}/{name}: the manifest names no such file; it was made by another "
                f"version. Run `mmssl-dist {self.manifest.kind} --force` on the job."
            )
        return (self.location / name).localize(self.cache, record)

    def count(self, file_of: Callable[[int], str]) -> int:
        """Number of partitions that have the file named by ``file_of``."""
        return sum(file_of(part) in self.manifest.files for part in range(len(self.manifest.files)))

    def column(self, file_of: Callable[[int], str], name: str) -> pa.Array:
        """One column of a table, over all partitions; texts and bytes with 64-bit offsets, so of any size."""
        # Part after part: the order of places in which everything of an export is numbered.
        parts = range(self.count(file_of))
        return concatenated(
            [chunk for part in parts for chunk in self.part_column(file_of(part), name).chunks]
        )

    def part_column(self, file: str, name: str) -> pa.ChunkedArray:
        """One column of one partition's table."""
        # Arrow would otherwise read key=value in the run's own path as a column.
        return pq.read_table(self.path(file), columns=[name], partitioning=None)[name]

    def mapped(self, file_of: Callable[[int], str], name: str, counts: Sequence[int]) -> PartRows:
        """One tensor of the safetensors files, over all partitions; a file is opened when a row of it is
        first wanted.

        Args:
            counts: rows of each partition.
        """
        return PartRows(counts, lambda part: mapped_tensor(self.path(file_of(part)), name))

    def rows(self, file_of: Callable[[int], str], name: str) -> np.ndarray:
        """float32 [n, D], one tensor of the safetensors files, over all partitions."""
        parts = range(self.count(file_of))
        return np.concatenate([mapped_tensor(self.path(file_of(part)), name) for part in parts])
