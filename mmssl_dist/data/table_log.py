"""What the logs of Delta Lake and Iceberg tables have in common: the files they name, and what is wrong with
them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mmssl_dist.errors import InputError, without_secrets
from mmssl_dist.storage import Location


@dataclass(frozen=True)
class TableColumn:
    """A column of a table whose files may have it under another name.

    Attributes:
        name: its name in the table.
        field_id: of its field in the files.
        file_names: its names in files without field ids.
    """

    name: str
    field_id: int
    file_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file of a table's current version.

    Attributes:
        location: where it is. size: its bytes. modified: nanoseconds since 1970, or None.
        below: its path below the table's folder.
        columns: the table's, where names are no guide to those of the file.
        keys: the columns that have one value in the whole file, unless the file has them itself, by name;
            None: the names of folders say it.
    """

    location: Location
    size: int
    modified: int | None
    below: str
    columns: tuple[TableColumn, ...] | None = None
    keys: dict[str, str | None] | None = None


def readable(
    folder: Location, table: str, errors: tuple[type[Exception], ...], read: Callable[[], Any]
) -> Any:
    """``read()``; raises an InputError where it finds the log of the ``table`` in ``folder`` damaged."""
    try:
        return read()
    except (OSError, ValueError, EOFError, pa.ArrowException, *errors) as error:
        raise unreadable_log(folder, table, error) from error


def unreadable_log(folder: Location, table: str, error: Exception) -> InputError:
    """What to raise for a log that ``error`` was met in."""
    text = without_secrets(str(error).split("\n")[0]) or type(error).__name__
    return InputError(
        folder.url, text, f"the log of a table of {table} must be readable", "Write the table again."
    )


def no_package(folder: Location, table: str, package: str, extra: str) -> InputError:
    """What to raise where ``package`` is missing."""
    return InputError(
        folder.url,
        f"a table of {table}",
        f"its log lists the valid files, and reading it needs the package {package}",
        f"Install it: pip install 'mmssl-dist[{extra}]'.",
    )


def deleted_rows(folder: Location, marks: str, remedy: str) -> InputError:
    """What to raise for a table that keeps deleted rows in its files."""
    return InputError(folder.url, marks, "deleted rows must be removed from the table's files", remedy)


def file_elsewhere(folder: Location, name: str) -> InputError:
    """What to raise for a table with a file outside of its folder."""
    return InputError(
        folder.url,
        f"a file elsewhere ({name})",
        "the files of a table must be in its folder",
        "Copy the table in full.",
    )
