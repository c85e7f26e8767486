"""A Delta Lake table, split by date.

Files are written to its folder, where no reader sees them. One commit then adds them and removes the day's
earlier ones, so that readers see the day as it was or as it is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.delta_tables import is_delta
from mmssl_dist.data.ids import is_uuid, uuid_texts
from mmssl_dist.errors import InputError, StorageFault, message_text
from mmssl_dist.serving.dated.dated_table import (
    PART_FILE,
    PARTIAL,
    PROBE,
    DatedTable,
    RowsFile,
    differing,
    made_from,
)
from mmssl_dist.serving.dated.ranked_rows import DATE, row_columns
from mmssl_dist.storage import Location
from mmssl_dist.storage.remote_errors import shown_text

if TYPE_CHECKING:
    from deltalake import DeltaTable

T = TypeVar("T")
_UNCOMMITTED = re.compile(rf"{DATE}=[^/]+/{PART_FILE}{PARTIAL}|(.*/)?{PROBE}")
_ADVICE = "Check the table, the credentials and the `storage` section, and re-run the command."
_SECONDS = 15  # that the store may take for one answer


@dataclass(frozen=True)
class DeltaDays(DatedTable):
    """The rows of one day."""

    @property
    def rule(self) -> str:
        """As of ``DatedTable``."""
        return f"a table of lists is a new folder, or a Delta Lake table of the same columns, split by {DATE}"

    @property
    def target(self) -> Location:
        """As of ``DatedTable``."""
        return self.location / self.folder

    def convert(self, ids: pa.Array) -> pa.Array:
        """UUIDs as texts, times in microseconds of UTC: Delta Lake has no other."""
        if is_uuid(ids.type):
            return uuid_texts(ids)
        try:
            if pa.types.is_timestamp(ids.type):
                return ids.cast(pa.timestamp("us", None if ids.type.tz is None else "UTC"))
            if pa.types.is_fixed_size_binary(ids.type):
                return ids.cast(pa.binary())
        except pa.ArrowException:
            raise self._unfit(ids.type) from None
        if pa.types.is_time(ids.type) or pa.types.is_duration(ids.type):
            raise self._unfit(ids.type)
        return ids

    def check(self, columns: pa.Schema | None) -> None:
        """As of ``DatedTable``."""
        try:
            import deltalake  # noqa: F401
        except ImportError as error:
            raise InputError(
                self.option,
                self.location.url,
                "writing a Delta Lake table needs the package deltalake",
                "Install it: pip install 'mmssl-dist[delta]'.",
            ) from error
        if self.location.is_read_only:
            raise self.refusal(
                f"the scheme {self.location.scheme}://", "Use s3://, gs://, abfs:// or a folder."
            )
        if self.location.info().type == pafs.FileType.File:
            raise self.refusal("a file", "Name a folder.")
        table = self._opened()
        if table is not None:
            self._check_table(table, columns)
            return
        for info in self.location.files():
            name = self.location.relative(info)
            if not _UNCOMMITTED.fullmatch(name):  # what a commit never came to
                raise self.refusal(f"something else ({name})", "Name another one.")

    def holds(self, source: str) -> bool:
        """As of ``DatedTable``."""
        table = self._opened()
        if table is None:
            return False
        files = pa.table(self._asked(lambda: table.get_add_actions(flatten=True)))
        of_day = pc.equal(files[f"partition.{DATE}"].cast(pa.string()), self.day)
        names = files.filter(of_day)["path"].to_pylist()
        return bool(names) and all(made_from(name, source) for name in names)

    def _publish(self, files: Mapping[str, RowsFile], columns: pa.Schema, source: str) -> None:
        """As of ``DatedTable``."""
        from deltalake.exceptions import CommitFailedError, DeltaError
        from deltalake.schema import Schema
        from deltalake.transaction import AddAction, create_table_with_add_actions

        # Delta Lake counts milliseconds, and readers take the numbers of rows from here.
        now = time.time_ns() // 10**6
        adds = [
            AddAction(
                path=f"{self.folder}/{name}",
                size=file.record.bytes,
                partition_values={DATE: self.day},
                modification_time=now,
                data_change=True,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for name, file in files.items()
        ]
        # The day is no column of the files: it is in the names of their folders, and in the log.
        schema = Schema.from_arrow(columns.append(pa.field(DATE, pa.date32())))
        table = self._opened()
        try:
            if table is None:
                self._asked(
                    lambda: create_table_with_add_actions(
                        table_uri=self._uri,
                        schema=schema,
                        add_actions=adds,
                        mode="error",
                        partition_by=[DATE],
                        storage_options=self._options(),
                    )
                )
            else:
                self._asked(
                    lambda: table.create_write_transaction(
                        actions=adds,
                        mode="overwrite",
                        schema=schema,
                        partition_by=[DATE],
                        partition_filters=[(DATE, "=", self.day)],
                    )
                )
        # Its files stay: the log may have got the entry, and VACUUM deletes what it does not name
        except CommitFailedError as error:
            raise StorageFault(
                self.location.url,
                shown_text(error),
                "nobody else may change the day while it is written",
                "Re-run the command.",
            ) from error
        except DeltaError as error:
            raise StorageFault(
                self.location.url, shown_text(error), "Delta Lake must accept what is written", _ADVICE
            ) from error

    def discard(self) -> None:
        """As of ``DatedTable``."""
        for info in self.target.files():
            name = self.target.relative(info)
            if f"-{self.writing}-" in name:
                (self.target / name).remove()

    @property
    def _uri(self) -> str:
        return self.location.path if self.location.is_local else self.location.url

    def _opened(self) -> DeltaTable | None:
        """The table as it is now; None where there is none."""
        if not is_delta(self.location):
            return None
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return self._asked(lambda: DeltaTable(self._uri, storage_options=self._options()))
        except (DeltaError, ValueError, KeyError) as error:
            raise self.refusal(
                f"a log that cannot be read ({shown_text(error)})", "Name another one."
            ) from error

    def _check_table(self, table: DeltaTable, columns: pa.Schema | None) -> None:
        split = list(table.metadata().partition_columns)
        if split != [DATE]:
            by = f"split by {', '.join(split)}" if split else "that is not split"
            raise self.refusal(f"a table {by}", "Name another one.")
        columns = row_columns() if columns is None else columns
        present = pa.schema(table.schema().to_arrow())
        if other := differing(present, columns.append(pa.field(DATE, pa.date32()))):
            raise self.refusal(f"rows with {other}", "Name another table.")

    def _asked(self, call: Callable[[], T]) -> T:
        """``call()``, with what the store refuses in our words."""
        try:
            return call()
        except OSError as error:
            raise self.location.refusal(error) from error

    def _options(self) -> dict[str, str] | None:
        """What the package has to know of the store; it finds credentials as others do."""
        storage = self.location.storage
        return None if storage is None else store_options(self.location.scheme, storage)

    def _unfit(self, type_: pa.DataType) -> InputError:
        return InputError(
            self.option,
            f"ids of type {message_text(type_)}",
            "Delta Lake has whole numbers, texts, dates, and times up to microseconds",
            "Set the format parquet.",
        )


def store_options(scheme: str, storage: Storage) -> dict[str, str]:
    """The ``storage`` section in the words of the package's own client."""
    options: dict[str, Any] = {
        "timeout": f"{_SECONDS}s",
        "connect_timeout": f"{_SECONDS}s",
        "max_retries": storage.retries,
        "retry_timeout": f"{_SECONDS * (storage.retries + 1)}s",
        "allow_http": "true" if (storage.endpoint or "").startswith("http://") else None,  # refused otherwise
    }
    if scheme == "s3":
        options |= {
            "aws_endpoint_url": storage.endpoint,
            "aws_region": storage.region,
            "aws_virtual_hosted_style_request": None
            if storage.path_style or not storage.endpoint
            else "true",
            "aws_skip_signature": "true" if storage.anonymous else None,
        }
    elif scheme == "gs":
        options |= {
            "google_base_url": storage.endpoint,
            "google_skip_signature": "true" if storage.anonymous else None,
        }
    else:
        options |= {"azure_storage_endpoint": storage.endpoint}
    return {name: str(value) for name, value in options.items() if value is not None}
