"""A table of lists by day: the same for Parquet folders and Delta Lake. Tasks write files that no reader sees
yet; the process that started them makes them the rows of the day, in place of earlier ones."""

from __future__ import annotations

import io
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.errors import InputError, StorageError
from mmssl_dist.serving.dated.ranked_rows import DATE
from mmssl_dist.storage import FileRecord, Location

PART_FILE = r"part-[0-9a-f]{12}-[0-9a-f]{12}-[0-9a-f]+\.parquet"
"""Pattern of the names that ``file_name`` gives."""
PARTIAL = r"(\.[0-9]+\.partial)?"
"""Pattern of what follows the name of a file whose writer was killed."""
PROBE = r"\.probe-[0-9a-f]{32}"
"""Pattern of the names of files that show whether a folder can be written."""
_ID_LETTERS = 12  # of a fingerprint in the names of files: 48 bits
_ROW_GROUP = 1 << 20


@dataclass(frozen=True)
class RowsFile:
    """A file of rows that was written: its record, and its rows."""

    record: FileRecord
    rows: int


@dataclass(frozen=True)
class DatedTable(ABC):
    """The table at ``location``, of which ``day`` is written.

    Attributes:
        option: what names it, for messages.
        writing: of the files of this call, so that none has the name of an earlier one.
    """

    location: Location
    day: str
    option: str
    writing: str = field(default_factory=lambda: uuid.uuid4().hex[:_ID_LETTERS])

    @property
    def folder(self) -> str:
        """Name of the day's folder."""
        return f"{DATE}={self.day}"

    @property
    @abstractmethod
    def rule(self) -> str:
        """What a folder must be to hold such a table."""

    @property
    @abstractmethod
    def target(self) -> Location:
        """The folder that tasks write files into."""

    @abstractmethod
    def convert(self, ids: pa.Array) -> pa.Array:
        """Ids as the table keeps them.

        Raises:
            InputError: it cannot keep ids of their type.
        """

    @abstractmethod
    def check(self, columns: pa.Schema | None) -> None:
        """Look at what is there, and write nothing.

        Args:
            columns: of the rows that will be written, without ``date``, of type null where it is not known
                yet; None stands for ``row_columns``.

        Raises:
            InputError: rows cannot be written there: something else is in the folder, or rows of other
                columns, or a package is missing.
        """

    @abstractmethod
    def holds(self, source: str) -> bool:
        """Whether the day's rows were all made from ``source``, a fingerprint."""

    def commit(self, files: Mapping[str, RowsFile], columns: pa.Schema, source: str) -> None:
        """Make ``files``, by name below ``target``, all rows of the day. What fails before a reader could
        see them takes them with it; after that they stay, as the table may name them.

        Raises:
            InputError: as ``check``.
            StorageError: a file is not there whole, or the storage refuses, or somebody else has changed the
                day meanwhile.
        """
        with self.begun():
            self.require_written(files)
            self.check(columns)
        self._publish(files, columns, source)

    @abstractmethod
    def _publish(self, files: Mapping[str, RowsFile], columns: pa.Schema, source: str) -> None:
        """``commit`` once all is checked."""

    @abstractmethod
    def discard(self) -> None:
        """Delete what this call has written so far."""

    def refusal(self, value: str, remedy: str) -> InputError:
        """Of a folder that has ``value``, where the table cannot be."""
        return InputError(self.option, f"{self.location.url}, which has {value}", self.rule, remedy)

    def require_apart(self, run: Location) -> None:
        """Raise InputError where the table is in the folder of a ``run``, or the run in that of the table,
        whatever the two are called and linked to."""
        if run.holds(self.location) or self.location.holds(run):
            raise InputError(
                self.option,
                self.location.url,
                "the table outlives the run, whose stages empty folders of its output",
                "Keep it elsewhere.",
            )

    @contextmanager
    def begun(self) -> Iterator[None]:
        """What was written goes if the body, which commits nothing, fails; a process that is killed leaves
        files that no reader sees."""
        try:
            yield
        # Ctrl-C too must leave no files behind.
        except BaseException:
            self.discard()
            raise

    def write(self, name: str, rows: pa.Table) -> RowsFile:
        """Write ``rows`` as the file ``name`` below ``target``."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, row_group_size=_ROW_GROUP)
        return RowsFile((self.target / name).write_bytes(sink.getbuffer()), len(rows))

    def require_written(self, files: Mapping[str, RowsFile]) -> None:
        """Raise StorageError unless all ``files`` are there in their sizes."""
        sizes = {self.target.relative(info): info.size for info in self.target.files()}
        for name, file in files.items():
            if sizes.get(name) != file.record.bytes:
                size = f"{sizes[name]} bytes" if name in sizes else "nothing"
                rule = f"a task has written {file.record.bytes} bytes there, and a day has all rows or none"
                remedy = f"All machines must see the same folder ({self.option}). Re-run the command then."
                raise StorageError(f"{self.target.url}/{name}", size, rule, remedy)

    def file_name(self, source: str, suffix: str) -> str:
        """Name of a file: it says what its rows are made from, so that a log of names alone shows whether a
        day is current."""
        return f"part-{source[:_ID_LETTERS]}-{self.writing}-{suffix}.parquet"


def made_from(name: str, source: str) -> bool:
    """Whether ``file_name`` gave the file its name for ``source``."""
    return name.rpartition("/")[2].startswith(f"part-{source[:_ID_LETTERS]}-")


def today() -> str:
    """The day in UTC."""
    return datetime.now(UTC).date().isoformat()


def checked_day(value: str, option: str) -> str:
    """A day as ``2026-11-30``; raises InputError for anything else."""
    try:
        # ``fromisoformat`` also takes 20261130 and 2026-W49-1, and a day must have one name.
        if date.fromisoformat(value).isoformat() == value:
            return value
    except ValueError:
        pass
    raise InputError(
        option, value, "a day is written as year, month and day", "Write, for example, 2026-11-30."
    )


def differing(present: pa.Schema, wanted: pa.Schema) -> str | None:
    """In words, the first column in which the two differ; None where there is none. The width of offsets does
    not count, and the type null in ``wanted`` stands for every type."""
    for column in wanted:
        index = present.get_field_index(column.name)
        if index < 0:
            return f"no column {column.name}"
        if not pa.types.is_null(column.type) and _narrow(present.field(index).type) != _narrow(column.type):
            return f"{column.name} of type {present.field(index).type}, instead of {column.type}"
    return next((f"a column {name}" for name in present.names if name not in wanted.names), None)


def _narrow(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_) else type_
