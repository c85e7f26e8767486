"""`init` on folders with files that may be meant and cannot be read as they are: it names them, and asks."""

from __future__ import annotations

import decimal
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import load_job
from tests.unit.app.folders import call, write_movielens, write_vectors


def test_more_files_with_the_columns_of_the_interactions_are_named(folder: Path) -> None:
    write_movielens(folder)
    rows = (folder / "ratings.csv").read_text()
    (folder / "more.csv").write_text(rows)
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "Not used: more.csv: more rows with the columns of ratings.csv?" in done.stdout


def test_interactions_in_two_formats_cannot_be_read_together(folder: Path) -> None:
    write_movielens(folder)
    (folder / "more.jsonl").write_text('{"userId": 1, "movieId": 2, "rating": 4.0, "timestamp": 964982703}\n')
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.stderr
    assert (
        "Not used: more.jsonl: more rows with the columns of ratings.csv? Interactions are files of one "
        "format: to read both, convert more.jsonl to CSV, put both into a folder" in done.stdout
    )
    assert "glob" not in done.stdout
    (folder / "all").mkdir()
    (folder / "all/more.csv").write_text("userId,movieId,rating,timestamp\n1,2,4.0,964982703\n")
    (folder / "ratings.csv").rename(folder / "all/ratings.csv")
    checked = call("validate", "job.yaml", "--set", "data.interactions=all")
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    ("name", "delimiter"), [("ratings.csv", ";"), ("ratings.csv", "\t"), ("ratings.tsv", ",")]
)
def test_other_delimiters_than_the_names_of_files_say(folder: Path, name: str, delimiter: str) -> None:
    """Excel writes semicolons into a .csv in half of Europe."""
    write_movielens(folder)
    for file in folder.glob("*.csv"):
        file.write_text(file.read_text().replace(",", delimiter))
    (folder / "ratings.csv").rename(folder / name)
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert load_job("job.yaml").data.interactions == name
    checked = call("validate", "job.yaml")
    assert checked.exit_code == 0, checked.output


def test_times_that_are_not_read_are_named(folder: Path) -> None:
    """The split is then drawn at random, which nobody may notice."""
    write_movielens(folder)
    lines = (folder / "ratings.csv").read_text().splitlines()
    rows = [f"{line.rpartition(',')[0]},11/14/2023 22:13" for line in lines[1:]]
    (folder / "ratings.csv").write_text("\n".join([lines[0], *rows, ""]))
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert load_job("job.yaml").data.split.method == "ratio"
    assert "Not used: ratings.csv, column timestamp: named like a time, but not written as one" in done.stdout


def test_a_table_that_cannot_be_read_is_not_replaced_by_an_older_one(folder: Path) -> None:
    write_movielens(folder)
    rows = (folder / "ratings.csv").read_text()
    (folder / "ratings.csv").write_text(rows, encoding="utf-16")
    repair = "found UTF-16; delimited text is UTF-8. Save the file again"
    (folder / "movies.csv").rename("movies.csv")
    for other in ("tags.csv", "links.csv"):
        (folder / other).unlink()
    alone = call("init", "files", "--yes")
    assert alone.exit_code == 2
    assert "FOLDER: found no table of interactions" in alone.stderr
    assert f"ratings.csv, line 1: {repair}" in alone.stderr
    (folder / "archive-history.csv").write_text(rows)
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert "data.interactions: found no proposal" in refused.stderr
    assert f"ratings.csv, line 1: {repair}" in refused.stderr
    assert "Repair ratings.csv, or move it elsewhere" in refused.stderr
    assert not Path("job.yaml").exists()
    done = call("init", "files", answers="archive-history.csv\ntimestamp\nleave_last_out\n")
    assert done.exit_code == 0, done.output
    assert f"ratings.csv, line 1: {repair}" in done.stderr
    assert "Not used: ratings.csv: " in done.stdout
    assert load_job("job.yaml").data.interactions == "archive-history.csv"
    (folder / "ratings.csv").rename("ratings.csv.away")
    assert call("init", "files", "--yes", "--force").exit_code == 0


def test_other_tables_that_cannot_be_read_are_named(folder: Path) -> None:
    """They cannot be the interactions, so nothing is asked."""
    write_movielens(folder)
    (folder / "titles.csv").write_text("movieId,title\n1,Film\n", encoding="utf-16")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert "Not used: titles.csv: " in done.stdout
    assert "titles.csv, line 1: found UTF-16" in done.stdout


