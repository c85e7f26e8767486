"""Reads a published dataset for partitioning; every file is checked against the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmssl_dist.data.columns import ITEM, USER, VECTOR
from mmssl_dist.errors import ArtifactError
from mmssl_dist.storage import Location, Manifest


@dataclass(frozen=True)
class DatasetReader:
    """A dataset artifact; remote files are downloaded below ``cache``."""

    location: Location
    manifest: Manifest
    cache: Path

    def interactions(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(user [n], item [n]) int64 of a split, in file order."""
        if self.manifest.facts["interactions"][split] == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        table = self._table(f"interactions/{split}", [USER, ITEM])
        for name, side in ((USER, "users"), (ITEM, "items")):
            found = pc.min_max(table[name])
            if not 0 <= found["min"].as_py() <= found["max"].as_py() < self.manifest.facts[side]:
                raise ArtifactError(
                    f"{self.location.url}/interactions/{split}: a {name} that is none of the "
                    f"{self.manifest.facts[side]} {side}. Run prepare again."
                )
        return table[USER].to_numpy(), table[ITEM].to_numpy()

    def ids(self, side: str, external: str, index: str) -> pa.Table:
        """Columns ``external`` and ``index`` of the "users" or "items", by ascending index."""
        table = self._table(side, [external, index]).sort_by(index)
        count = self.manifest.facts[side]
        if len(table) != count or not np.array_equal(table[index].to_numpy(), np.arange(len(table))):
            raise ArtifactError(
                f"{self.location.url}/{side}: the indices are not 0 to {count - 1}. Run prepare again."
            )
        return table

    def dimension(self, modality: str) -> int:
        """Width F of the features of ``modality``, as its files and the manifest have it."""
        stated = int(self.manifest.facts["modalities"][modality]["dimension"])
        found = pq.read_schema(next(self._files(f"features/{modality}"))).field(VECTOR).type.list_size
        if stated != found:
            raise ArtifactError(
                f"{self.location.url}/features/{modality}: vectors of {found} values, where the "
                f"manifest says {stated}. Run prepare again."
            )
        return stated

    def features(self, modality: str, rows: np.ndarray) -> None:
        """Write [x, 1] of the items that have the modality to ``rows`` [I, F + 1] float32, by item index."""
        for path in self._files(f"features/{modality}"):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=8192, columns=[ITEM, VECTOR]):
                    items, vectors = batch.column(ITEM).to_numpy(), batch.column(VECTOR)
                    flat = vectors.flatten().to_numpy(zero_copy_only=False)
                    rows[items, :-1] = flat.reshape(len(items), rows.shape[1] - 1)
                    rows[items, -1] = 1.0

    def _table(self, folder: str, columns: list[str]) -> pa.Table:
        # partitioning=None: a folder such as "run=3" above the file is no column
        return pa.concat_tables(
            pq.read_table(f, columns=columns, partitioning=None) for f in self._files(folder)
        )

    def _files(self, folder: str) -> Iterator[Path]:
        names = sorted(name for name in self.manifest.files if name.startswith(f"{folder}/"))
        if not names:
            raise ArtifactError(
                f"{self.location.url}/{folder}: the manifest names no file there. Run prepare again."
            )
        for name in names:
            source = self.location / name
            if not source.exists():
                raise ArtifactError(
                    f"{source.url}: the manifest names this file, but it is gone. Run prepare again."
                )
            yield source.localize(self.cache, self.manifest.files[name])
