"""Vectors are read by their storage, and parts without any agree with the others."""

from __future__ import annotations

import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.data.files import find_files
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import numbered_rows
from mmssl_dist.data.readers import open_sources
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table

ROWS = [[1.0, 2.0], [3.0, 4.0], None]
MATRIX = np.array([[1, 2], [3, 4]], np.float32)


def _features(job):
    """The items and vectors that the passes of prepare and of validate read."""
    sources = open_sources(job.data, find_files(job))
    numbered_rows(job, sources.interactions, sources.features, local_numbers)
    source = sources.features["image"]
    batches = [batch for piece in source.pieces for batch in source.read(piece)]
    items = [item for batch in batches for item in batch.items.to_pylist()]
    return items, np.concatenate([batch.vectors for batch in batches])


@pytest.fixture
def folder(tmp_path):
    write_table(
        tmp_path,
        "interactions.parquet",
        user_id=[user for user in range(30) for _ in range(2)],
        item_id=["a", "b"] * 30,
    )
    return tmp_path


def _ray_tensors(version: int) -> pa.Array:
    from ray.data._internal.tensor_extensions.arrow import ArrowTensorType, ArrowTensorTypeV2

    made, lists = (
        (ArrowTensorType((2,), pa.float32()), pa.list_(pa.float32()))
        if version == 1
        else (ArrowTensorTypeV2((2,), pa.float32()), pa.large_list(pa.float32()))
    )
    return pa.ExtensionArray.from_storage(made, pa.array(ROWS, lists))


def _ray_ragged_tensors() -> pa.Array:
    from ray.data._internal.tensor_extensions.arrow import ArrowVariableShapedTensorType

    made = ArrowVariableShapedTensorType(pa.float32(), 1)
    rows = [None if row is None else {"data": row, "shape": [2]} for row in ROWS]
    return pa.ExtensionArray.from_storage(made, pa.array(rows, made.storage_type))


COLUMNS = {
    "list": lambda: vectors(ROWS),
    "list_view": lambda: pa.array(ROWS, pa.list_view(pa.float32())),
    "large_list_view": lambda: pa.array(ROWS, pa.large_list_view(pa.float64())),
    "fixed_shape_tensor": lambda: pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [2]), pa.array(ROWS, pa.list_(pa.float32(), 2))
    ),
    "ray_v1": lambda: _ray_tensors(1),
    "ray_v2": lambda: _ray_tensors(2),
    "ray_ragged": _ray_ragged_tensors,
    "dictionary": lambda: pa.ListArray.from_arrays(
        [0, 2, 4], pa.array([1.0, 2.0, 3.0, 4.0]).dictionary_encode()
    ),
    "empty": lambda: vectors([[1.0, 2.0], [3.0, 4.0], []]),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("known", [True, False])
def test_tensors_and_views_are_read_by_their_storage(folder, column, known):
    values = COLUMNS[column]()
    write_table(folder, "image.parquet", item_id=["a", "b", "c"][: len(values)], vector=values)
    if not known and isinstance(values.type, pa.ExtensionType):  # another process has not imported Ray
        pa.unregister_extension_type(values.type.extension_name)
    try:
        items, read = _features(raw_job(folder))
    finally:
        if not known and isinstance(values.type, pa.ExtensionType):
            pa.register_extension_type(values.type)
    assert items == ["a", "b"]
    assert read.tolist() == MATRIX.tolist()


def _tensors(maker: str, shape: tuple[int, ...]) -> pa.Array:
    from ray.data._internal.tensor_extensions.arrow import ArrowTensorTypeV2, ArrowVariableShapedTensorType

    rows = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, -1).tolist()
    if maker == "arrow":
        made = pa.fixed_shape_tensor(pa.float32(), shape)
    elif maker == "ray":
        made = ArrowTensorTypeV2(shape, pa.float32())
    else:
        made = ArrowVariableShapedTensorType(pa.float32(), len(shape))
        rows = [{"data": row, "shape": shape} for row in rows]
    return pa.ExtensionArray.from_storage(made, pa.array(rows, made.storage_type))


