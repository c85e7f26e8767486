"""`init` and titles in columns of other names: taken where names leave one, asked for where not."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import load_job
from mmssl_dist.config.data_sections import Data
from tests.unit.app.folders import call, write_movielens

ITEMS = range(1, 31)


def proposed(answers: str = "", *options: str) -> Data:
    done = call("init", "files", *options, answers=answers)
    assert done.exit_code == 0, done.output
    assert call("validate", "job.yaml").exit_code == 0
    return load_job("job.yaml").data


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("movies.csv", "Name"),
        ("movies.tsv", "Bezeichnung"),
        ("movies.jsonl", "movie_title"),
        ("movies.parquet", "Titre"),
    ],
)
def test_a_column_named_otherwise_is_proposed(folder: Path, file: str, column: str) -> None:
    write_movielens(folder)
    (folder / "movies.csv").unlink()
    table = pa.table({"movieId": ITEMS, column: [f"Film {item}" for item in ITEMS]})
    if file.endswith(".parquet"):
        pq.write_table(table, folder / file)
    elif file.endswith(".jsonl"):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        mark = "\t" if file.endswith(".tsv") else ","
        lines = [f"movieId{mark}{column}", *(f"{item}{mark}Film {item}" for item in ITEMS)]
        (folder / file).write_text("\n".join(lines) + "\n")
    data = proposed("", "--yes")
    assert (data.titles, data.columns.title) == (file, column)
    text = Path("job.yaml").read_text()
    assert f"columns: {{user: userId, item: movieId, time: timestamp, title: {column}}}" in text
    assert f"Not used: {file}" not in text


def test_a_column_called_title_comes_first_and_needs_no_setting(folder: Path) -> None:
    write_movielens(folder)
    (folder / "names.csv").write_text("movieId,name\n1,Film\n")
    data = proposed("", "--yes")
    assert (data.titles, data.columns.title) == ("movies.csv", "title")
    assert "title: " not in Path("job.yaml").read_text().partition("modalities")[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("names.csv\nproductName\n\n", ("names.csv", "productName")),
        ("other.csv\n\n", ("other.csv", "Headline")),
        ("none\n\n", (None, "title")),
        ("names.csv\nnone\n\n", (None, "title")),
    ],
)
def test_several_tables_and_columns_are_asked_for(
    folder: Path, answers: str, expected: tuple[str | None, str]
) -> None:
    write_movielens(folder)
    for name in ("movies.csv", "tags.csv"):
        (folder / name).unlink()
    (folder / "names.csv").write_text("movieId,productName,name\n1,Film,A film\n")
    (folder / "other.csv").write_text("movieId,Headline\n1,Film!\n")
    data = proposed(answers)
    assert (data.titles, data.columns.title) == expected


def test_titles_that_repeat_are_not_a_category(folder: Path) -> None:
    write_movielens(folder)
    (folder / "title_embeddings.parquet").unlink()
    rows = [f"{item},{('Shirt', 'Skirt')[item % 2]},{('red', 'blue')[item % 2]}" for item in ITEMS]
    (folder / "movies.csv").write_text("\n".join(["movieId,name,Farbe", *rows]) + "\n")
    data = proposed("", "--yes")
    assert (data.titles, data.columns.title) == ("movies.csv", "name")
    assert data.modalities["facts"].features == {"Farbe": "category"}


def test_names_beside_users_are_left_to_people(folder: Path) -> None:
    write_movielens(folder)
    (folder / "movies.csv").unlink()
    (folder / "reviews.csv").write_text("userId,movieId,name\n1,2,Ann\n")
    data = proposed("", "--yes")
    assert (data.titles, data.columns.title) == (None, "title")
    reason = "titles of items, or names of users? For titles, set data.titles and data.columns.title"
    assert f"# Not used: reviews.csv, column name: {reason}" in Path("job.yaml").read_text()