def test_an_answer_that_is_missing_is_asked_for(folder: Path) -> None:
    write_movielens(folder)
    write_vectors(folder / "title_embeddings.parquet", "movieId", list(range(1, 30)))
    (folder / "movies.csv").unlink()
    done = call("init", "files", answers="ratings.csv\nratio\n\nkeep\n")
    assert done.exit_code == 0, done.output
    assert "no answer: not one of drop, keep" in done.stderr
    assert done.stderr.count("What becomes of 1 item(s) without features") == 1
    assert load_job("job.yaml").data.unknown_items == "keep"


def test_ids_that_begin_at_1_are_not_asked_about(folder: Path) -> None:
    """Either answer would give every item the vector of the next one."""
    rows = [f"{user},{item}" for user in range(9) for item in range(1, 21)]
    (folder / "clicks.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    np.save(folder / "image.npy", np.ones((20, 2), np.float32))
    for options in (["--yes"], []):
        refused = call("init", "files", *options, answers="drop\n")
        assert refused.exit_code == 2
        assert "image.npy: found item 20 without a row, and no item 0" in refused.stderr
        assert "Subtract 1 from every item id" in refused.stderr
        # Answers are not lost: the job needs no change once the files are corrected.
        assert Path("job.yaml").exists() == (not options)
    assert "job.yaml: written with your answers" in refused.stderr
    assert load_job("job.yaml").data.interactions == "clicks.csv"


def test_pictures_are_named_after_items(folder: Path) -> None:
    write_movielens(folder)
    (folder / "posters").mkdir()
    (folder / "posters/7.jpg").write_bytes(b"\xff\xd8\xff")
    assert call("init", "files", "--yes").exit_code == 0
    assert load_job("job.yaml").data.images == "posters/{item}.jpg"


@pytest.mark.parametrize(
    ("names", "images", "reason"),
    [
        (["photos/I3.jpg"], "photos/{item}.jpg", None),
        (["photos/i3.jpg"], None, "File names are case-sensitive: i3.jpg is not item I3"),
        (
            ["photos/beach.jpg"],
            None,
            "None is named after one of the 12 items that were looked at, such as I0",
        ),
        (
            ["a/beach.jpg", "photos/I3.JPG", "photos/x.jpg"],
            "photos/{item}.JPG",
            "a/{item}.jpg: pictures? None",
        ),
    ],
)
def test_pictures_of_no_item_are_left_out(
    folder: Path, names: list[str], images: str | None, reason: str | None
) -> None:
    users = [f"u{number % 5}" for number in range(24)]
    items = [f"I{number % 12}" for number in range(24)]
    pq.write_table(pa.table({"user_id": users, "item_id": items}), folder / "clicks.parquet")
    write_vectors(folder / "text.parquet", "item_id", sorted(set(items)))
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\xff\xd8\xff")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert load_job("job.yaml").data.images == images
    if reason is None:
        assert "pictures?" not in done.stdout
    else:
        assert reason in done.stdout
        assert "Not used: " in done.stdout


@pytest.mark.parametrize("ids", ["uuids", "decimals", "whole floats"])
def test_ids_of_other_types_than_integers_and_texts(folder: Path, ids: str) -> None:
    """What `validate` takes for ids is proposed as such."""
    numbers = [number % 12 for number in range(48)]
    users: list[object] = [number // 6 for number in range(48)]
    if ids == "uuids":
        items = pa.array([uuid.UUID(int=number).bytes for number in numbers], pa.binary(16))
    elif ids == "decimals":
        items = pa.array([decimal.Decimal(number) for number in numbers], pa.decimal128(38, 0))
    else:
        items = pa.array([*map(float, numbers), None])
        users.append(None)
    rating = [4.0] * len(users)
    pq.write_table(
        pa.table({"shopper": users, "item_id": items, "rating": rating}), folder / "clicks.parquet"
    )
    each = items.drop_null().unique()
    each = each.cast(pa.int64()) if ids == "whole floats" else each
    vectors = pa.array([[1.0, 2.0]] * len(each), pa.list_(pa.float32()))
    pq.write_table(pa.table({"item_id": each, "vector": vectors}), folder / "text.parquet")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    columns = load_job("job.yaml").data.columns
    assert (columns.user, columns.item) == ("shopper", "item_id")
    assert call("validate", "job.yaml").exit_code == 0


def test_files_without_a_reader_are_named_where_no_table_is_found(folder: Path) -> None:
    for name in ("clicks.xlsx", "a.json", "b.db", "c.txt"):
        (folder / name).write_text("x")
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert "no table of interactions, and no reader for a.json, b.db, c.txt and 1 more;" in refused.stderr
    assert "Parquet, JSON lines (.jsonl), or CSV" in refused.stderr
