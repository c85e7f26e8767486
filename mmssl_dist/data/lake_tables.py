"""Delta Lake and Iceberg tables: the Parquet files of their current version, which the usual reader reads.

A folder of such a table also holds files that were replaced or deleted from; only its log says which count.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, open_location

_DELTA_LOG = "_delta_log"
_METADATA = re.compile(r"v?(\d+)(?:-[^/]*)?\.metadata\.json")


@dataclass(frozen=True)
class TableFile:
    """A file of a table's current version.

    Attributes:
        location: where it is. size: its bytes. modified: nanoseconds since 1970, or None.
        below: its path below the table's folder.
    """

    location: Location
    size: int
    modified: int | None
    below: str


def table_files(folder: Location) -> list[TableFile] | None:
    """The files of the current version of the Delta Lake or Iceberg table in ``folder``, sorted by path; None
    where it is another folder.

    Raises:
        InputError: the package that reads the log is missing, or the log cannot be read, or it says of rows
            that they are deleted without their files having been rewritten.
    """
    if (folder / _DELTA_LOG).is_folder():
        files = _delta_files(folder)
    elif (metadata := _iceberg_metadata(folder)) is not None:
        files = _iceberg_files(folder, metadata)
    else:
        return None
    return sorted(files, key=lambda file: file.below)


def _delta_files(folder: Location) -> list[TableFile]:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise _no_package(folder, "Delta Lake", "deltalake", "delta") from error

    def read(path: str) -> tuple[list[dict[str, Any]], int, dict[str, str]]:
        table = DeltaTable(path)
        actions = pa.table(table.get_add_actions(flatten=True))
        columns = actions.select(["path", "size_bytes", "modification_time"])
        deleted = pa.table(table.deletion_vectors()).num_rows
        return columns.to_pylist(), deleted, dict(table.metadata().configuration)

    # The log alone, through our own filesystem: the package would need every store's credentials again.
    with tempfile.TemporaryDirectory(prefix="mmssl-delta-") as copy:
        path = folder.path if folder.is_local else _copied_log(folder, Path(copy))
        try:
            actions, deleted, settings = _readable(folder, "Delta Lake", (DeltaError,), lambda: read(path))
        except KeyError as error:
            raise _unreadable(folder, "Delta Lake", error) from error
    if deleted:
        raise _deleted_rows(folder, "deletion vectors", "Rewrite its files (REORG TABLE ... APPLY (PURGE)).")
    if settings.get("delta.columnMapping.mode", "none") != "none":
        raise InputError(
            folder.url,
            f"columns mapped by {settings['delta.columnMapping.mode']}",
            "columns of a Delta Lake table have their names in its files too",
            "Write the table without column mapping.",
        )
    names = [unquote(action["path"]) for action in actions]
    _require_below(folder, names)
    return [
        TableFile(folder / name, action["size_bytes"], action["modification_time"] * 10**6, name)
        for name, action in zip(names, actions, strict=True)
    ]


def _copied_log(folder: Location, copy: Path) -> str:
    log = folder / _DELTA_LOG
    for info in log.files():
        target = copy / _DELTA_LOG / log.relative(info)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((log / log.relative(info)).read_bytes())
    return str(copy)


def _require_below(folder: Location, names: list[str]) -> None:
    """Refuse shallow clones, whose log names files of another table."""
    outside = next((name for name in names if "://" in name or name.startswith("/")), None)
    if outside is not None:
        raise _file_elsewhere(folder, outside)


def _file_elsewhere(folder: Location, name: str) -> InputError:
    return InputError(
        folder.url,
        f"a file elsewhere ({name})",
        "the files of a table lie in its folder",
        "Copy the table in full.",
    )


def _lies_below(location: Location, folder: Location) -> bool:
    paths = [location.path, folder.path]
    if folder.is_local:  # links: metadata has whole paths, of the machine that wrote them
        paths = [os.path.realpath(path) for path in paths]
    return location.is_local == folder.is_local and paths[0].startswith(f"{paths[1].rstrip('/')}/")


def _iceberg_metadata(folder: Location) -> Location | None:
    """The newest file of metadata, by the number in its name."""
    metadata = folder / "metadata"
    if not metadata.is_folder():
        return None
    names = [metadata.relative(info) for info in metadata.files()]
    numbered = [(int(match[1]), name) for name in names if (match := _METADATA.fullmatch(name))]
    return metadata / max(numbered)[1] if numbered else None


def _iceberg_files(folder: Location, metadata: Location) -> list[TableFile]:
    try:
        from pyiceberg.exceptions import ValidationError
        from pyiceberg.table import StaticTable
    except ImportError as error:
        raise _no_package(folder, "Iceberg", "pyiceberg", "iceberg") from error
    storage = folder.storage or Storage()
    options = {
        "s3.endpoint": storage.endpoint,
        "s3.region": storage.region,
        "s3.anonymous": "true" if storage.anonymous else None,
        "s3.force-virtual-addressing": None if storage.path_style else "true",
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    properties = {name: value for name, value in options.items() if value is not None}

    def read() -> list[Any]:
        url = f"file://{metadata.path}" if metadata.is_local else metadata.url
        return list(StaticTable.from_metadata(url, properties).scan().plan_files())

    tasks = _readable(folder, "Iceberg", (ValidationError,), read)
    if any(task.delete_files for task in tasks):
        raise _deleted_rows(folder, "delete files", "Rewrite its data files (rewrite_data_files).")
    files = []
    for task in tasks:
        location = open_location(task.file.file_path, storage)
        if not _lies_below(location, folder):
            raise _file_elsewhere(folder, task.file.file_path)
        files.append(TableFile(location, task.file.file_size_in_bytes, None, task.file.file_path))
    return files


def _readable(
    folder: Location, table: str, errors: tuple[type[Exception], ...], read: Callable[[], Any]
) -> Any:
    try:
        return read()
    except (OSError, ValueError, pa.ArrowException, *errors) as error:
        raise _unreadable(folder, table, error) from error


def _unreadable(folder: Location, table: str, error: Exception) -> InputError:
    text = str(error).split("\n")[0] or type(error).__name__
    return InputError(
        folder.url, text, f"the log of a table of {table} must be readable", "Write the table again."
    )


def _no_package(folder: Location, table: str, package: str, extra: str) -> InputError:
    return InputError(
        folder.url,
        f"a table of {table}",
        f"its log says which files count, and reading that needs the package {package}",
        f"Install it: pip install 'mmssl-dist[{extra}]'.",
    )


def _deleted_rows(folder: Location, marks: str, remedy: str) -> InputError:
    return InputError(folder.url, marks, "rows that are deleted are gone from the table's files", remedy)
