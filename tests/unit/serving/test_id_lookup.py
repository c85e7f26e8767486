"""Ids of every type are found by value and by text, and what is not an id is refused by name."""

from __future__ import annotations

import datetime
import decimal
import time
import uuid

import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.errors import InputError
from mmssl_dist.serving.id_lookup import Ids

NUMBERS = np.random.default_rng(0).permutation(50)
DAY = datetime.date(2024, 2, 1)
KINDS: dict[str, pa.Array] = {
    "int64": pa.array([int(n) - 20 for n in NUMBERS], pa.int64()),
    "uint64": pa.array([2**64 - 1 - int(n) for n in NUMBERS], pa.uint64()),
    "double": pa.array([float(n) / 4 for n in NUMBERS]),
    "string": pa.array([f"é{n}😀" if n % 3 else f"{n}" for n in NUMBERS]),
    "large_string": pa.array([f"{n}" for n in NUMBERS], pa.large_string()),
    "date": pa.array([DAY + datetime.timedelta(days=int(n)) for n in NUMBERS]),
    "timestamp": pa.array(
        [datetime.datetime(2024, 1, 1, int(n) % 24, int(n), tzinfo=datetime.UTC) for n in NUMBERS],
        pa.timestamp("us", "UTC"),
    ),
    "decimal": pa.array([decimal.Decimal(f"{n}.25") for n in NUMBERS], pa.decimal128(10, 2)),
    "bool": pa.array([True, False]),
    "uuid": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([uuid.UUID(int=int(n)).bytes for n in NUMBERS], pa.binary(16))
    ),
    "dictionary": pa.array([f"x{n}" for n in NUMBERS]).dictionary_encode(),
}


@pytest.mark.parametrize("id_type", KINDS)
def test_every_id_is_found_where_it_is_as_value_and_as_text(id_type):
    ids = Ids(KINDS[id_type], "user")
    values = KINDS[id_type].to_pylist()
    assert ids.positions(values).tolist() == list(range(len(values)))
    assert ids.positions([str(value) for value in values]).tolist() == list(range(len(values)))
    assert ids.at(np.asarray([1, 0])) == [values[1], values[0]]


@pytest.mark.parametrize(
    ("id_type", "wrong"),
    [
        ("int64", 99),
        ("int64", "x"),
        ("int64", None),
        ("int64", 1.5),
        ("int64", True),
        ("int64", [1]),
        ("int64", 2**70),
        ("uint64", -1),
        ("string", "é1"),
        ("string", 3),
        ("string", ""),
        ("double", "nan"),
        ("date", "yesterday"),
        ("uuid", "x"),
        ("bool", 1),
        ("decimal", "1.1234567"),
    ],
)
def test_what_is_no_id_is_named_with_what_ids_are_like(id_type, wrong):
    with pytest.raises(InputError) as caught:
        Ids(KINDS[id_type], "item").position(wrong)
    text = str(caught.value)
    assert text.startswith(
        f"item id: found {wrong!r}; the run knows {len(KINDS[id_type])} items, with ids of type "
    )
    assert f"such as {KINDS[id_type][0].as_py()}" in text


def test_no_ids_at_all():
    with pytest.raises(InputError, match="the run knows 0 users"):
        Ids(pa.array([], pa.string()), "user").position("a")


def test_numbers_of_numpy_and_a_look_up_among_many():
    many = Ids(pa.array(np.random.default_rng(1).permutation(200_000)), "user")
    assert many.array[many.position(np.int64(777))].as_py() == 777
    assert many.array[many.position("199999")].as_py() == 199_999


@pytest.mark.parametrize("id_type", ["int64", "uint64", "double", "string", "bool", "date", "decimal"])
def test_scalars_of_arrays_and_tables_are_ids(id_type):
    ids = Ids(KINDS[id_type], "user")
    assert ids.positions(list(KINDS[id_type])).tolist() == list(range(len(ids)))
    if id_type not in ("date", "decimal"):
        values = KINDS[id_type].to_numpy(zero_copy_only=False)
        assert ids.positions(list(values)).tolist() == list(range(len(ids)))


def test_integers_are_written_as_in_raw_files():
    ids = Ids(pa.array([7, -2, 0]), "user")
    assert ids.positions(["7", "7.0", "-2", "0.00"]).tolist() == [0, 0, 1, 2]
    for other in ("007", "+7", "7.5", " 7", "-0", "7e0", "٧"):
        assert other not in ids


