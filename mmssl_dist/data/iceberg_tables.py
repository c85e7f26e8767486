"""Iceberg tables, by their own package: which metadata is current, which files it names, and what their
columns are called."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from typing import Any

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.table_log import (
    TableColumn,
    TableFile,
    deleted_rows,
    file_elsewhere,
    no_package,
    readable,
)
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, open_location

_ENDINGS = (".metadata.json", ".metadata.json.gz")
_HINT = "version-hint.text"
_NUMBER = re.compile(r"v?(\d+)[-.].*")
_GZIP = b"\x1f\x8b"
_VERSION_DIGITS = 18  # of those in 64 bits
_SHOWN = 80


def current_metadata(folder: Location) -> Location | None:
    """The file of metadata that says what the table in ``folder`` is now; None where there is no table.

    It is the one that version-hint.text names, where a table has no other catalog, else the one with the
    highest number.

    Raises:
        InputError: the hint names no file, or no file is the newest.
    """
    metadata = folder / "metadata"
    if not metadata.is_folder():
        return None
    below = [metadata.relative(info) for info in metadata.files()]
    names = [name for name in below if name.endswith(_ENDINGS)]
    if not names:
        return None
    if _HINT in below:
        return metadata / _hinted(metadata / _HINT, names)
    numbers = {name: int(match[1]) if (match := _NUMBER.fullmatch(name)) else -1 for name in names}
    newest = [name for name in names if numbers[name] == max(numbers.values())]
    if len(newest) > 1:
        raise InputError(
            metadata.url,
            f"{newest[0]} and {newest[1]}",
            "one metadata file must have the highest number; of two, one may be of a failed commit",
            f"Write the name of the current one to {_HINT} beside them.",
        )
    return metadata / newest[0]


def _hinted(hint: Location, names: list[str]) -> str:
    """The file that a hint names: by its version, its name, or its name without the ending."""
    content = hint.read_bytes().decode(errors="replace").strip()
    if not content.isdecimal():
        candidates = [content, *(f"{content}{ending}" for ending in _ENDINGS)]
        chosen = next((name for name in candidates if name in names), None)
    elif len(content) > _VERSION_DIGITS:
        chosen = None
    else:
        version, chosen = int(content), None
        # A commit writes its file first and the hint afterwards, so there may be a newer one
        while (name := _of_version(version, names)) is not None:
            version, chosen = version + 1, name
    if chosen is None:
        raise InputError(
            hint.url,
            repr(content if len(content) <= _SHOWN else f"{content[:_SHOWN]}..."),
            "it must name a file of the table's metadata beside it",
            "Correct it, or copy the table in full.",
        )
    return chosen


def _of_version(version: int, names: list[str]) -> str | None:
    stems = (f"v{version}.metadata.json", f"v{version}.gz.metadata.json", f"v{version}.metadata.json.gz")
    return next((name for name in stems if name in names), None)


def iceberg_files(folder: Location, metadata: Location) -> list[TableFile]:
    """The files of the table in ``folder`` whose current ``metadata`` is given; raises as
    ``lake_tables.table_files``."""
    try:
        from pyiceberg.exceptions import ValidationError
        from pyiceberg.table import StaticTable  # noqa: F401
    except ImportError as error:
        raise no_package(folder, "Iceberg", "pyiceberg", "iceberg") from error
    storage = folder.storage or Storage()

    def read() -> tuple[Any, tuple[TableColumn, ...], dict[str, str | None], list[Any]]:
        table = _opened(metadata, storage)
        return table, _columns(table), _defaults(table), list(table.scan().plan_files())

    table, columns, defaults, tasks = readable(folder, "Iceberg", (ValidationError, zlib.error), read)
    if any(task.delete_files for task in tasks):
        raise deleted_rows(folder, "delete files", "Rewrite its data files (rewrite_data_files).")
    files = []
    for task in tasks:
        _require_parquet(folder, task.file)
        location = open_location(task.file.file_path, storage)
        if not _lies_below(location, folder):
            raise file_elsewhere(folder, task.file.file_path)
        files.append(
            TableFile(
                location=location,
                size=task.file.file_size_in_bytes,
                modified=None,
                below=task.file.file_path,
                columns=columns,
                keys={**defaults, **_partition_values(table, task.file)},
            )
        )
    return files


def _require_parquet(folder: Location, file: Any) -> None:
    if file.file_format.value != "PARQUET":
        raise InputError(
            folder.url,
            f"a data file of the format {file.file_format.value} ({file.file_path.rsplit('/', 1)[-1]})",
            "data files of a table are Parquet",
            "Set the table's property write.format.default to parquet, and rewrite its data files.",
        )


def _opened(metadata: Location, storage: Storage) -> Any:
    """The table, which reads its manifests with the storage's settings."""
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.io import load_file_io
    from pyiceberg.table import StaticTable
    from pyiceberg.table.metadata import TableMetadataUtil

    options = {
        "s3.endpoint": storage.endpoint,
        "s3.region": storage.region,
        "s3.anonymous": "true" if storage.anonymous else None,
        "s3.force-virtual-addressing": None if storage.path_style else "true",
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    properties = {name: value for name, value in options.items() if value is not None}
    content = metadata.read_bytes()
    # By the content: writers have had several names for compressed metadata
    text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode()
    url = f"file://{metadata.path}" if metadata.is_local else metadata.url
    return StaticTable(
        identifier=("static-table", url),
        metadata=TableMetadataUtil.parse_raw(text),
        metadata_location=url,
        io=load_file_io(properties, url),
        catalog=NoopCatalog("static-table"),
    )


def _columns(table: Any) -> tuple[TableColumn, ...]:
    file_names = {
        field.field_id: tuple(field.names)
        for field in table.name_mapping() or ()
        if isinstance(field.names, list)  # else the mapping has none, for which pyiceberg gives a type
    }
    return tuple(
        TableColumn(
            name=field.name,
            field_id=field.field_id,
            file_names=file_names.get(field.field_id, ()),
        )
        for field in table.schema().fields
    )


def _defaults(table: Any) -> dict[str, str | None]:
    """The columns to which the table gives a value in files that were written before them: name -> value."""
    from pyiceberg.transforms import IdentityTransform

    return {
        field.name: IdentityTransform().to_human_string(field.field_type, field.initial_default)
        for field in table.schema().fields
        if field.initial_default is not None
    }


def _partition_values(table: Any, file: Any) -> dict[str, str | None]:
    """The columns by which the table was split as they are, whose files may lack them: name -> value."""
    from pyiceberg.transforms import IdentityTransform

    schema, values = table.schema(), {}
    fields = {field.field_id: field for field in schema.fields}
    for index, part in enumerate(table.specs()[file.spec_id].fields):
        source = fields.get(part.source_id)
        if source is not None and isinstance(part.transform, IdentityTransform):
            value = file.partition[index]
            text = None if value is None else part.transform.to_human_string(source.field_type, value)
            values[source.name] = text
    return values


def _lies_below(location: Location, folder: Location) -> bool:
    paths = [location.path, folder.path]
    if folder.is_local:  # links: metadata has whole paths, of the machine that wrote them
        paths = [os.path.realpath(path) for path in paths]
    return location.is_local == folder.is_local and paths[0].startswith(f"{paths[1].rstrip('/')}/")