@pytest.mark.parametrize("maker", ["arrow", "ray", "ray_ragged"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("shape", "flat"), [((2, 3), False), ((2, 1, 3), False), ((6,), True), ((1, 6), True)]
)
def test_a_matrix_is_no_vector(folder, maker, known, shape, flat):
    values = _tensors(maker, shape)
    write_table(folder, "image.parquet", item_id=["a", "b"], vector=values)
    if not known:
        pa.unregister_extension_type(values.type.extension_name)
    try:
        if flat and (maker != "ray_ragged" or len(shape) == 1):
            assert _features(raw_job(folder))[1].tolist() == np.arange(12).reshape(2, 6).tolist()
            return
        with pytest.raises(
            InputError, match=r"image.parquet, column vector: found a tensor of .* x .* values"
        ):
            _features(raw_job(folder))
    finally:
        if not known:
            pa.register_extension_type(values.type)


def test_ids_of_arrow_s_uuid(folder):
    ids = [uuid.UUID(int=number).bytes for number in (1, 2)]
    for name, columns in (
        ("image.parquet", {"vector": vectors(ROWS[:2])}),
        ("interactions.parquet", {"user_id": [1, 1]}),
    ):
        write_table(folder, name, item_id=pa.array(ids, pa.uuid()), **columns)
    job = raw_job(folder, split={"method": "ratio", "validation": 0, "test": 0})
    assert _features(job)[0] == ids


def test_values_of_an_extension_type_are_refused(folder):
    class Bfloat16(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.uint16(), "test.bfloat16")

        def __arrow_ext_serialize__(self):
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type, serialized):
            return cls()

    values = pa.ExtensionArray.from_storage(Bfloat16(), pa.array([16256, 16384], pa.uint16()))
    column = pa.ListArray.from_arrays([0, 1, 2], values)
    write_table(folder, "image.parquet", item_id=["a", "b"], vector=column)
    message = r"column vector: found type list.*test\.bfloat16.*; features are a list column of numbers"
    with pytest.raises(InputError, match=message):
        _features(raw_job(folder))
    pa.register_extension_type(Bfloat16())
    try:
        with pytest.raises(InputError, match=message):
            _features(raw_job(folder))
    finally:
        pa.unregister_extension_type("test.bfloat16")


WITHOUT = {
    "null": pa.nulls(2),
    "floats": pa.array([None, np.nan]),
    "texts": pa.array([None, None], pa.string()),
    "list of null": pa.array([[], None], pa.list_(pa.null())),
    "list of floats": pa.array([None, []], pa.list_(pa.float32())),
    "list of doubles": pa.array([None, None], pa.list_(pa.float64())),
}


@pytest.mark.parametrize("column", WITHOUT)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("values", [pa.float16(), pa.float32()])
def test_a_part_without_vectors_agrees_with_the_others(folder, column, first, values):
    names = ("image/a.parquet", "image/b.parquet")
    empty, full = names if first else names[::-1]
    write_table(folder, empty, item_id=["c", "d"], vector=WITHOUT[column])
    rows = [[np.float16(value) for value in row] for row in ROWS[:2]]
    write_table(folder, full, item_id=["a", "b"], vector=pa.array(rows, pa.list_(values)))
    items, read = _features(raw_job(folder, modalities={"image": "image"}))
    assert (items, read.tolist()) == (["a", "b"], MATRIX.tolist())
    assert read.dtype == values.to_pandas_dtype()


def test_a_frame_without_rows_agrees_too(folder):
    (folder / "raw/image").mkdir()
    pd.DataFrame({"item_id": [], "vector": []}).to_parquet(folder / "raw/image/a.parquet")
    write_table(folder, "image/b.parquet", item_id=["a", "b"], vector=vectors(ROWS[:2]))
    assert _features(raw_job(folder, modalities={"image": "image"}))[0] == ["a", "b"]


def test_arrow_s_own_types_that_are_no_lists_are_refused(folder):
    texts = pa.array(["[1, 2]", "[3, 4]"])
    types = {"json": (pa.json_(), texts), "bool8": (pa.bool8(), pa.array([1, 0], pa.int8()))}
    for name, (type_, storage) in types.items():
        column = pa.ExtensionArray.from_storage(type_, storage)
        write_table(folder, f"{name}.parquet", item_id=["a", "b"], vector=column)
        with pytest.raises(InputError, match="features are a list column of numbers"):
            _features(raw_job(folder, modalities={"image": f"{name}.parquet"}))


def test_numbers_instead_of_lists_are_refused(folder):
    write_table(folder, "image.parquet", item_id=["a", "b"], vector=[1.0, None])
    with pytest.raises(InputError, match="found type double; features are a list column"):
        _features(raw_job(folder))


def test_an_empty_file_is_named_and_one_without_rows_may_stay(folder):
    write_table(folder, "image/b.parquet", item_id=["a", "b"], vector=vectors(ROWS[:2]))
    schema = pa.schema([("item_id", pa.string()), ("vector", pa.list_(pa.float32()))])
    pq.write_table(schema.empty_table(), folder / "raw/image/a.parquet")
    job = raw_job(folder, modalities={"image": "image"})
    assert _features(job)[0] == ["a", "b"]
    (folder / "raw/image/c.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"c.parquet: found an empty file; .* a Parquet file of no rows may"):
        _features(job)
