"""Rows that settings leave out: by rating, and by how often a pair occurs; counted; bad ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.config import Job, parse_job
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.facts import NO_SPLIT, dropped, facts
from tests.unit.data.raw import vectors, write_table, write_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path, "image.parquet", item_id=range(4), vector=vectors([[1.0], [2.0], [3.0], [4.0]]))
    return tmp_path


def rated(folder: Path, **data) -> Job:
    return raw_job(folder, columns={"rating": "stars"}, split=NO_SPLIT, **({"min_rating": 4.0} | data))


@pytest.mark.parametrize(
    "stars",
    [
        pa.array([5, 3, 4, 1, 4], pa.int8()),
        pa.array([5.0, 3.9999, 4.0, 0.0, 4.5]),
        pa.array([5.0, 3.5, 4.0, 0.0, 4.5], pa.float16()),
        ["5", " 3.5", "+4.0 ", "-1e3", "4e0"],
    ],
)
def test_low_ratings_are_dropped_and_counted(folder, stars):
    write_table(folder, "interactions.parquet", user_id=list("aabbb"), item_id=[0, 1, 1, 2, 2], stars=stars)
    job = rated(folder)
    assert dropped(job) == {"below_min_rating": 2}
    assert facts(job)["interactions"]["train"] == 3


def test_a_pair_rated_twice_stays_where_one_rating_is_high_enough(folder):
    write_text(folder, "log.csv", ["user_id,item_id,stars", "a,0,1", "a,0,5", "a,1,2", "b,1,4", "b,1,4"])
    job = rated(folder, interactions="log.csv")
    assert dropped(job) == {"below_min_rating": 2, "duplicate": 1}
    assert dropped(rated(folder, interactions="log.csv", min_rating=-1.0)) == {"duplicate": 2}


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        (["a,0,5", "a,1,"], "line 3: found nothing"),
        (["a,0,nan"], "line 2: found nothing"),  # among data.columns.null_values
        (["a,0,good"], "line 2: found 'good'"),
        (["a,0,inf"], "line 2: found 'inf'"),
        (["a,0,1e999"], "line 2: found '1e999'"),
        (["a,0,5", ",1,good", "a,2,five"], "line 4: found 'five'"),  # a row without an id goes anyway
    ],
)
def test_a_rating_that_is_none_is_named_in_text(folder, rows, value):
    write_text(folder, "log.csv", ["user_id,item_id,stars", *rows])
    with pytest.raises(InputError) as caught:
        facts(rated(folder, interactions="log.csv"))
    message = str(caught.value).replace(f"{folder}/raw", "raw")
    assert message.startswith(f"raw/log.csv, {value}; every interaction has a rating, a finite number.")


@pytest.mark.parametrize(
    ("stars", "value"),
    [
        ([5.0, np.nan], "row 1: found nan"),
        (pa.array([5, None], pa.int64()), "row 1: found nothing"),
        ([5.0, np.inf], "row 1: found inf"),
        (pa.array([None, None]), "row 0: found nothing"),
        ([[1], [2]], "row 0: found ratings of type list<"),
        (pa.array([True, False]), "row 0: found ratings of type bool"),
    ],
)
def test_a_rating_that_is_none_is_named_in_parquet(folder, stars, value):
    write_table(folder, "interactions.parquet", user_id=[1, 2], item_id=[0, 1], stars=stars)
    with pytest.raises(InputError) as caught:
        facts(rated(folder))
    assert f"raw/interactions.parquet, {value}" in str(caught.value)


def test_inter_files_have_ratings_too(folder):
    header = "user_id:token\titem_id:token\trating:float"
    write_text(folder, "log.inter", [header, "a\t0\t5.0", "a\t1\t1.0", "b\t1\t4.0"])
    job = raw_job(
        folder,
        layout="inter",
        columns={"rating": "rating"},
        min_rating=2.0,
        split={"method": "ratio"} | NO_SPLIT,
    )
    assert dropped(job) == {"below_min_rating": 1}


@pytest.mark.parametrize("core", [0, 2])
def test_a_pair_counts_from_a_number_of_events_on(folder, core):
    """With the core and without it: the pairs go before users and items are counted."""
    pairs = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    rows = [*pairs, *pairs, ("a", 2), ("b", 3), ("b", 3), ("c", 3)]
    write_text(folder, "log.csv", ["user_id,item_id", *(f"{user},{item}" for user, item in rows)])
    job = raw_job(folder, interactions="log.csv", min_events=2, min_interactions=core, split=NO_SPLIT)
    expected = {"below_min_events": 2, "duplicate": 5}
    if core:
        expected |= {"below_min_interactions": 1, "items_below_min_interactions": 2}
    assert dropped(job) == expected
    assert facts(job)["interactions"]["train"] == (4 if core else 5)


def test_when_nothing_is_left_the_settings_are_named(folder):
    write_table(folder, "interactions.parquet", user_id=[1, 2], item_id=[0, 1], stars=[5, 1])
    with pytest.raises(InputError) as caught:
        facts(rated(folder, min_events=2))
    assert str(caught.value).endswith(
        "found no interactions; 1 dropped by data.min_rating; 1 dropped by data.min_events; there "
        "must be something to train on. Lower data.min_rating or lower data.min_events."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"min_rating": 4}, "data.columns.rating: missing; data.min_rating needs it"),
        (
            {"columns": {"rating": "stars"}},
            "data.min_rating: missing; data.columns.rating (stars) is read for it",
        ),
        ({"layout": "mmssl", "min_rating": 4}, "data.min_rating: found 4; the layout mmssl has no ratings"),
    ],
)
def test_a_bound_and_its_column_come_together(data, message):
    tree = {"path": "raw", "modalities": {"image": {"file": "image.npy"}}} | data
    with pytest.raises(InputError) as caught:
        parse_job({"output": "run", "data": tree})
    assert message in str(caught.value)
