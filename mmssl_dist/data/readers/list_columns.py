"""Columns of lists as Parquet files hold them: read by their storage, whichever extension types are known.

A file with tensors of Ray Data or of Arrow gives an extension type in a process that has registered it, and
its storage in any other. Both must read the same.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.ids import plain_values, storage_type

EXTENSION_NAME = b"ARROW:extension:name"
_EXTENSION_METADATA = b"ARROW:extension:metadata"
_VARIABLE_TENSOR = {"data", "shape"}  # fields of Ray Data's tensors of several shapes
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def list_type(raw: pa.DataType) -> pa.DataType | None:
    """The list type below extension types of a column of type ``raw``; None where there is none."""
    stored = storage_type(raw)
    if pa.types.is_struct(stored) and {field.name for field in stored} == _VARIABLE_TENSOR:
        stored = storage_type(stored.field("data").type)
    return stored if any(is_kind(stored) for is_kind in _LISTS) else None


def tensor_shape(field: pa.Field) -> tuple[int, ...] | None:
    """The shape of one row of a column of tensors, as Arrow's and Ray Data's extension types say it; -1 for
    the sizes of tensors that differ. None for any other column.

    The file says it in the same way to a process that does not know the extension type.
    """
    shape = getattr(field.type, "shape", None)
    if isinstance(field.type, pa.BaseExtensionType) and shape is not None:
        return tuple(-1 if size is None else size for size in shape)
    if isinstance(field.type, pa.BaseExtensionType):
        # Arrow's own types, such as JSON, do not all say how they are written
        written = getattr(field.type, "__arrow_ext_serialize__", bytes)
        name, text = field.type.extension_name.encode(), written()
    else:
        metadata = field.metadata or {}
        name, text = metadata.get(EXTENSION_NAME, b""), metadata.get(_EXTENSION_METADATA, b"")
    if b"tensor" not in name:
        return None
    try:
        header = json.loads(text)
    except ValueError:  # another maker's
        return None
    if isinstance(header, dict):
        header = header.get("shape")
    if isinstance(header, int):  # of tensors that differ in shape, the number of dimensions
        return (-1,) * header
    return tuple(header) if isinstance(header, list) else None


def value_type(lists: pa.DataType) -> pa.DataType | None:
    """The type of the values of lists of type ``lists``; None where an extension gives them another meaning,
    such as bfloat16 kept as uint16."""
    field = lists.value_field
    extended = isinstance(field.type, pa.BaseExtensionType) or EXTENSION_NAME in (field.metadata or {})
    return None if extended else field.type


def plain_lists(column: pa.Array) -> pa.Array:
    """``column`` as a list, large-list or fixed-size-list array; nulls for one of another type, which has
    no value."""
    lists = list_type(column.type)
    if lists is None:
        return pa.nulls(len(column), pa.list_(pa.float32()))
    stored = plain_values(pa.chunked_array([column]))
    if pa.types.is_struct(stored.type):
        stored = plain_values(pa.chunked_array([pc.struct_field(stored, "data")]))
    if not (pa.types.is_list_view(lists) or pa.types.is_large_list_view(lists)):
        return stored
    # Arrow's own cast from views leaves the buffer of offsets one too short
    lengths = pc.fill_null(pc.list_value_length(stored), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), stored.flatten(), mask=stored.is_null()
    )
