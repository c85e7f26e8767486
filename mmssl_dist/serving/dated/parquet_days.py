"""Folders of Parquet by day, as Hive names them: TABLE/date=2026-11-30/part-....parquet.

Files are written to TABLE/_writing/, which readers of such tables pass over, and then become the day. On a
local disk the folder gets its name when all of it is there. An object store knows no such step: files are
copied into the day's folder, its ``_manifest.json`` then names them, and only then earlier files go. Its
``_SUCCESS`` is there while the folder holds these files and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mmssl_dist.data.delta_tables import is_delta
from mmssl_dist.errors import StorageError
from mmssl_dist.serving.dated.dated_table import PART_FILE, PARTIAL, PROBE, DatedTable, RowsFile, differing
from mmssl_dist.serving.dated.ranked_rows import DATE, row_columns
from mmssl_dist.storage import Location, Manifest, publish, read_manifest
from mmssl_dist.storage.moving import copy_files, put_in_place

DAY_MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
_KIND = "lists of a day"
_WRITING = "_writing"
_OUR_FILES = re.compile(rf"({PART_FILE}|{DAY_MANIFEST}|{SUCCESS}){PARTIAL}|{PROBE}")
_DAYS = re.compile(rf"{DATE}=[^/]+/.*\.parquet")
_PASSED_OVER = ("_", ".")  # what names of files that readers do not see begin with


@dataclass(frozen=True)
class ParquetDays(DatedTable):
    """The folder of one day."""

    @property
    def rule(self) -> str:
        """As of ``DatedTable``."""
        return f"a table of lists is a new folder, or one of folders {DATE}=... alone with the same columns"

    @property
    def target(self) -> Location:
        """As of ``DatedTable``."""
        return self.location / _WRITING / f"{self.day}-{self.writing}"

    @property
    def _place(self) -> Location:
        return self.location / self.folder

    def convert(self, ids: pa.Array) -> pa.Array:
        """Unchanged."""
        return ids

    def check(self, columns: pa.Schema | None) -> None:
        """As of ``DatedTable``."""
        if self.location.is_read_only:
            raise StorageError(
                self.option,
                self.location.url,
                f"nothing can be written to {self.location.scheme}://",
                "Use s3://, gs://, abfs:// or a folder.",
            )
        if self.location.info().type == pafs.FileType.File:
            raise self.refusal("a file", "Name a folder.")
        if is_delta(self.location):
            raise self.refusal("a Delta Lake table", "Set the format delta, or name another folder.")
        names = [self.location.relative(info) for info in self.location.files()]
        for name in names:
            if not name.startswith((f"{DATE}=", *_PASSED_OVER)):
                raise self.refusal(f"something else ({name})", "Name another one.")
            below = name.removeprefix(f"{self.folder}/")
            if below != name and not _OUR_FILES.fullmatch(below):
                # What was not written by this command is never deleted
                raise self.refusal(
                    f"rows of this day that something else has written ({name})",
                    "Name another table, or delete them.",
                )
        self._check_columns(names, row_columns() if columns is None else columns)

    def holds(self, source: str) -> bool:
        """As of ``DatedTable``."""
        manifest = read_manifest(self._place, _KIND, DAY_MANIFEST)
        return manifest is not None and manifest.fingerprint == source and (self._place / SUCCESS).exists()

    def _publish(self, files: Mapping[str, RowsFile], columns: pa.Schema, source: str) -> None:
        """As of ``DatedTable``."""
        facts = {DATE: self.day, "rows": sum(file.rows for file in files.values())}
        manifest = Manifest(_KIND, source, facts, {name: file.record for name, file in files.items()})
        with self.begun():  # what it deletes is never the day: that has another folder
            if self.location.is_local:
                self._remove_unnamed(manifest)
                publish(self.target, manifest, DAY_MANIFEST)
                (self.target / SUCCESS).write_bytes(b"")
                put_in_place(self.target, self._place)
            else:
                self._copy(manifest)
        self.target.remove()  # on a local disk what was the day before

    def discard(self) -> None:
        """As of ``DatedTable``."""
        self.target.remove()

    def _remove_unnamed(self, manifest: Manifest) -> None:
        """Delete what tasks that were killed have left."""
        for info in self.target.files():
            if (name := self.target.relative(info)) not in manifest.files:
                (self.target / name).remove()

    def _copy(self, manifest: Manifest) -> None:
        # The sign for readers that a day is whole goes first and comes back last.
        (self._place / SUCCESS).remove()
        copy_files(self.target, self._place, list(manifest.files))
        publish(self._place, manifest, DAY_MANIFEST)  # one request: until then it names the earlier files
        kept = {*manifest.files, DAY_MANIFEST}
        for info in self._place.files():
            if (name := self._place.relative(info)) not in kept:
                (self._place / name).remove()
        (self._place / SUCCESS).write_bytes(b"")

    def _check_columns(self, names: list[str], columns: pa.Schema) -> None:
        """Refuse other columns than those of the newest other day."""
        days = [n for n in names if _DAYS.fullmatch(n) and not n.startswith(f"{self.folder}/")]
        if not days:
            return
        # Days are ISO dates, so the largest name is the newest day.
        newest = self.location / max(days)
        try:
            present = pq.read_schema(newest.path, filesystem=newest.filesystem)
        except (OSError, pa.ArrowException) as error:
            raise newest.refusal(error) from error
        if other := differing(present, columns):
            raise self.refusal(f"rows with {other} ({max(days)})", "Name another table.")
