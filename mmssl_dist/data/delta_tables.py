"""Delta Lake tables, by their own package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mmssl_dist.data.table_log import (
    TableFile,
    deleted_rows,
    file_elsewhere,
    no_package,
    readable,
    unreadable_log,
)
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location

_DELTA_LOG = "_delta_log"


def is_delta(folder: Location) -> bool:
    """Whether there is the log of a Delta Lake table."""
    return (folder / _DELTA_LOG).is_folder()


def delta_files(folder: Location) -> list[TableFile]:
    """The files of the current version of the table in ``folder``; raises as ``lake_tables.table_files``."""
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise no_package(folder, "Delta Lake", "deltalake", "delta") from error

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
            actions, deleted, settings = readable(folder, "Delta Lake", (DeltaError,), lambda: read(path))
        except KeyError as error:
            raise unreadable_log(folder, "Delta Lake", error) from error
    if deleted:
        raise deleted_rows(folder, "deletion vectors", "Rewrite its files (REORG TABLE ... APPLY (PURGE)).")
    if settings.get("delta.columnMapping.mode", "none") != "none":
        raise InputError(
            folder.url,
            f"columns mapped by {settings['delta.columnMapping.mode']}",
            "the files of a Delta Lake table must have the names of its columns",
            "Write the table without column mapping.",
        )
    names = [unquote(action["path"]) for action in actions]
    _require_below(folder, names)
    return [
        TableFile(
            location=folder / name,
            size=action["size_bytes"],
            modified=action["modification_time"] * 10**6,
            below=name,
        )
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
        raise file_elsewhere(folder, outside)
