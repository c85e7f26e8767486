"""The days of interactions that count: up to the newest one, or before a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.config import Job, parse_job
from mmssl_dist.config.data_sections import Window
from mmssl_dist.config.load import load_job
from mmssl_dist.data.readers.times import TimeFormat
from mmssl_dist.data.window import window_bounds
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.facts import NO_SPLIT, dropped, facts
from tests.unit.data.raw import vectors, write_table, write_text

DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 11)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path, "image.parquet", item_id=range(10), vector=vectors([[float(n)] for n in range(10)]))
    return tmp_path


def job_of(folder: Path, times: object, **window) -> Job:
    """Ten interactions, at ``times``."""
    write_table(
        folder, "interactions.parquet", user_id=[n % 2 for n in range(10)], item_id=range(10), at=times
    )
    return raw_job(folder, columns={"time": "at"}, window=window, split=NO_SPLIT)


def seconds(unit: int) -> list[int]:
    return [int(day.timestamp()) * unit for day in DAYS]


TIMES = {
    "dates": pa.array([day.date() for day in DAYS]),
    "timestamps": pa.array(DAYS, pa.timestamp("us", "UTC")),
    "texts": [day.date().isoformat() for day in DAYS],
    "seconds": seconds(1),
    "milliseconds": seconds(10**3),
    "nanoseconds": seconds(10**9),
    "floats": [float(value) for value in seconds(1)],
    "decimals": [f"{value}.25" for value in seconds(1)],
}


@pytest.mark.parametrize("name", TIMES)
def test_days_up_to_the_newest_interaction(folder, name):
    """Of daily dates a week has seven; the newest counts."""
    job = job_of(folder, TIMES[name], days=7)
    assert dropped(job) == {"outside_window": 3}
    made = facts(job)
    assert made["interactions"]["train"] == 7
    assert (made["period"]["from"][:10], made["period"]["to"][:10]) == ("2026-01-04", "2026-01-10")


@pytest.mark.parametrize("name", [name for name in TIMES if name != "decimals"])
def test_days_before_a_moment_do_not_depend_on_what_comes_later(folder, name):
    job = job_of(folder, TIMES[name], days=4, before="2026-01-09")
    assert dropped(job) == {"outside_window": 6}  # 1 to 4, 9 and 10
    assert facts(job)["window"] == {"from": "2026-01-05T00:00:00Z", "to": "2026-01-09T00:00:00Z"}


def test_a_zone_and_parts_of_days(folder):
    hours = [DAYS[0] + timedelta(hours=hour) for hour in range(10)]
    job = job_of(
        folder, pa.array(hours, pa.timestamp("s", "UTC")), days=0.125, before="2026-01-01T10:00+03:00"
    )
    assert dropped(job) == {"outside_window": 7}  # 4, 5 and 6 o'clock stay


def test_nanoseconds_are_told_apart():
    newest = 1_767_225_600 * 10**9
    bounds = window_bounds(Window(days=1), TimeFormat("moment"), newest)
    times = np.asarray([newest - 86_400 * 10**9 + step for step in (-1, 0, 1)] + [newest, newest + 1])
    assert bounds.holds(times).tolist() == [False, False, True, True, False]
    bounds = window_bounds(Window(days=1, before="2026-01-01"), TimeFormat("moment"), newest)
    assert bounds.holds(times).tolist() == [False, True, True, False, False]


def test_the_window_comes_before_events_and_the_core(folder):
    rows = ["a,0,2026-01-01", "a,0,2026-01-09", "a,1,2026-01-09", "a,1,2026-01-10", "b,1,2026-01-10"]
    write_text(folder, "log.csv", ["user_id,item_id,at", *rows, ",3,2027-01-01", "b,1,2026-01-10"])
    job = raw_job(
        folder,
        interactions="log.csv",
        columns={"time": "at"},
        window={"days": 5},
        min_events=2,
        split=NO_SPLIT,
    )
    # The row without an id is newest, and does not count.
    assert dropped(job) == {"null_id": 1, "outside_window": 1, "below_min_events": 1, "duplicate": 2}


def test_numbers_that_are_no_times_since_1970_are_refused(folder):
    with pytest.raises(InputError) as caught:
        facts(job_of(folder, list(range(10)), days=7))
    assert str(caught.value) == (
        "data.window: found the newest time 9; days are counted in dates, timestamps, or numbers since 1970 "
        "in (milli-, micro-, nano-) seconds. Write data.columns.time as timestamps, or remove the window."
    )


def test_an_empty_window_is_named(folder):
    with pytest.raises(InputError) as caught:
        facts(job_of(folder, TIMES["dates"], days=7, before="2020-01-01"))
    assert "no interactions; 10 dropped by data.window; " in str(caught.value)
    assert str(caught.value).endswith("Widen data.window.")


@pytest.mark.parametrize(
    "before", ["2026-02-01", "'2026-02-01'", "2026-02-01T00:00:00Z", "2026-02-01 12:30:00"]
)
def test_dates_in_yaml_need_no_quotes(tmp_path, before):
    path = tmp_path / "job.yaml"
    path.write_text(
        "output: run\ndata:\n  path: raw\n  columns: {time: at}\n"
        f"  window: {{days: 7, before: {before}}}\n  modalities: {{image: {{file: image.npy}}}}\n"
    )
    window = load_job(path).data.window
    assert window is not None
    assert str(window.before).startswith("2026-02-01")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"window": {"days": 7}}, "data.columns.time: missing; data.window needs it"),
        ({"window": {"days": 7}, "layout": "mmssl"}, "data.window: found; the layout mmssl has no times"),
        ({"window": {"days": 0}, "columns": {"time": "at"}}, "data.window.days"),
        (
            {"window": {"days": 7, "before": "yesterday"}, "columns": {"time": "at"}},
            "data.window.before: found 'yesterday'; must be a date or an ISO timestamp",
        ),
    ],
)
def test_bad_settings(data, message):
    tree = {"path": "raw", "modalities": {"image": {"file": "image.npy"}}} | data
    with pytest.raises(InputError) as caught:
        parse_job({"output": "run", "data": tree})
    assert message in str(caught.value)