def test_ids_of_a_column_of_uuids_are_given_as_text_too():
    values = [uuid.UUID(int=5), uuid.UUID(int=2**127)]
    ids = Ids(pa.array([value.bytes for value in values], pa.binary(16)), "user")
    assert ids.positions(values).tolist() == [0, 1]
    assert ids.positions([str(value) for value in values]).tolist() == [0, 1]
    assert ids.positions([value.bytes for value in values]).tolist() == [0, 1]
    assert "00000000-0000-0000-0000-000000000006" not in ids
    assert "no uuid" not in ids
    assert ids.at(np.asarray([1, 0])) == values[::-1]
    with pytest.raises(InputError, match=f"ids of type UUID. Give one from the data, such as {values[0]}"):
        ids.position("x")
    assert pa.array(ids.at(np.asarray([1])), ids.take(np.asarray([0])).type).to_pylist() == [values[1].bytes]
    texts = Ids(pa.array([str(value) for value in values]), "user")  # data.columns.types: string
    assert texts.positions(values).tolist() == [0, 1]


def test_many_ids_of_several_types_at_once():
    numbers = [int(n) - 20 for n in NUMBERS] + [2**63 - 1, -(2**63)]
    ids = Ids(pa.array(numbers), "item")
    some = [3, -4, "5", "-6.0", 7.0, np.int64(8), pa.scalar(9), str(2**63 - 1), str(-(2**63)), 2**63 - 1]
    none = [
        "007",
        "x",
        "\ud800",
        "",
        2**63,
        str(2**63),
        str(-(2**63) - 1),
        "9" * 40,
        1.5,
        1e30,
        True,
        None,
        (),
    ]
    mixed = [*some[:5], *none, *some[5:]]
    expected = [
        numbers.index(int(float(v)) if isinstance(v, str) and "." in v else int(v)) for v in map(plain, some)
    ]
    assert ids.find(mixed).tolist() == [*expected[:5], *[-1] * len(none), *expected[5:]]
    with pytest.raises(InputError, match="item id: found '007'; the run knows 52 items"):
        ids.positions(mixed)
    texts = Ids(pa.array([str(n) for n in numbers]), "item")
    assert texts.find(["3", 3, "\ud800", None, "-4"]).tolist() == [
        numbers.index(3),
        -1,
        -1,
        -1,
        numbers.index(-4),
    ]
    assert ids.find([]).tolist() == []


def test_columns_of_files_are_ids_as_prepare_reads_them():
    texts = Ids(pa.array(["3", "04", "-1", str(uuid.UUID(int=5))]), "user")
    assert texts.find(pa.array([3, 4, -1])).tolist() == [0, -1, 2]
    assert texts.find(pa.array([3.0, 1.5, None])).tolist() == [0, -1, -1]
    assert texts.find(pa.array(["04", "4"])).tolist() == [1, -1]
    assert texts.find(pa.array([uuid.UUID(int=5).bytes], pa.uuid())).tolist() == [3]
    assert texts.find([3]).tolist() == [-1]  # a value of a request is of the type that it has
    numbers = Ids(pa.array([3, -4]), "user")
    assert numbers.find(pa.array(["-4", "3", "03", None])).tolist() == [1, 0, -1, -1]
    assert numbers.find(pa.array([3.0, 2.5])).tolist() == [0, -1]
    with pytest.raises(InputError, match="user id: found 9; the run knows 2 users"):
        numbers.positions(pa.array([3, 9]))
    uuids = Ids(pa.array([uuid.UUID(int=5).bytes], pa.uuid()), "user")
    assert uuids.find(pa.array([str(uuid.UUID(int=5)), "x"])).tolist() == [0, -1]
    assert uuids.find(pa.array([uuid.UUID(int=5).bytes], pa.uuid())).tolist() == [0]


def plain(value):
    return value.as_py() if isinstance(value, pa.Scalar) else value


@pytest.mark.parametrize(("id_type", "as_text"), [("int64", False), ("int64", True), ("large_string", False)])
def test_a_filter_of_many_ids_is_no_loop_over_them(id_type, as_text):
    """A service answers nobody else while a loop runs."""
    order = np.random.default_rng(0).permutation(200_000)
    ids = Ids(pa.array(order).cast(pa.int64() if id_type == "int64" else pa.large_string()), "item")
    asked = ids.array.take(pa.array(np.arange(20_000))).to_pylist()
    asked = [str(value) for value in asked] if as_text else asked
    assert ids.position(asked[7]) == 7
    begin = time.process_time()
    assert (ids.find(asked) == np.arange(20_000)).all()
    together = time.process_time() - begin
    begin = time.process_time()
    for value in asked[:4000]:
        ids.position(value)
    assert together < time.process_time() - begin


def test_uuids_in_bytes_and_large_floats_are_found_alike_one_by_one_and_together():
    texts = Ids(pa.array(["x", "00000000-0000-0000-0000-000000000000"]), "user")
    assert texts.find([bytes(16)]).tolist() == [1]
    assert texts.find([bytes(16), "x"]).tolist() == [1, 0]
    numbers = Ids(pa.array([10**17, 5]), "user")
    assert numbers.find([1e17]).tolist() == [-1]  # stands for several integers
    assert numbers.find([1e17, 5.0]).tolist() == [-1, 1]
