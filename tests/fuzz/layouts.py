"""One table written in many ways: split over files of any format, types, row groups and compressions."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Draw = Callable[[Any], Any]
DAY = 86_400 * 10**9
NAMES = ("user_id", "item_id", "at")
INTEGERS = (*(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint16(), pa.uint64()), pa.decimal128(19, 0))
TEXTS = (pa.string(), pa.large_string(), pa.string_view())
ANY = (pa.null(), pa.float64(), pa.int32(), pa.string(), pa.timestamp("ms"))
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
ZONES = (None, "UTC", "Europe/Berlin", "-07:00")


@dataclass(frozen=True)
class Table:
    """Interactions, and features of items.

    Attributes:
        rows: (user, item, time), of which any may be None; times are nanoseconds since 1970 if ``moments``.
        vectors: by item.
        moments: times are moments, not numbers.
    """

    rows: list[tuple[Any, Any, Any]]
    vectors: dict[Any, list[float]]
    moments: bool


_LARGE = [2**63 - 1, -(2**63), 2**62 + 1, 10**18, 2**53 + 1, 300, 70_000, -5]
_IDS = {
    "int": st.integers(0, 9) | st.sampled_from(_LARGE),
    "text": st.text("abé0/", min_size=1, max_size=4).map(lambda text: f"u{text}")
    | st.sampled_from(["007", "7", "0.5", "x\ny", "x\r\n2,105,b", 'q"', '"', "a,b", "a\tb", "é b", "-0"]),
}
_MOMENTS = st.integers(-(10**18), 2 * 10**18) | st.integers(0, 20_000).map(lambda day: day * DAY)
_NUMBERS = st.integers(-100, 100)


@st.composite
def tables(draw: Draw) -> Table:
    """A table whose columns of texts hold one that is no number, so that they are texts in every format."""
    ids = [_IDS[draw(st.sampled_from(sorted(_IDS)))] for _ in range(2)]
    users = draw(st.lists(ids[0], min_size=1, max_size=4, unique=True))
    items = draw(st.lists(ids[1], min_size=4, max_size=8, unique=True))
    times = _MOMENTS if (moments := draw(st.booleans())) else _NUMBERS
    known = [(users[0], item) for item in items]  # so that no split is empty
    known += draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), max_size=12))
    rows = [(user, item, draw(times)) for user, item in known]
    if isinstance(users[0], str):
        rows.append(("name", *rows[0][1:]))
    rows += draw(
        st.lists(st.sampled_from([(None, rows[0][1], None), (rows[0][0], None, 7), (None,) * 3]), max_size=4)
    )
    vectors = {item: [float(number), 0.5] for number, item in enumerate(items)}
    return Table(rows, vectors, moments)


def write_plainly(table: Table, folder: Path) -> None:
    """One Parquet file of interactions and one of features, as Arrow writes them."""
    columns = [list(column) for column in zip(*table.rows, strict=True)]
    times = pa.array(columns[2], pa.int64())
    arrays = [
        pa.array(columns[0]),
        pa.array(columns[1]),
        times.cast(pa.timestamp("ns")) if table.moments else times,
    ]
    pq.write_table(pa.table(arrays, NAMES), folder / "plain.parquet")
    items = {
        "item_id": list(table.vectors),
        "vector": _vectors(list(table.vectors.values()), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(items), folder / "plain-image.parquet")


def write_anyhow(draw: Draw, table: Table, folder: Path) -> str:
    """The same rows in another order, in files below events/ and image/; returns what the files are."""
    written = draw(st.sampled_from(["parquet", "csv", "tsv"]))
    (folder / "events").mkdir()
    (folder / "image").mkdir()
    for number, rows in enumerate(_parts(draw, table.rows)):
        if written == "parquet":
            columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
            arrays = [_ids(draw, columns[0]), _ids(draw, columns[1]), _times(draw, columns[2], table.moments)]
            _write_parquet(draw, arrays, NAMES, folder / f"events/{number}.parquet")
        else:
            _write_text(
                draw=draw,
                rows=rows,
                moments=table.moments,
                written=written,
                path=folder / f"events/{number}.{written}",
            )
    for number, items in enumerate(_parts(draw, list(table.vectors))):
        arrow_type = draw(
            st.sampled_from([pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
        )
        arrays = [_ids(draw, items), _vectors([table.vectors[item] for item in items], arrow_type)]
        _write_parquet(draw, arrays, ("item_id", "vector"), folder / f"image/{number}.parquet")
    return written


def _parts(draw: Draw, rows: Sequence[Any]) -> list[list[Any]]:
    """The rows in any order, dealt to a few files of which some may be empty."""
    shuffled = draw(st.permutations(rows))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    return [list(shuffled[first:last]) for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


def _vectors(values: list[list[float]], arrow_type: pa.DataType) -> pa.Array:
    return pa.array(values, arrow_type)


def _write_parquet(draw: Draw, arrays: list[pa.Array], names: Sequence[str], path: Path) -> None:
    order = draw(st.permutations(range(len(names))))
    pq.write_table(
        pa.table([arrays[index] for index in order], [names[index] for index in order]),
        path,
        row_group_size=draw(st.integers(1, 10)),
        compression=draw(st.sampled_from(["none", "snappy", "gzip", "zstd"])),
        use_dictionary=draw(st.booleans()),
        write_statistics=draw(st.booleans()),
    )


def _ids(draw: Draw, values: list[Any]) -> pa.Array:
    """Ids in a type that can hold them: any type at all where there is none."""
    present = [value for value in values if value is not None]
    if not present:
        return pa.nulls(len(values), draw(st.sampled_from(ANY)))
    if isinstance(present[0], str):
        array = pa.array(values, draw(st.sampled_from(TEXTS)))
    else:
        fitting = [arrow_type for arrow_type in INTEGERS if _fits(present, arrow_type)]
        if max(map(abs, present)) <= 2**53:
            fitting += [pa.float64()]
        array = pa.array(values, pa.int64()).cast(draw(st.sampled_from(fitting)))
    return array.cast(pa.string()).dictionary_encode() if _encodes(draw, array) else array


def _encodes(draw: Draw, array: pa.Array) -> bool:
    return (
        not pa.types.is_integer(array.type) and pa.types.is_string(array.type) and bool(draw(st.booleans()))
    )


def _fits(values: list[int], arrow_type: pa.DataType) -> bool:
    try:
        pa.array(values, pa.int64()).cast(arrow_type)
    except pa.ArrowInvalid:
        return False
    return True


def _times(draw: Draw, values: list[Any], moments: bool) -> pa.Array:
    present = [value for value in values if value is not None]
    if not present:
        return pa.nulls(len(values), draw(st.sampled_from(ANY)))
    if not moments:
        kinds = [
            pa.int64(),
            pa.int16(),
            pa.float64(),
            pa.float32(),
            pa.decimal128(21, 2),
            pa.string(),
            pa.large_string(),
        ]
        return pa.array(values, pa.int64()).cast(draw(st.sampled_from(kinds)))
    if draw(st.booleans()):
        return pa.array([_iso(draw, value) for value in values], draw(st.sampled_from(TEXTS)))
    if all(value % DAY == 0 for value in present) and draw(st.booleans()):
        days = pa.array([None if value is None else value // DAY for value in values], pa.int32())
        return days.cast(pa.date32())
    units = [unit for unit, size in UNITS.items() if all(value % size == 0 for value in present)]
    unit, zone = draw(st.sampled_from(units)), draw(st.sampled_from(ZONES))
    counts = [None if value is None else value // UNITS[unit] for value in values]
    return pa.array(counts, pa.int64()).cast(pa.timestamp(unit, zone))


def _iso(draw: Draw, nanoseconds: int | None) -> str | None:
    """A moment as text: any zone, as many digits as it needs."""
    if nanoseconds is None:
        return None
    zone, minutes = draw(st.sampled_from([("", 0), ("Z", 0), ("+00:00", 0), ("+02:00", 120), ("-0130", -90)]))
    seconds, rest = divmod(nanoseconds, 10**9)
    local = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds + 60 * minutes)
    if not rest and not zone and local.time() == datetime.time() and draw(st.booleans()):
        return local.date().isoformat()
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return local.isoformat(draw(st.sampled_from("T "))) + fraction + zone


def _write_text(
    draw: Draw, rows: list[tuple[Any, Any, Any]], moments: bool, written: str, path: Path
) -> None:
    """CSV or TSV, by any delimiter, with a column of notes of several lines, which quote rows of a file."""
    names = draw(st.permutations([*NAMES, "note"]))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    text = io.StringIO(newline="")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(names)
    null = draw(st.sampled_from(["", "NULL", "nan", "None"]))
    space = draw(st.sampled_from(["", " "]))
    for user, item, time in rows:
        cells = {
            name: null if value is None else f"{value}{space}"
            for name, value in (("user_id", user), ("item_id", item))
        }
        cells["at"] = null if time is None else str(_iso(draw, time) if moments else time)
        cells["note"] = draw(
            st.sampled_from(["", "fine", f"two{end}2,105,blue{end}", 'a "quoted" word', '5" pipe,\n1,1,1'])
        )
        writer.writerow([cells[name] for name in names])
    content = (b"\xef\xbb\xbf" if draw(st.booleans()) else b"") + text.getvalue().encode()
    match draw(st.sampled_from(["", ".gz", ".zst"])):
        case ".gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        case ".zst":
            with pa.output_stream(str(path) + ".zst", compression="zstd") as stream:
                stream.write(content)
        case _:
            path.write_bytes(content)
