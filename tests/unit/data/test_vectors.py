"""Vectors as other programs write them: in CSV, TSV and JSON lines, or with a column for each value."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmssl_dist.data.files import find_files
from mmssl_dist.data.fingerprint import dataset_fingerprint
from mmssl_dist.data.readers.open import open_features
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table, write_text

VALUES = {"a": [0.5, -2.0, 3e-3], "b": [1.0, 0.0, 7.25]}


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "events.parquet", user_id=["x"], item_id=["a"])
    return tmp_path


def job_of(folder, file, **others):
    modality = {"file": file, "item": "sku", **others}
    return raw_job(folder, interactions="events.parquet", modalities={"image": modality})


def read(folder, file, **others):
    """The vectors by item, and where each is."""
    job = job_of(folder, file, **others)
    source = open_features(job.data, find_files(job))["image"]
    batches = [batch for piece in source.pieces for batch in source.read(piece)]
    found, places = {}, {}
    for batch in batches:
        assert batch.vectors.dtype == source.dtype == np.float32
        assert batch.vectors.shape[1] == source.dimension
        found |= dict(zip(batch.items.to_pylist(), batch.vectors.tolist(), strict=True))
        places |= dict(zip(batch.items.to_pylist(), batch.rows.tolist(), strict=True))
    return found, places


def refusal(folder, file, **others):
    with pytest.raises(InputError) as caught:
        read(folder, file, **others)
    return str(caught.value).replace(f"{folder}/raw/", "")


def expected(values=VALUES):
    return {item: np.float32(vector).tolist() for item, vector in values.items()}


def test_a_column_of_each_value_as_pandas_writes_it(folder):
    frame = pd.DataFrame(VALUES).T
    frame.to_csv(folder / "raw/plain.csv", index_label="sku")
    frame.add_prefix("v").to_csv(folder / "raw/prefixed.csv.gz", index_label="sku")
    frame.add_prefix("dim_").add_suffix("_f").to_csv(folder / "raw/tabs.tsv", sep="\t", index_label="sku")
    for file, pattern in (("plain.csv", "*"), ("prefixed.csv.gz", "v*"), ("tabs.tsv", "dim_*_f")):
        assert read(folder, file, vector=pattern) == (expected(), {"a": 2, "b": 3})
    indexed = frame.add_prefix("v").rename_axis("sku").reset_index()
    indexed.to_parquet(folder / "raw/wide.parquet", index=False)
    assert read(folder, "wide.parquet", vector="v*") == (expected(), {"a": 0, "b": 1})


def test_values_are_in_the_order_of_their_numbers(folder):
    numbers = list(range(12))
    columns = sorted((f"v{number}" for number in numbers), key=lambda name: (name[-1], name))
    write_text(
        folder, "image.csv", [f"sku,{','.join(columns)},volume", f"a,{','.join(c[1:] for c in columns)},9"]
    )
    found, _ = read(folder, "image.csv", vector="v*")
    assert found == {"a": [float(number) for number in numbers]}


@pytest.mark.parametrize(
    "shown",
    [
        lambda vector: str(vector),
        lambda vector: json.dumps(vector).replace(" ", ""),
        lambda vector: str(np.array(vector)),
        lambda vector: "{" + ",".join(map(str, vector)) + "}",
        lambda vector: f"({'; '.join(map(str, vector))})",
        lambda vector: " ".join(map(str, vector)),
    ],
)
def test_a_text_of_each_vector(folder, shown):
    frame = pd.DataFrame({"sku": [*VALUES, "c"], "e": [*map(shown, VALUES.values()), "[]"]})
    frame.to_csv(folder / "raw/image.csv", index=False)
    assert read(folder, "image.csv", vector="e") == (expected(), {"a": 2, "b": 3})


def test_lists_in_json_lines(folder):
    rows = [{"sku": item, "e": vector, "other": {"deep": [1]}} for item, vector in VALUES.items()]
    without = ['{"sku": "c"}', '{"sku": "d", "e": null}', '{"sku": "e", "e": []}']
    write_text(folder, "image.jsonl", [*map(json.dumps, rows), *without])
    assert read(folder, "image.jsonl", vector="e") == (expected(), {"a": 2, "b": 3})


def test_decimal_commas(folder):
    write_text(folder, "wide.csv", ["sku;v0;v1", "a;0,5;-1,25", "b;2;3"])
    write_text(folder, "texts.csv", ["sku;e", "a;[0,5 -1,25]", "b;[2 3]"])
    values = expected({"a": [0.5, -1.25], "b": [2, 3]})
    assert read(folder, "wide.csv", vector="v*", decimal=",")[0] == values
    write_text(folder, "both.csv", ["sku;e", 'a;"[0,5; -1,25]"', 'b;"[2; 3]"'])
    assert read(folder, "both.csv", vector="e", decimal=",")[0] == values
    message = refusal(folder, "wide.csv", vector="v*")
    assert message.startswith("wide.csv, line 2: found '0,5' in a vector; the values of a vector are numbers")
    assert 'set decimal: "," beside vector' in message
    assert "'5 -1'" in refusal(
        folder, "texts.csv", vector="e", decimal=","
    )  # a comma separates, or nothing does
    write_text(folder, "points.csv", ["sku;v0;v1", "a;0,5;1.25"])
    assert "'1.25' in a vector" in refusal(folder, "points.csv", vector="v*", decimal=",")


def test_an_item_without_any_value_has_no_vector(folder):
    write_text(folder, "image.csv", ["sku,v0,v1", "a,1,2", "b,,", ",,", "c,3,4"])
    assert read(folder, "image.csv", vector="v*") == ({"a": [1, 2], "c": [3, 4]}, {"a": 2, "c": 5})


@pytest.mark.parametrize(
    ("lines", "vector", "message"),
    [
        (["sku,v0,v1", "a,1,2", "b,3,"], "v*", "line 3: found nan in column 1; features are finite"),
        (["sku,v0,v1", "a,1,inf"], "v*", "line 2: found inf in column 1; features are finite"),
        (["sku,v0,v1", "a,1,1e39"], "v*", "line 2: found inf in column 1; features are finite"),
        (["sku,v0,v1", "a,1,x"], "v*", "line 2: found 'x' in a vector"),
        (["sku,v0,v1", ",1,2"], "v*", "line 2: found no item id"),
        (["sku,v0,v2", "a,1,2"], "v*", "line 1: found columns v0 and v2, and none between"),
        (["sku,v1,v01", "a,1,2"], "v*", "line 1: found columns v01 and v1, and none between"),
        (["sku,v0,v1", "a,1,2"], "w*", "line 1: found no column w*"),
        (["sku,v0,v1", "a,1,2"], "w", "a column w is needed"),
        (
            ["sku,e", 'a,"[1, 2]"', "b,[1]"],
            "e",
            "line 3: found 1 values; vectors of a modality have one length",
        ),
        (["sku,e", "a,[1 ... 2]"], "e", "line 2: found '...' in a vector"),
        (["sku,e", "a,[]"], "e", "found no vector; a modality must have features"),
        (["sku,e"], "e", "found no row below the header"),
    ],
)
def test_bad_vectors_are_refused_by_line(folder, lines, vector, message):
    write_text(folder, "image.csv", lines)
    assert message in refusal(folder, "image.csv", vector=vector)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    rows=st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(FLOATS, min_size=n, max_size=n), min_size=1))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_finite_number_is_read_as_it_was_written(folder, rows):
    values = {f"i{number}": vector for number, vector in enumerate(rows)}
    frame = pd.DataFrame(values).T
    frame.to_csv(folder / "raw/wide.csv", index_label="sku")
    pd.DataFrame({"sku": list(values), "e": list(map(str, rows))}).to_csv(
        folder / "raw/texts.csv", index=False
    )
    lines = [json.dumps({"sku": item, "e": vector}) for item, vector in values.items()]
    write_text(folder, "lists.jsonl", lines)
    for file, column in (("wide.csv", "*"), ("texts.csv", "e"), ("lists.jsonl", "e")):
        assert read(folder, file, vector=column)[0] == values


def test_a_column_of_each_value_in_parquet(folder):
    halves = {f"v{n}": pa.array([np.float16(n), None, np.float16(n + 0.5)], pa.float16()) for n in (1, 0)}
    write_table(folder, "image/1.parquet", sku=["a", "b", "c"], **halves)
    job = job_of(folder, "image", vector="v*")
    source = open_features(job.data, find_files(job))["image"]
    assert (source.dtype, source.dimension) == (np.float16, 2)
    (batch,) = [batch for piece in source.pieces for batch in source.read(piece)]
    assert batch.items.to_pylist() == ["a", "c"]
    assert batch.vectors.tolist() == [[0, 1], [0.5, 1.5]]
    write_table(folder, "image/2.parquet", sku=["d"], v0=pa.nulls(1), v1=[3])
    assert "2.parquet, row 0: found nan in column 0; features are finite" in refusal(
        folder, "image", vector="v*"
    )
    write_table(folder, "image/2.parquet", sku=["d"], v0=[2], v1=pa.array([3], pa.decimal128(5, 1)))
    assert read(folder, "image", vector="v*")[0] == {"a": [0, 1], "c": [0.5, 1.5], "d": [2, 3]}
    write_table(folder, "image/2.parquet", sku=["d"], v0=[2], v1=["3"])
    assert "2.parquet, column v1: found type string; the values of a vector are numbers" in refusal(
        folder, "image", vector="v*"
    )
    write_table(folder, "image/2.parquet", sku=["d"], v0=[2])
    assert "2.parquet: found 1 columns v*; vectors of a modality have one length, here 2" in refusal(
        folder, "image", vector="v*"
    )


def test_several_files(folder):
    write_text(folder, "image/1.csv", ["sku,v0,v1", "a,1,2"])
    write_text(folder, "image/2.csv", ["v1,sku,v0", "4,b,3"])
    assert read(folder, "image", vector="v*")[0] == {"a": [1, 2], "b": [3, 4]}
    write_text(folder, "image/3.csv", ["sku,v0,v1,v2", "c,1,2,3"])
    assert "3.csv, line 1: found 3 columns v*; vectors of a modality have one length, here 2" in refusal(
        folder, "image", vector="v*"
    )
    (folder / "raw/image/3.csv").unlink()
    write_table(folder, "image/3.parquet", sku=["c"], vector=vectors([[1, 2]]))
    assert "data.modalities.image.file: found files of several formats: 2 of CSV" in refusal(
        folder, "image", vector="v*"
    )


def test_long_files_are_read_by_blocks_and_lines_are_counted_through(folder):
    rows = [f"i{number},{number},{number + 1}" for number in range(300_000)]
    with gzip.open(folder / "raw/image.csv.gz", "wt", compresslevel=1) as file:
        file.write("\n".join(["sku,v0,v1", *rows, "last,1,x"]))
    assert "image.csv.gz, line 300002: found 'x' in a vector" in refusal(folder, "image.csv.gz", vector="v*")


def test_the_mark_of_decimals_is_part_of_what_a_dataset_is_made_from(folder):
    write_text(folder, "image.csv", ["sku;v0;v1", "a;5;-1"])
    jobs = [job_of(folder, "image.csv", vector="v*", decimal=mark) for mark in (".", ",")]
    plain, commas = (dataset_fingerprint(job, find_files(job)) for job in jobs)
    assert plain != commas
