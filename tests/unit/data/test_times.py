"""Times of every kind keep their order, in any mixture of files; incomparable kinds are refused."""

from __future__ import annotations

import datetime
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers.open import open_sources
from mmssl_dist.data.readers.times import TimeFormat, epoch_unit, moment_text, to_times
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table, write_text

YEAR = 2**63 // 292  # nanoseconds, about


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "image.parquet", item_id=[1, 2], vector=vectors([[1, 2], [3, 4]]))
    return tmp_path


def parts(folder, *columns):
    """Parquet files in events/, each with one of ``columns`` as its times."""
    for number, column in enumerate(columns):
        ids = {"user_id": [1] * len(column), "item_id": [1] * len(column)}
        write_table(folder, f"events/{number}.parquet", **ids, at=column)


def csv_parts(folder, *columns):
    for number, column in enumerate(columns):
        write_text(
            folder, f"events/{number}.csv", ["user_id,item_id,at", *(f'1,1,"{time}"' for time in column)]
        )


def read(folder):
    job = raw_job(folder, interactions="events", columns={"time": "at"}, split={"method": "temporal"})
    source = open_sources(job.data, find_files(job)).interactions
    return [
        time for piece in source.pieces for table in source.read(piece) for time in table["time"].to_pylist()
    ]


def refusal(folder):
    """The message of both: a look at where files begin, as for ``validate``, and a look at all rows."""
    job = raw_job(folder, interactions="events", columns={"time": "at"}, split={"method": "temporal"})
    messages = []
    for whole in (False, True):
        with pytest.raises(InputError) as caught:
            open_sources(job.data, find_files(job), whole=whole)
        messages.append(str(caught.value).replace(job.data.path, "raw"))
    assert messages[0] == messages[1]
    return messages[0]


