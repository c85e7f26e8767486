"""Numbers with decimal commas, as features: the same in every format, refused where they are something else,
and part of what embeddings are made from."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.job import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.prepare import dataset_fingerprint
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.readers.tabular import values_of
from mmssl_dist.embedding.inputs import embeddings_fingerprint
from mmssl_dist.errors import InputError
from mmssl_dist.launch.input_check import check_values
from tests.jobs import job_on

FORMATS = ["items.csv", "items.jsonl", "items.parquet"]


def write(file: Path, prices: list[object]) -> None:
    rows = [{"item_id": item, "price": price, "size": "7"} for item, price in enumerate(prices)]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with file.open("w", newline="") as stream:
            lines = csv.DictWriter(stream, rows[0])
            lines.writeheader()
            lines.writerows(rows)


def job(folder: Path, table: str, **settings: object) -> Job:
    (folder / "clicks.csv").write_text("user_id,item_id\n1,0\n1,1\n2,0\n2,1\n")
    features = {"price": "number", "size": "category"}
    modality = {"table": table, "features": features} | settings
    return job_on(folder, {"interactions": "clicks.csv", "modalities": {"facts": modality}})


def read(made: Job) -> list[dict[str, Any]]:
    source = open_sources(made.data, find_files(made)).features["facts"]
    assert isinstance(source, ContentSource)
    batches = [batch for piece in source.pieces for batch in source.read_content(piece)]
    return [values_of(text) for batch in batches for text in batch.content.to_pylist()]


@pytest.mark.parametrize("name", FORMATS)
def test_decimal_commas_are_read_where_the_job_says_so(tmp_path: Path, name: str) -> None:
    texts = ["8,98", "1.299,00", "-1.234.567,5", "12", ",5", "3,", "1,5e2", "inf", ""]
    write(tmp_path / name, list(texts))
    prices = [8.98, 1299.0, -1234567.5, 12.0, 0.5, 3.0, 150.0, np.inf, None]
    assert [values.get("price") for values in read(job(tmp_path, name, decimal=","))] == prices


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", ["8.98", "1.29,00", "12.3456", "1,299.00", "1,2,3", "8,98 EUR", ".5", ","])
def test_other_texts_are_refused_when_they_are_read_and_by_validate(
    tmp_path: Path, name: str, text: str
) -> None:
    write(tmp_path / name, ["1,5", text])
    made = job(tmp_path, name, decimal=",")
    rule = 'with decimal: "," a number has a comma, points between groups of three digits alone'
    for look in (read, lambda made: check_values(made, find_files(made))):
        with pytest.raises(InputError, match=rf"column price: found '?{re.escape(text)}'?; {rule}"):
            look(made)


@pytest.mark.parametrize("name", FORMATS)
def test_without_the_setting_a_comma_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ["1.5", "8,98"])
    with pytest.raises(InputError, match=r"found '?8,98'?; a number is written in digits, with a point"):
        read(job(tmp_path, name))


def test_numbers_of_parquet_have_no_mark(tmp_path: Path) -> None:
    write(tmp_path / "items.parquet", [1.299, 8.0])
    assert [values["price"] for values in read(job(tmp_path, "items.parquet", decimal=","))] == [1.299, 8.0]


def test_embeddings_depend_on_the_mark_and_not_on_its_default(tmp_path: Path) -> None:
    write(tmp_path / "items.csv", ["1", "2"])
    plain = job(tmp_path, "items.csv")
    point, comma = (job(tmp_path, "items.csv", decimal=mark) for mark in ".,")
    files = find_files(plain)
    assert embeddings_fingerprint(plain, files) == embeddings_fingerprint(point, files)
    assert embeddings_fingerprint(plain, files) != embeddings_fingerprint(comma, files)
    # The vectors show what changed, so a dataset depends on them alone.
    assert dataset_fingerprint(plain, files) == dataset_fingerprint(comma, files)
