"""Reads a worker's share of a published dataset; whoever reads a file checks it against the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmssl_dist.data.columns import ITEM, USER, VECTOR
from mmssl_dist.data.ids import with_large_offsets
from mmssl_dist.errors import ArtifactError
from mmssl_dist.storage import Location, Manifest

_BATCH_BYTES = 1 << 25  # of vectors read together


@dataclass(frozen=True, kw_only=True)
class DatasetReader:
    """A dataset artifact, or worker ``rank``'s share of its files; remote files are downloaded below
    ``cache``."""

    location: Location
    manifest: Manifest
    cache: Path
    rank: int = 0
    workers: int = 1

    def interactions(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(user [n], item [n]) int64 of a split, in file order."""
        if self.manifest.facts["interactions"][split] == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        table = self._table(f"interactions/{split}", {USER: pa.int64(), ITEM: pa.int64()})
        for name, side in ((USER, "users"), (ITEM, "items")):
            self._require_indices(table[name], name, side, f"interactions/{split}")
        return table[USER].to_numpy(), table[ITEM].to_numpy()

    def ids(self, side: str, external: str, index: str) -> pa.Table:
        """Columns ``external`` and ``index`` of the "users" or "items", in file order."""
        table = self._table(side, {external: None, index: pa.int64()})
        if not self._within(table[index], side):
            raise self.wrong_indices(side)
        return table

    def ids_in_order(self, side: str, external: str, index: str) -> pa.Table:
        """As ``ids`` of all files, by ascending index, which are 0, 1, 2, ...; texts and bytes with 64-bit
        offsets."""
        table = self.ids(side, external, index)
        # Before sorting, which takes all rows at once: beyond 2 GiB 32-bit offsets would overflow.
        wide = table[external].cast(with_large_offsets(table.schema.field(external).type))
        table = table.set_column(0, external, wide).sort_by(index)
        count = self.manifest.facts[side]
        if len(table) != count or not np.array_equal(table[index].to_numpy(), np.arange(len(table))):
            raise self.wrong_indices(side)
        return table

    def wrong_indices(self, side: str) -> ArtifactError:
        """The error to raise when the "users" or "items" do not have each index once."""
        return ArtifactError(
            f"{self.location.url}/{side}: the indices are not 0 to {self.manifest.facts[side] - 1}. "
            "Run prepare again."
        )

    def dimension(self, modality: str) -> int:
        """Width F of the features of ``modality``, as its files and the manifest have it."""
        stated = int(self.manifest.facts["modalities"][modality]["dimension"])
        path = next(chain(self._own_files(f"features/{modality}"), self._files(f"features/{modality}")))
        width = pq.read_schema(path).field(VECTOR).type.list_size
        if stated != width:
            raise ArtifactError(
                f"{self.location.url}/features/{modality}: vectors of {width} values, where the "
                f"manifest says {stated}. Run prepare again."
            )
        return stated

    def features(self, modality: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(item [n] int64, vectors [n, F]) of the items that have the modality, in batches."""
        width = int(self.manifest.facts["modalities"][modality]["dimension"])
        rows = max(1, _BATCH_BYTES // (4 * max(1, width)))
        for path in self._own_files(f"features/{modality}"):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=[ITEM, VECTOR]):
                    items, vectors = batch.column(ITEM), batch.column(VECTOR)
                    self._require_indices(items, ITEM, "items", f"features/{modality}")
                    flat = vectors.flatten().to_numpy(zero_copy_only=False)
                    yield items.to_numpy(), flat.reshape(len(items), width)

    def _require_indices(self, column: pa.ChunkedArray | pa.Array, name: str, side: str, folder: str) -> None:
        if not self._within(column, side):
            raise ArtifactError(
                f"{self.location.url}/{folder}: a {name} is out of range; the dataset has "
                f"{self.manifest.facts[side]} {side}. Run prepare again."
            )

    def _within(self, column: pa.ChunkedArray | pa.Array, side: str) -> bool:
        """Whether all are indices of the "users" or "items"."""
        # Both ends in one pass, and before any index is used: numpy would take -1 for the last row.
        bounds = pc.min_max(column)
        return not len(column) or bool(
            0 <= bounds["min"].as_py() <= bounds["max"].as_py() < self.manifest.facts[side]
        )

    def _table(self, folder: str, columns: dict[str, pa.DataType | None]) -> pa.Table:
        # partitioning=None: a folder such as "run=3" above the file is no column
        tables = [pq.read_table(f, columns=list(columns), partitioning=None) for f in self._own_files(folder)]
        # A worker has no file where there are fewer files than workers; its empty columns still need types.
        if tables:
            return pa.concat_tables(tables)
        schema = pq.read_schema(next(self._files(folder)))
        return pa.schema([schema.field(name) for name in columns]).empty_table()

    def _own_files(self, folder: str) -> Iterator[Path]:
        return self._localized(self._names(folder), self.rank, self.workers)

    def _files(self, folder: str) -> Iterator[Path]:
        return self._localized(self._names(folder), 0, 1)

    def _names(self, folder: str) -> list[str]:
        # Sorted, so that all workers share out the same list.
        names = sorted(name for name in self.manifest.files if name.startswith(f"{folder}/"))
        if not names:
            raise ArtifactError(
                f"{self.location.url}/{folder}: the manifest names no file there. Run prepare again."
            )
        return names

    def _localized(self, names: list[str], rank: int, workers: int) -> Iterator[Path]:
        for name in names[rank * len(names) // workers : (rank + 1) * len(names) // workers]:
            source = self.location / name
            if not source.exists():
                raise ArtifactError(
                    f"{source.url}: the manifest names this file, but it is gone. Run prepare again."
                )
            yield source.localize(self.cache, self.manifest.files[name])
