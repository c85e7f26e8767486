"""Where the lists of ``recommend --users`` go: a folder of their own, or a table by day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.cluster.shared_paths import require_shared_folder
from mmssl_dist.errors import InputError
from mmssl_dist.serving.dated.dated_table import DatedTable, RowsFile
from mmssl_dist.serving.dated.ranked_rows import ranked_rows
from mmssl_dist.storage import Location, Manifest, begin, publish, read_manifest
from mmssl_dist.storage.export_names import RECOMMENDATIONS


class BulkOutput(Protocol):
    """What becomes of the lists; tasks write files of them, and nothing looks finished until the end."""

    @property
    def name(self) -> str:
        """As it was given."""

    def check(self, lists: pa.Schema) -> None:
        """Raise InputError where such ``lists`` cannot be written; writes nothing. The type null of users
        stands for one that is not known yet."""

    def require_shared(self) -> None:
        """Raise InputError where a machine of the connected Ray does not see the folder."""

    def begun(self) -> Any:
        """A context in which files are written."""

    def write(self, lists: pa.Table, digest: str, source: str) -> tuple[str, RowsFile]:
        """Write one file, named by ``digest``; returns its name."""

    def finish(self, files: Mapping[str, RowsFile], facts: Mapping[str, Any], source: str) -> None:
        """Make ``files`` the result. ``source``: fingerprint of what they were made from."""


@dataclass(frozen=True)
class FolderOutput:
    """recommendations/ below a folder, as Parquet with a row for each user; complete when manifest.json is
    there. A result of an earlier call is replaced."""

    location: Location
    name: str

    def check(self, lists: pa.Schema) -> None:
        """As of ``BulkOutput``."""
        # What was not written by this command is never deleted, whatever folder a typing error names.
        if not self.location.exists():
            return
        if self.location.is_folder() and (not self.location.files() or self._holds_lists()):
            return
        raise InputError(
            "--to",
            self.name,
            "the folder must be new, empty, or hold recommendations of an earlier call",
            "Name another one.",
        )

    def require_shared(self) -> None:
        """As of ``BulkOutput``."""
        require_shared_folder("--to", self.name, self.location)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """As of ``BulkOutput``; an earlier result goes."""
        begin(self.location)
        yield

    def write(self, lists: pa.Table, digest: str, source: str) -> tuple[str, RowsFile]:
        """As of ``BulkOutput``."""
        sink = pa.BufferOutputStream()
        pq.write_table(lists, sink)
        name = f"{RECOMMENDATIONS}/part-{digest}.parquet"
        return name, RowsFile((self.location / name).write_bytes(sink.getvalue()), len(lists))

    def finish(self, files: Mapping[str, RowsFile], facts: Mapping[str, Any], source: str) -> None:
        """As of ``BulkOutput``."""
        records = {name: file.record for name, file in files.items()}
        publish(self.location, Manifest(RECOMMENDATIONS, source, facts, records))

    def _holds_lists(self) -> bool:
        return read_manifest(self.location, RECOMMENDATIONS) is not None


@dataclass(frozen=True)
class TableOutput:
    """The rows of a day in a table, one for each user and rank; the day's earlier rows are replaced."""

    table: DatedTable
    given: str

    @property
    def name(self) -> str:
        """The day's folder, or where it would be, below the table as it was given."""
        return f"{self.given.rstrip('/')}/{self.table.folder}"

    def check(self, lists: pa.Schema) -> None:
        """As of ``BulkOutput``."""
        self.table.check(ranked_rows(lists.empty_table(), self.table.convert).schema)

    def require_shared(self) -> None:
        """As of ``BulkOutput``."""
        require_shared_folder(self.table.option, self.given, self.table.location)

    def begun(self) -> Any:
        """As of ``BulkOutput``."""
        return self.table.begun()

    def write(self, lists: pa.Table, digest: str, source: str) -> tuple[str, RowsFile]:
        """As of ``BulkOutput``."""
        name = self.table.file_name(source, digest)
        return name, self.table.write(name, ranked_rows(lists, self.table.convert))

    def finish(self, files: Mapping[str, RowsFile], facts: Mapping[str, Any], source: str) -> None:
        """As of ``BulkOutput``."""
        written = self.table.target / min(files)
        with self.begun():
            self.table.require_written(files)
            columns = pq.read_schema(written.path, filesystem=written.filesystem)
        self.table.commit(files, columns, source)
