"""The columns of a Parquet file under the names that its table gives them: Iceberg knows columns by the ids
of their fields, so that a column that was renamed has its old name in older files."""

from __future__ import annotations

import pyarrow as pa

from mmssl_dist.data.files import RawFile
from mmssl_dist.errors import InputError

_FIELD_ID = b"PARQUET:field_id"


def stored_names(file: RawFile, schema: pa.Schema) -> dict[str, str]:
    """The names in the file, which has ``schema``, of the columns that it has, by those in its table.

    Raises:
        InputError: nothing says which column is which.
    """
    if file.columns is None:
        return {name: name for name in schema.names}
    by_id = {
        int(field.metadata[_FIELD_ID]): field.name
        for field in schema
        if field.metadata is not None and _FIELD_ID in field.metadata
    }
    if by_id:
        return {column.name: by_id[column.field_id] for column in file.columns if column.field_id in by_id}
    if not any(column.file_names for column in file.columns):
        raise InputError(
            file.name,
            "columns without field ids",
            "columns of an Iceberg table are known by their field ids, or by the table's name mapping",
            "Rewrite the file, or set the table's property schema.name-mapping.default.",
        )
    return {
        column.name: name for column in file.columns for name in column.file_names if name in schema.names
    }


def table_schema(file: RawFile, schema: pa.Schema) -> pa.Schema:
    """The ``schema`` of the file as the table has it: columns that the file lacks are of type null, and those
    to which the table gives another value there are left out."""
    if file.columns is None:
        return schema
    stored, fields = stored_names(file, schema), []
    for column in file.columns:
        if column.name in stored:
            fields.append(schema.field(stored[column.name]).with_name(column.name))
        elif column.name not in file.keys:
            fields.append(pa.field(column.name, pa.null()))
    return pa.schema(fields)