MOMENTS = [
    pa.array([datetime.date(2020, 1, 1)]),
    pa.array([datetime.date(2020, 1, 1)], pa.date64()),
    *(pa.array([datetime.datetime(2020, 1, 1)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    pa.array([datetime.datetime(2020, 1, 1)], pa.timestamp("ms", "Europe/Berlin")),
    pa.array(["2020-01-01"]),
    pa.array(["2020-01-01"], pa.large_string()),
    pa.array(["2020-01-01T00:00:00Z"], pa.string_view()),
    pa.array(["2020-01-01 02:00:00+02:00"]).dictionary_encode(),
]


def test_moments_of_all_types_are_one_kind(folder):
    parts(folder, *MOMENTS, pa.nulls(0))
    assert read(folder) == [1_577_836_800 * 10**9] * len(MOMENTS)


@pytest.mark.parametrize(
    ("text", "seconds", "nanoseconds"),
    [
        ("2020-01-01", 0, 0),
        ("2020-01-01 00:00", 0, 0),
        ("2020-01-01T00:00:01Z", 1, 0),
        ("2020-01-01T00:00:01z", 1, 0),
        ("2020-01-01 02:00:00+02:00", 0, 0),
        ("2020-01-01T02:00:00.5+0200", 0, 500_000_000),
        ("2019-12-31 22:30:00-01:30", 0, 0),
        ("2020-01-01 01:00:00+01", 0, 0),
        ("2020-01-01 00:00:00+00:00", 0, 0),
        ("2020-01-01 00:00:00 +00:00", 0, 0),
        ("2020-01-01 00:00:00 UTC", 0, 0),
        ("2020-01-01T00:00:00.123456789Z", 0, 123_456_789),
        ("2020-01-01 00:00:00.000000001+00:00", 0, 1),
        ("2020-01-01 00:00:00.1", 0, 100_000_000),
    ],
)
@pytest.mark.parametrize("other", ["2020-01-01", "2020-01-01T00:00:00Z", "1600-01-01"])
def test_iso_texts_are_utc(folder, text, seconds, nanoseconds, other):
    expected = (1_577_836_800 + seconds) * 10**9 + nanoseconds
    csv_parts(folder, [text, other])
    assert read(folder)[0] == expected
    (folder / "raw/events/0.csv").unlink()
    parts(folder, pa.array([text, other]))
    assert read(folder)[0] == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("02.01.2020", 86_400),
        ("2.1.2020", 86_400),
        ("02.1.2020 00:01", 86_460),
        ("2.01.2020 9:05", 86_400 + 9 * 3600 + 300),
        ("02.01.2020, 09:05:07", 86_400 + 9 * 3600 + 307),
        (" 02.01.2020 09:05:07 ", 86_400 + 9 * 3600 + 307),
        ("02.01.2020T02:00+02:00", 86_400),
    ],
)
@pytest.mark.parametrize("other", ["1.1.2020", "2020-01-01", "2020-01-01T00:00:00Z", "31.12.1600"])
def test_days_come_first_where_dates_have_points(folder, text, seconds, other):
    csv_parts(folder, [text, other])
    assert read(folder)[0] == (1_577_836_800 + seconds) * 10**9
    (folder / "raw/events/0.csv").unlink()
    parts(folder, pa.array([text, other]))
    assert read(folder)[0] == (1_577_836_800 + seconds) * 10**9


@pytest.mark.parametrize(
    "text",
    [
        "32.01.2020",
        "01.13.2020",
        "30.2.2020",
        "01.02.20",
        "1.2.2020 25:00",
        "01/02/2020",
        "2020-13-01",
        "2020-02-30",
        "2020-01-01T25:00",
        "2020-01-01T00:00:00+99:00",
        "2020/01/01",
        "20200101T00",
    ],
)
def test_what_is_no_iso_text_is_refused_with_its_line(folder, text):
    csv_parts(folder, ["2020-01-01", "2020-01-01T00:00:00Z", text])
    with pytest.raises(InputError, match=f"line 4: found {text!r}; times are".replace("+", r"\+")):
        read(folder)


def test_nanoseconds_stay_apart(folder):
    start = 1_577_836_800 * 10**9
    parts(
        folder,
        pa.array([start + 10, start], pa.timestamp("ns")),
        pa.array([start // 1000], pa.timestamp("us")),
    )
    assert read(folder) == [start + 10, start, start]


def test_order_over_ten_thousand_years():
    texts = [
        "0001-01-01",
        "1677-01-01",
        "1689-12-31 23:59:59.999999",
        "1690-01-01",
        "1969-12-31 23:59:59.999999999",
    ]
    texts += [
        "1970-01-01",
        "2249-12-31 23:59:59.999999999",
        "2250-01-01",
        "2250-01-01 00:00:00.000001",
        "2300-01-01",
    ]
    texts += ["9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999999Z"]
    codes = to_times(pa.array(texts), TimeFormat("moment"), str).to_pylist()
    assert codes[:-1] == sorted(set(codes[:-1]))
    assert codes[-1] == codes[-2]  # beyond 2250 a microsecond is the least


@given(st.lists(st.integers(-(2**60), 2**60), min_size=2), st.sampled_from(["s", "ms", "us", "ns"]))
def test_codes_of_units_are_in_order(values, unit):
    limit = {"s": 3 * 10**11, "ms": 3 * 10**14, "us": 3 * 10**17, "ns": 2**63}[unit]
    values = [value % limit if value > 0 else -(-value % limit) for value in values]
    codes = to_times(pa.array(values, pa.timestamp(unit)), TimeFormat("moment"), str).to_numpy()
    order = np.argsort(values, kind="stable")
    assert (codes[order][1:] >= codes[order][:-1]).all()
    if unit != "ns":
        assert len(set(codes.tolist())) == len(set(values))
        factor = {"s": 10**3, "ms": 1, "us": 1}[unit]
        finer = {"s": "ms", "ms": "ms", "us": "us"}[unit]
        again = to_times(
            pa.array([v * factor for v in values], pa.timestamp(finer)), TimeFormat("moment"), str
        )
        assert again.to_numpy().tolist() == codes.tolist()


def test_a_moment_out_of_any_calendar_is_refused(folder):
    parts(folder, pa.array([0, 2**62], pa.timestamp("ms")))
    with pytest.raises(
        InputError, match=r"0.parquet, row 1: found a timestamp\[ms\] out of range; times are"
    ):
        read(folder)


NUMBERS = [pa.array([5, 7]), pa.array([5.0, 7.0]), pa.array(["5", "7"]), pa.array([5, 7], pa.uint64())]
NUMBERS += [pa.array([5, 7]).cast(pa.decimal128(21, 2))]


@pytest.mark.parametrize(
    ("number", "moment"), list(itertools.product(NUMBERS, [MOMENTS[0], MOMENTS[5], MOMENTS[-1]]))
)
def test_moments_beside_numbers_are_refused_with_both_files(folder, number, moment):
    parts(folder, moment, number)
    message = refusal(folder)
    assert "times are numbers, dates or ISO timestamps, all of one kind" in message
    assert "raw/events/0.parquet" in message
    assert "raw/events/1.parquet" in message


def test_epochs_beside_iso_texts_in_csv_are_refused(folder):
    csv_parts(folder, ["2020-01-01", "2020-01-02"], ["1609459200"])
    assert refusal(folder) == (
        "raw/events/1.csv, line 2: found the number '1609459200'; times are numbers, dates or ISO "
        "timestamps, all of one kind; in raw/events/0.csv, line 2 it is '2020-01-01'. "
        "Write all files with the same kind of time."
    )
    (folder / "raw/events/1.csv").unlink()
    csv_parts(folder, ["2020-01-01", "1609459200"])
    assert "raw/events/0.csv, line 3: found the number '1609459200'" in refusal(folder)


@pytest.mark.parametrize("factor", [10**3, 10**6, 10**9])
def test_seconds_beside_finer_epochs_are_refused(folder, factor):
    parts(folder, pa.array([1577836800, 1577836900]), pa.array([1609459200 * factor]))
    message = refusal(folder)
    assert (
        "raw/events/1.parquet, column at: found a time of 1.6094592e+" in message
        or str(1609459200) in message
    )
    assert (
        "times have one unit; 1577836800 in the file of raw/events/0.parquet, column at counts seconds"
        in message
    )
    (folder / "raw/events/0.parquet").unlink()
    (folder / "raw/events/1.parquet").unlink()
    csv_parts(folder, ["1577836800.5"], [str(1609459200 * factor)])
    assert "raw/events/1.csv, line 2: found a time of" in refusal(folder)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([["5", "6"], ["5.5"]], [50, 60, 55]),
        ([["1600000000.123456789", "1600000000.12345679"]], [1600000000123456789, 1600000000123456790]),
        ([["+7", "-7", " 7 ", "007"]], [7, -7, 7, 7]),
        ([["1e3", "5"]], [1000.0, 5.0]),
        ([["9223372036854775807", "-9223372036854775808"]], [2**63 - 1, -(2**63)]),
        ([["0.5", "123456789012345.5"], [".25"]], [50, 12345678901234550, 25]),
        ([["0.1234567890123456", "123456789.5"]], [0.1234567890123456, 123456789.5]),
    ],
)
def test_numbers_are_compared_as_written(folder, columns, expected):
    csv_parts(folder, *columns)
    assert read(folder) == expected


@pytest.mark.parametrize(
    ("columns", "bad"),
    [
        ([["0.12345678901234567890", "123456789012.5"]], "line 2: found '0.12345678901234567890'"),
        ([["9223372036854775808"]], "line 2: found '9223372036854775808'"),
        ([["0x10"]], "line 2: found '0x10'"),
        ([["inf"]], "line 2: found 'inf'"),
    ],
)
def test_numbers_that_would_be_rounded_are_refused(folder, columns, bad):
    csv_parts(folder, *columns)
    with pytest.raises(InputError, match=bad):
        read(folder)


def test_integers_and_floats_in_two_files_are_numbers(folder):
    parts(
        folder,
        pa.array([5, 7]),
        pa.array([5.5, None, float("nan")])[:1],
        pa.array([None, None], pa.float64())[:0],
    )
    assert read(folder) == [5.0, 7.0, 5.5]
    parts(folder, pa.array([2**53 + 1]), pa.array([5.5]))
    with pytest.raises(InputError, match=r"0.parquet, row 0: found 9007199254740993; times are"):
        read(folder)


def test_decimals_of_two_scales(folder):
    parts(
        folder,
        pa.array([5]).cast(pa.decimal128(20, 1)),
        pa.array([5]).cast(pa.decimal256(40, 3)),
        pa.array([6]),
    )
    assert read(folder) == [5000, 5000, 6000]


@pytest.mark.parametrize("column_type", [pa.bool_(), pa.duration("s"), pa.time32("ms"), pa.binary()])
def test_types_without_times_are_refused(folder, column_type):
    parts(folder, pa.array([None], column_type))
    assert (
        f"raw/events/0.parquet, column at: found times of type {column_type}; times are numbers"
        in refusal(folder)
    )


def test_rows_without_an_id_need_no_time(folder):
    write_text(folder, "events/0.csv", ["user_id,item_id,at", "1,1,5", ",,", "1,,never", "1,2,6"])
    assert read(folder) == [5, 0, 0, 6]
    write_text(folder, "events/0.csv", ["user_id,item_id,at", "1,1,5", "1,2,NaN"])
    with pytest.raises(InputError, match="line 3: found nothing; every interaction has a time"):
        read(folder)


@pytest.mark.parametrize(
    ("written", "refused"),
    [("datetime64[us]", True), ("datetime64[ns]", False), ("datetime64[ns, UTC]", False)],
)
def test_times_that_fastparquet_wrote_as_others_are_refused(folder, written, refused):
    """As int96 it takes microseconds, which pandas has by default, for nanoseconds."""
    note = {"creator": {"library": "fastparquet"}, "columns": [{"name": "at", "numpy_type": written}]}
    table = pa.table(
        {"user_id": [1], "item_id": [1], "at": pa.array([1_704_067_200_000_000], pa.timestamp("ns"))}
    )
    (folder / "raw" / "events").mkdir()
    pq.write_table(
        table.replace_schema_metadata({"pandas": json.dumps(note)}),
        folder / "raw" / "events" / "a.parquet",
        use_deprecated_int96_timestamps=True,
    )
    if refused:
        assert "column at: found datetime64[us], which fastparquet wrote as int96" in refusal(folder)
    else:
        assert read(folder) == [1_704_067_200_000_000]


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1_704_067_200, "seconds"),
        (1_704_067_200_000, "milliseconds"),
        (2024013112, None),  # 12 o'clock of a day
        (202401311259, None),
        (20240131125959, None),
        (2024133112, "seconds"),  # no month
        (100_000, None),
    ],
)
def test_what_numbers_count_since_1970(value, unit):
    assert epoch_unit(value) == unit


def test_times_are_written_alike_in_columns_of_all_types():
    whole, floats, hundredths = TimeFormat("number", 0), TimeFormat("number", None), TimeFormat("number", 2)
    assert (
        moment_text(7, whole, 9) == moment_text(7.0, floats, 9.0) == moment_text(700, hundredths, 900) == "7"
    )
    newest = 1_704_067_200
    assert moment_text(5, whole, newest) == "1970-01-01T00:00:05Z"
    assert moment_text(newest, floats, newest) == "2024-01-01T00:00:00Z"
    assert moment_text(2024013112, whole, 2024013112) == "2,024,013,112"
