"""Columns of features to vectors: worked by hand, by real files, and with what a fit does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import Job, parse_job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.readers.tabular import values_of
from mmssl_dist.embedding.column_summaries import (
    ColumnSummary,
    Moments,
    joined_summaries,
    summaries_of_json,
    summarize_columns,
    summary_rows,
)
from mmssl_dist.embedding.inputs import embeddings_fingerprint, fits_of_start
from mmssl_dist.embedding.table_fit import TableFit, fitted, hashed_dimension
from mmssl_dist.errors import InputError
from mmssl_dist.launch.input_check import check_values
from mmssl_dist.report.job_summary import description
from mmssl_dist.storage import Manifest, RunFolder, publish
from tests.jobs import job_on

FEATURES = {"brand": "category", "tags": "tags", "price": "number", "new": "boolean"}
ROWS: list[dict[str, Any]] = [
    {"item_id": 1, "brand": "acme", "tags": ["red", "wool"], "price": 1.0, "new": True},
    {"item_id": 2, "brand": "best", "tags": ["red"], "price": 3.0, "new": False},
    {"item_id": 3, "brand": "acme", "tags": None, "price": None, "new": None},
    {"item_id": 4, "brand": None, "tags": [], "price": 5.0, "new": True},
]
# brand acme, best; tags red, wool; price with mean 3 and deviation sqrt(8/3), whether it is missing; new
EXPECTED = np.asarray(
    [
        [1, 0, 1, 1, -2 / np.sqrt(8 / 3), 0, 1],
        [0, 1, 1, 0, 0, 0, -1],
        [1, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 2 / np.sqrt(8 / 3), 0, 1],
    ],
    np.float32,
)


def _job(folder: Path, table: str, **settings: object) -> Job:
    modality = {"table": table, "features": FEATURES} | settings
    (folder / "clicks.csv").write_text(
        "user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(30) for i in (1, 2, 3))
    )
    data = {"interactions": "clicks.csv", "modalities": {"facts": modality}}
    return job_on(folder, data, "partition.parts=2")


def _source(job: Job) -> ContentSource:
    source = open_sources(job.data, find_files(job)).features["facts"]
    assert isinstance(source, ContentSource)
    return source


def _read(job: Job) -> dict[object, dict[str, Any] | None]:
    source = _source(job)
    batches = [batch for piece in source.pieces for batch in source.read_content(piece)]
    return {
        item: None if text is None else values_of(text)
        for batch in batches
        for item, text in zip(batch.items.to_pylist(), batch.content.to_pylist(), strict=True)
    }


def _fit(job: Job) -> TableFit:
    """As the stage fits, without Ray."""
    source, settings = _source(job), job.data.modalities["facts"]
    rows = [
        row.to_pylist()[0]
        for number in range(len(source.pieces))
        for row in summary_rows(pa.table({"id": [number]}), source)
    ]
    summaries = joined_summaries((summaries_of_json(row["summaries"]) for row in rows), settings)
    return fitted("data.modalities.facts", settings, summaries)


def _write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=2)
    elif name.endswith(".jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, rows)) + "\n")
    else:
        texts = [
            ["" if v is None else ", ".join(v) if isinstance(v, list) else str(v) for v in row.values()]
            for row in rows
        ]
        lines = [",".join(f'"{text}"' for text in row) for row in texts]
        (folder / name).write_text("\n".join([",".join(rows[0]), *lines]) + "\n")


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet"])
def test_every_format_gives_the_vectors_worked_by_hand(tmp_path, name):
    _write(tmp_path, name, ROWS)
    job = _job(tmp_path, name)
    read, fit = _read(job), _fit(job)
    vectors = fit.vectors([read[item] or {} for item in (1, 2, 3, 4)])
    np.testing.assert_allclose(vectors, EXPECTED, rtol=1e-6)
    assert (fit.dimension, vectors.dtype) == (7, np.float32)
    assert "facts (brand, tags, price, new of" in description(job)
    assert check_values(job, find_files(job)).features["facts"].items == 4


def test_a_fit_is_the_same_after_a_manifest_and_in_parts(tmp_path):
    _write(tmp_path, "items.parquet", ROWS)  # of two row groups
    job = _job(tmp_path, "items.parquet")
    fit = _fit(job)
    again = TableFit.of_facts(json.loads(json.dumps(fit.facts())))
    assert again == fit
    whole = summarize_columns([item or {} for item in _read(job).values()], job.data.modalities["facts"])
    assert fitted("", job.data.modalities["facts"], whole).columns["brand"] == fit.columns["brand"]
    price = fitted("", job.data.modalities["facts"], whole).columns["price"]
    assert (price.mean, price.deviation) == pytest.approx((3.0, np.sqrt(8 / 3)))


def test_moments_of_parts_are_those_of_the_whole():
    numbers = np.random.default_rng(3).normal(1e6, 2, 300)
    joined = Moments.of(numbers[:7]).joined(Moments.of(numbers[7:]))
    assert joined.mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert joined.deviation == pytest.approx(numbers.std(), rel=1e-9)


def test_many_values_are_hashed_and_the_hash_stays(tmp_path):
    rows = [
        {"item_id": i, "brand": f"b{i}", "tags": [f"t{i}", "x"], "price": i, "new": True} for i in (1, 2, 3)
    ]
    _write(tmp_path, "items.parquet", rows)
    fit = _fit(_job(tmp_path, "items.parquet", one_hot=2, hashed=5))
    assert [fit.columns[name].values for name in ("brand", "tags")] == [None, None]
    assert fit.dimension == 5 + 5 + 2 + 1
    # Worked with another tool: printf 'brand\0acme' | sha256sum
    assert hashed_dimension("brand", "acme", 64) == (8, -1.0)
    (vector,) = fit.vectors([{"brand": "never seen"}])
    dimension, sign = hashed_dimension("brand", "never seen", 5)
    assert vector[dimension] == sign
    assert np.count_nonzero(vector[:5]) == 1
    # Tags of the same dimension and of other signs may cancel out; these are two
    (tags,) = fit.vectors([{"tags": ["t1", "x"]}])
    assert np.abs(tags[5:10]).sum() in (0, 2)


def test_numbers_far_from_the_others_are_taken_by_their_logarithm(tmp_path):
    rows = [{"item_id": i, "price": price} for i, price in enumerate([*range(1, 100), 1e300, -5, 0])]
    _write(tmp_path, "items.parquet", rows)
    fit = _fit(_job(tmp_path, "items.parquet", features={"price": "number"}))
    assert fit.columns["price"].logarithm
    vectors = fit.vectors([{"price": price} for price in (1.0, 10.0, 99.0, 1e300, -5.0)])
    assert np.isfinite(vectors).all()
    assert (np.diff(vectors[:3, 0]) > 0).all()
    assert vectors[3, 0] == 8  # limited
    assert vectors[4, 0] < vectors[0, 0]
    even = [{"item_id": i, "price": price} for i, price in enumerate(range(100))]
    _write(tmp_path, "items.parquet", even)
    assert not _fit(_job(tmp_path, "items.parquet", features={"price": "number"})).columns["price"].logarithm


def test_what_is_unusual_is_counted_and_named(tmp_path):
    (tmp_path / "items.csv").write_text(
        "item_id,brand,price\n1,acme,1\n2,NA,inf\n3,acme,NaN\n4,,\n5,best,-Infinity\n6,best,3e0\n"
    )
    job = _job(tmp_path, "items.csv", features={"brand": "category", "price": "number"})
    read = _read(job)
    assert read[4] is None  # nothing at all
    assert read[2] is None  # nothing that is finite
    fit = _fit(job)
    assert fit.columns["price"].mean == 2
    named = {str(item): values for item, values in read.items() if values is not None}
    counted = fit.occurrences(list(named), list(named.values()))
    assert counted == {
        "price": {
            "infinite": {"items": 1, "examples": ["5"]},
            "missing": {"items": 1, "examples": ["3"]},
        }
    }
    later = fit.occurrences(["7", "8"], [{"brand": "other", "price": 2.0}, {"brand": "acme", "price": 99.0}])
    assert later["brand"] == {"not in the fit": {"items": 1, "examples": ["7"]}}
    assert later["price"] == {"limited": {"items": 1, "examples": ["8"]}}
    assert fit.vectors([{"brand": "other", "price": 99.0}]).tolist() == [[0, 0, 8, 0]]


def test_equal_numbers_have_no_size(tmp_path):
    rows = [{"item_id": i, "price": 0.1} for i in range(7)]
    _write(tmp_path, "items.parquet", rows)
    fit = _fit(_job(tmp_path, "items.parquet", features={"price": "number"}))
    assert fit.vectors([{"price": 0.1}, {"price": 5.0}]).tolist() == [[0, 0], [0, 0]]


def test_types_of_parquet_are_read_as_their_texts(tmp_path):
    table = pa.table(
        {
            "item_id": [1, 2, 3],
            "size": pa.array([3.0, None, 4.0]),  # as pandas writes whole numbers beside missing ones
            "sold": pa.array([True, False, None]),
            "brand": pa.array(["acme ", "b", None]).dictionary_encode(),
            "tags": pa.array([[1, 2], [2], None], pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    features = {"size": "category", "sold": "number", "brand": "category", "tags": "tags"}
    assert _read(_job(tmp_path, "items.parquet", features=features)) == {
        1: {"size": "3", "sold": 1.0, "brand": "acme", "tags": ["1", "2"]},
        2: {"sold": 0.0, "brand": "b", "tags": ["2"]},
        3: {"size": "4"},
    }


def test_tags_of_a_text_are_split_by_the_separator(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,tags\n1,b | a|b|\n2,|\n3,c d\n")
    job = _job(tmp_path, "items.csv", features={"tags": "tags"}, separator="|")
    assert _read(job) == {1: {"tags": ["a", "b"]}, 2: None, 3: {"tags": ["c d"]}}


def test_a_list_in_a_text_is_json(tmp_path):
    texts = ['["b", "a, c"]', "[2, null, 1]", "[]", "[1080p]"]
    rows = (f'{item},"{text.replace(chr(34), 2 * chr(34))}"\n' for item, text in enumerate(texts))
    (tmp_path / "items.csv").write_text("item_id,tags\n" + "".join(rows))
    job = _job(tmp_path, "items.csv", features={"tags": "tags"})
    assert _read(job) == {
        0: {"tags": ["a, c", "b"]},
        1: {"tags": ["1", "2"]},
        2: None,
        3: {"tags": ["[1080p]"]},  # one tag
    }


@pytest.mark.parametrize(
    ("features", "text", "message"),
    [
        ({"size": "number"}, "item_id,price\n1,2\n", "a column size is needed"),
        ({"price": "number"}, "item_id,price\n1,2\n2,12 EUR\n", r"line 3, column price: found '12 EUR'"),
        ({"price": "number"}, 'item_id,price\n1,"1,50"\n', "written in digits, with a point"),
        ({"price": "boolean"}, "item_id,price\n1,2\n", "a boolean is true or false"),
        ({"price": "number"}, "item_id,price\n,2\n1,3\n", "line 2: found no item id"),
        (
            {"tags": "tags"},
            "item_id,tags\n1,\"['a', 'b']\"\n",
            r"found \"\['a', 'b'\]\"; tags are lists .* as JSON",
        ),
        ({"tags": "tags"}, 'item_id,tags\n1,"[{""id"": 1}]"\n', r"line 2, column tags: found '\[\{"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, features, text, message):
    (tmp_path / "items.csv").write_text(text)
    job = _job(tmp_path, "items.csv", features=features)
    with pytest.raises(InputError, match=message):
        _read(job)


@pytest.mark.parametrize("text", ["['a', 'b']", "[Action, Comedy]", "[None, 'a']", "[nan, 'a']", "[-1.5, 2]"])
def test_lists_as_other_programs_show_them_are_refused(tmp_path, text):
    (tmp_path / "items.csv").write_text(f'item_id,tags\n1,"{text}"\n')
    with pytest.raises(InputError, match=r"line 2, column tags: found .*; tags are lists"):
        _read(_job(tmp_path, "items.csv", features={"tags": "tags"}))


def test_lists_are_tags_alone(tmp_path):
    _write(tmp_path, "items.parquet", ROWS)
    with pytest.raises(InputError, match="column tags: found type list"):
        _source(_job(tmp_path, "items.parquet", features={"tags": "category"}))
    _write(tmp_path, "items.jsonl", ROWS)
    with pytest.raises(InputError, match="column tags: found type list"):
        _read(_job(tmp_path, "items.jsonl", features={"tags": "category"}))


def test_a_column_without_any_value_is_refused(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,brand,price\n1,a,\n2,b,nan\n")
    job = _job(tmp_path, "items.csv", features={"brand": "category", "price": "number"})
    message = r"facts\.features\.price: found only missing values"
    with pytest.raises(InputError, match=message):
        _fit(job)
    with pytest.raises(InputError, match=message):
        check_values(job, find_files(job))


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet"])
def test_another_separator_in_most_tags_is_warned_of(tmp_path, name, caplog):
    rows = [
        {"item_id": item, "tags": tags} for item, tags in ((1, "a|b"), (2, "b|c"), (3, "c; d"), (4, None))
    ]
    _write(tmp_path, name, rows)
    job = _job(tmp_path, name, features={"tags": "tags"})
    fit = _fit(job)
    assert fit.columns["tags"].values == ("a|b", "b|c", "c; d")
    assert caplog.messages == [
        'data.modalities.facts.features.tags: 2 of 3 items have "|" within a tag, where the separator '
        'is ","; set separator: "|" if it stands between tags'
    ]
    caplog.clear()
    check_values(job, find_files(job))
    assert len(caplog.messages) == 1  # by `validate`, too
    caplog.clear()
    assert _fit(_job(tmp_path, name, features={"tags": "tags"}, separator="|")).columns["tags"].width == 4
    assert not caplog.messages


def test_columns_of_more_dimensions_than_a_vector_may_have_are_refused(tmp_path):
    features = {f"c{number}": "category" for number in range(17)}
    settings = _job(tmp_path, "items.csv", features=features, hashed=65_536).data.modalities["facts"]
    many = ColumnSummary(count=99, values=None)
    fitted("facts", settings.model_copy(update={"hashed": 60_000}), dict.fromkeys(features, many))
    with pytest.raises(InputError, match=r"facts\.features: found columns of 1114112 dimensions in all"):
        fitted("facts", settings, dict.fromkeys(features, many))


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet"])
def test_empty_texts_are_missing_whatever_else_is(tmp_path, name):
    rows = [
        {"item_id": 1, "brand": "", "tags": "x,,y", "price": "1"},
        {"item_id": 2, "brand": "-", "tags": "x, ,-", "price": ""},
        {"item_id": 3, "brand": " ", "tags": "", "price": "-"},
    ]
    _write(tmp_path, name, rows)
    features = {"brand": "category", "tags": "tags", "price": "number"}
    tree = _job(tmp_path, name, features=features).model_dump(mode="json")
    tree["data"]["columns"]["null_values"] = ["-"]
    assert _read(parse_job(tree, ())) == {1: {"tags": ["x", "y"], "price": 1.0}, 2: {"tags": ["x"]}, 3: None}


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_a_second_row_of_an_item_is_named_by_its_line(tmp_path, name):
    rows = [{"item_id": item, "brand": "a"} for item in (1, 2, 3, 2)]
    _write(tmp_path, name, rows)
    job = _job(tmp_path, name, features={"brand": "category"})
    line = 5 if name.endswith(".csv") else 4
    with pytest.raises(InputError, match=rf"{name}, line {line}: found a duplicate row for item 2"):
        check_values(job, find_files(job))


def test_the_order_of_columns_is_part_of_the_fingerprint(tmp_path):
    _write(tmp_path, "items.parquet", ROWS)
    jobs = [
        _job(tmp_path, "items.parquet", features=dict(features))
        for features in (FEATURES.items(), FEATURES.items(), reversed(FEATURES.items()))
    ]
    first, again, other = (embeddings_fingerprint(job, find_files(job)) for job in jobs)
    assert first == again != other


def _starting_from(job: Job, folder: Path, **settings: object) -> Job:
    """A job that starts from what ``job`` published, with other settings of its modality."""
    manifest = Manifest("embeddings", "", {"modalities": {"facts": {"fit": _fit(job).facts()}}}, {})
    start = RunFolder.at(str(folder / "earlier"), job.storage)
    publish(start.embeddings.location, manifest)
    tree = _job(folder, "items.parquet", **settings).model_dump(mode="json")
    return parse_job(tree, (f"training.start_from={start.root.url}",))


def test_a_start_of_other_columns_is_refused_before_anything_is_encoded(tmp_path):
    _write(tmp_path, "items.parquet", ROWS)
    job = _job(tmp_path, "items.parquet")
    # In another order they are the same, and dimensions stay where the earlier run has them
    later = _starting_from(job, tmp_path, features=dict(reversed(FEATURES.items())))
    assert list(fits_of_start(later)["facts"].columns) == list(FEATURES)
    later = _starting_from(job, tmp_path, features={"brand": "category", "price": "category"})
    message = (
        r"training\.start_from: found data\.modalities\.facts\.features {brand: category, price: category}, "
        r"where the earlier run has {brand: category, tags: tags, price: number, new: boolean}"
    )
    with pytest.raises(InputError, match=message):
        embeddings_fingerprint(later, find_files(later))
