"""`init` on folders as people have them: what it finds in headers, what it asks, and a job that `validate`
accepts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mmssl_dist.config import load_job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.readers.tabular import item_texts, values_of
from mmssl_dist.datasets.inventory import take_inventory
from mmssl_dist.storage import open_location
from tests.unit.app.folders import call, write_movielens, write_vectors


def test_movielens_with_embedded_titles(folder: Path) -> None:
    write_movielens(folder)
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    job = yaml.safe_load(Path("job.yaml").read_text())
    assert job["output"] == "runs/files"
    assert job["data"] == {
        "path": "files",
        "interactions": "ratings.csv",
        "columns": {"user": "userId", "item": "movieId", "time": "timestamp"},
        "modalities": {
            "title": {"file": "title_embeddings.parquet", "item": "movieId", "vector": "embedding"}
        },
        "titles": "movies.csv",
        "split": {"method": "leave_last_out"},
    }
    comments = [line for line in Path("job.yaml").read_text().splitlines() if "Not used" in line]
    assert [line.split(": ")[1] for line in comments] == [
        "README.txt",
        "tags.csv",
        "links.csv, columns imdbId, tmdbId",
        "ratings.csv, column rating",
    ]
    assert "# facts: {table: movies.csv, item: movieId, features: {genres: tags}" in done.output
    assert "data: 20 users, 30 items, 240 interactions" in done.output
    checked = call("validate", "job.yaml")
    assert checked.exit_code == 0, checked.output
    assert "valid; 3 raw files found" in checked.output


def test_columns_of_items_stand_in_for_vectors(folder: Path) -> None:
    write_movielens(folder)
    (folder / "title_embeddings.parquet").unlink()
    rows = [f"{movie},Film {movie},{'ab'[movie % 2]},{movie}.5,x" for movie in range(1, 31)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,Brand,price,note", *rows]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(Path("job.yaml").read_text())["data"]["modalities"] == {
        "facts": {
            "table": "movies.csv",
            "item": "movieId",
            "features": {"Brand": "category", "price": "number"},
        }
    }
    unused = [line for line in Path("job.yaml").read_text().splitlines() if "Not used: movies" in line]
    assert [line.split(": ")[1] for line in unused] == ["movies.csv, column note"]
    assert "separator" not in done.stdout  # which is of tags alone
    assert call("validate", "job.yaml").exit_code == 0
    (folder / "movies.csv").write_text((folder / "movies.csv").read_text().replace("note", "tags", 1))
    done = call("init", "files", "--yes", "--force")
    assert done.exit_code == 0, done.output
    assert "separator: between the tags of a text" in done.stdout


@pytest.mark.parametrize(
    ("tags", "separator", "read"),
    [
        ("Action|Comedy, dark", "|", ["Action", "Comedy, dark"]),
        ("Action; Comedy", ";", ["Action", "Comedy"]),
        ("Action, Comedy", ",", ["Action", "Comedy"]),
        ("Action", ",", ["Action"]),
        ('"[""Action"", ""Comedy, dark""]"', ",", ["Action", "Comedy, dark"]),
    ],
)
def test_the_separator_of_tags_is_the_one_that_they_have(
    folder: Path, tags: str, separator: str, read: list[str]
) -> None:
    write_movielens(folder)
    (folder / "title_embeddings.parquet").unlink()
    quoted = tags if tags.startswith('"') else f'"{tags}"'
    rows = [f'{movie},{quoted if movie % 3 else "Drama"},"{movie},50 €"' for movie in range(1, 31)]
    (folder / "movies.csv").write_text("\n".join(["movieId,genres,price", *rows]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    facts = load_job("job.yaml").data.modalities["facts"]
    assert (facts.separator, facts.features) == (separator, {"genres": "tags"})
    first = next(csv.DictReader((folder / "movies.csv").open()))["genres"]
    texts = item_texts({"genres": pa.array([first])}, facts, (), str)
    assert values_of(texts[0].as_py()) == {"genres": sorted(read)}
    assert (
        "# Not used: movies.csv, column price: a price? Numbers are written in digits"
        in Path("job.yaml").read_text()
    )


def test_tags_that_cannot_be_read_are_named(folder: Path) -> None:
    write_movielens(folder)
    (folder / "title_embeddings.parquet").unlink()
    rows = [f"{movie},\"[{{'id': 16, 'name': 'Drama'}}]\",{movie}.5" for movie in range(1, 31)]
    (folder / "movies.csv").write_text("\n".join(["movieId,genres,price", *rows]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert load_job("job.yaml").data.modalities["facts"].features == {"price": "number"}
    assert (
        "# Not used: movies.csv, column genres: tags? Lists in a text must be JSON"
        in Path("job.yaml").read_text()
    )


@pytest.mark.parametrize(
    ("first", "second", "separator", "features"),
    [
        ("a;b", "x|y", ";", {"tags": "tags"}),
        ("single", "a|b", "|", {"tags": "tags", "genres": "tags"}),
        ("[a, b]", "x|y", "|", {"genres": "tags"}),
    ],
)
def test_tags_with_another_separator_are_named(
    folder: Path, first: str, second: str, separator: str, features: dict[str, str]
) -> None:
    write_movielens(folder)
    (folder / "title_embeddings.parquet").unlink()
    rows = [f'{movie},"{first}",{second}' for movie in range(1, 31)]
    (folder / "movies.csv").write_text("\n".join(["movieId,tags,genres", *rows]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    facts = load_job("job.yaml").data.modalities["facts"]
    assert (facts.separator, facts.features) == (separator, features)
    written = Path("job.yaml").read_text()
    for name in {"tags", "genres"} - set(features):
        assert f"# Not used: movies.csv, column {name}: tags" in written


@pytest.mark.parametrize("name", ["movies.parquet", "movies.jsonl"])
def test_lists_are_tags_without_a_separator(folder: Path, name: str) -> None:
    write_movielens(folder)
    (folder / "title_embeddings.parquet").unlink()
    (folder / "movies.csv").unlink()
    rows = [{"movieId": movie, "categories": ["a", "b"][: 1 + movie % 2]} for movie in range(1, 31)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    settings = yaml.safe_load(Path("job.yaml").read_text())["data"]["modalities"]["facts"]
    assert settings == {"table": name, "item": "movieId", "features": {"categories": "tags"}}
    assert call("validate", "job.yaml").exit_code == 0


def test_columns_beside_users_are_no_features_of_items(folder: Path) -> None:
    rows = [
        f"{user},{item},{100 * user + item},{item}.5" for user in range(20) for item in range(user % 5, 20)
    ]
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text("\n".join(["user_id,item_id,timestamp,price", *rows]) + "\n")
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert (
        "no feature vectors (test.csv: contains a user column beside price: values of interactions"
        in refused.stderr
    )
    (folder / "buys.csv").write_text("customer,item_id,price\n1,2,3.5\n1,2,4.5\n")
    items = [f"{item},{'ab'[item % 2]},{item}.5" for item in range(20)]
    (folder / "items.csv").write_text("\n".join(["item_id,category,price", *items]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    modalities = yaml.safe_load(Path("job.yaml").read_text())["data"]["modalities"]
    assert modalities["facts"]["table"] == "items.csv"


def test_recbole_with_the_matrices_of_mmrec(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["userID:token\titemID:token\trating:float\ttimestamp:float\tx_label:float"]
    for user in range(12):
        for step, item in enumerate(rng.choice(15, 8, replace=False)):
            lines.append(f"{user}\t{item}\t1.0\t{1.5e9 + step}\t{(0, 0, 0, 0, 0, 0, 1, 2)[step]}")
    (folder / "baby.inter").write_text("\n".join(lines) + "\n")
    np.save(folder / "image_feat.npy", rng.normal(size=(15, 4)).astype(np.float32))
    np.save(folder / "text_feat.npy", rng.normal(size=(15, 3)).astype(np.float32))
    np.save(folder / "user_graph_dict.npy", np.array({"a": 1}, dtype=object))
    done = call("init", "files", "--yes", "--job", "jobs/baby.yaml", "--output", "runs/baby")
    assert done.exit_code == 0, done.output
    job = load_job("jobs/baby.yaml")
    assert (job.data.layout, job.data.interactions, job.data.split.method) == ("inter", "baby.inter", "given")
    assert (job.data.columns.user, job.data.columns.item) == ("userID", "itemID")
    assert {name: modality.file for name, modality in job.data.modalities.items()} == {
        "image": "image_feat.npy",
        "text": "text_feat.npy",
    }
    assert job.output == "runs/baby"
    assert "user_graph_dict.npy" in Path("jobs/baby.yaml").read_text()
    checked = call("validate", "jobs/baby.yaml")
    assert checked.exit_code == 0, checked.output


def test_parquet_of_pandas_in_parts(folder: Path) -> None:
    """Text ids, timestamps, folders by day, and a table with two embeddings and titles."""
    rng = np.random.default_rng(0)
    skus = [f"s{number}" for number in range(20)]
    for day in (1, 2):
        part = folder / "events" / f"day=2026-01-0{day}"
        part.mkdir(parents=True)
        pd.DataFrame(
            {
                "shopper": rng.choice([f"c{number}" for number in range(15)], 200),
                "sku": rng.choice(skus, 200),
                "seen": pd.date_range(f"2026-01-0{day}", periods=200, freq="s"),
                "price": rng.random(200),
            }
        ).to_parquet(part / "part-0.parquet")
    products = {
        "sku": skus,
        "clip_emb": list(rng.normal(size=(20, 5)).astype(np.float32)),
        "text_emb": list(rng.normal(size=(20, 6)).astype(np.float32)),
        "title": [f"Shirt {number}" for number in range(20)],
    }
    pd.DataFrame(products).to_parquet(folder / "products.parquet")
    # "shopper" is no name that init knows: it is the only other column of ids; "seen" and "day" are moments
    done = call("init", "files", answers="seen\ntemporal\n")
    assert done.exit_code == 0, done.output
    data = load_job("job.yaml").data
    assert (data.interactions, data.titles) == ("events", "products.parquet")
    assert (data.columns.user, data.columns.item, data.columns.time) == ("shopper", "sku", "seen")
    assert {name: modality.vector for name, modality in data.modalities.items()} == {
        "clip": "clip_emb",
        "text": "text_emb",
    }
    assert data.split.method == "temporal"
    assert call("validate", "job.yaml").exit_code == 0


def test_files_with_numbers_are_parts_of_one_table(folder: Path) -> None:
    for part in range(3):
        rows = [f"u{user},i{(user + step + part) % 10}" for user in range(8) for step in range(4)]
        (folder / f"clicks-{part:02d}.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    write_vectors(folder / "image.parquet", "item", [f"i{number}" for number in range(10)])
    assert call("init", "files", "--yes").exit_code == 0
    data = load_job("job.yaml").data
    assert (data.interactions, data.split.method) == ("clicks-*.csv", "ratio")
    assert call("validate", "job.yaml").exit_code == 0


def test_what_names_do_not_tell_is_asked(folder: Path) -> None:
    rows = [f"{a},{(a + step) % 9},{a % 3}" for a in range(9) for step in range(5)]
    (folder / "clicks.csv").write_text("\n".join(["alpha,beta,gamma", *rows]) + "\n")
    np.save(folder / "image.npy", np.ones((9, 2), np.float32))
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert "data.columns.item: found no proposal" in refused.stderr
    assert "alpha, beta, gamma" in refused.stderr
    assert not Path("job.yaml").exists()
    unanswered = call("init", "files", answers="delta\n")
    assert unanswered.exit_code == 2
    assert "delta: not one of alpha, beta, gamma" in unanswered.stderr
    assert "found no answer" in unanswered.stderr
    answered = call("init", "files", answers="beta\nalpha\n")
    assert answered.exit_code == 0, answered.output
    columns = load_job("job.yaml").data.columns
    assert (columns.user, columns.item) == ("alpha", "beta")


def test_items_without_features_are_asked_about(folder: Path) -> None:
    write_movielens(folder)
    write_vectors(folder / "title_embeddings.parquet", "movieId", list(range(1, 30)))
    rows = (folder / "movies.csv").read_text()
    (folder / "movies.csv").unlink()
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert "data.unknown_items: found 1 item(s) without features" in refused.stderr
    assert not Path("job.yaml").exists()
    done = call("init", "files", answers="ratings.csv\nratio\nkeep\n")
    assert done.exit_code == 0, done.output
    assert load_job("job.yaml").data.unknown_items == "keep"
    # Without a terminal, the error says how to answer, and that is enough.
    assert "Call init with --unknown-items drop, or with keep." in refused.stderr
    dropped = call("init", "files", "--job", "my job.yaml", "--yes", "--unknown-items", "drop")
    assert dropped.exit_code == 0, dropped.stderr
    assert dropped.stdout.endswith("next: mmssl-dist run 'my job.yaml'\n")
    assert load_job("my job.yaml").data.unknown_items == "drop"
    # Other columns of items stand in for vectors that are missing.
    (folder / "movies.csv").write_text(rows)
    added = call("init", "files", "--job", "added.yaml", "--yes")
    assert added.exit_code == 0, added.stderr
    data = load_job("added.yaml").data
    assert list(data.modalities) == ["title", "facts"]
    assert data.unknown_items == "error"
    assert "some items have no vectors" in added.stdout


def test_a_file_that_exists_is_kept(folder: Path) -> None:
    write_movielens(folder)
    Path("job.yaml").write_text("mine\n")
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert "overwrite it with --force" in refused.stderr
    assert Path("job.yaml").read_text() == "mine\n"
    assert call("init", "files", "--yes", "--force").exit_code == 0
    assert load_job("job.yaml").data.path == "files"
    assert sorted(path.name for path in Path().iterdir()) == ["files", "job.yaml"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("title_embeddings.parquet", None, "found no feature vectors"),
        ("ratings.csv", "when,what\n2026-01-01,1.5\n", "found no table of interactions"),
        ("ratings.csv", "userId,movieId,timestamp\n1,2,3\n1,x,3\n", "they are integers in"),
    ],
)
def test_what_no_job_can_read_is_refused(folder: Path, name: str, content: str | None, message: str) -> None:
    write_movielens(folder)
    for other in ("tags.csv", "links.csv", "movies.csv"):
        (folder / other).unlink()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    done = call("init", "files", "--yes")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not Path("job.yaml").exists()


@pytest.mark.usefixtures("folder")
def test_no_such_folder() -> None:
    done = call("init", "elsewhere", "--yes")
    assert done.exit_code == 2
    assert "the folder must exist" in done.stderr


def test_the_release_of_mmssl(folder: Path) -> None:
    (folder / "train.json").write_text('{"0": [0, 1, 2], "1": [1, 2], "2": [0, 3], "3": [3, 1]}')
    (folder / "val.json").write_text('{"0": [3]}')
    (folder / "test.json").write_text('{"1": [0]}')
    np.save(folder / "image_feat.npy", np.ones((4, 2), np.float32))
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    data = load_job("job.yaml").data
    assert (data.layout, data.split.method, data.interactions) == ("mmssl", "given", None)
    assert call("validate", "job.yaml").exit_code == 0


def test_a_glob_or_folder_stands_only_for_the_files_that_it_reads(folder: Path) -> None:
    """A file of another name or in a folder below would be read with them."""
    root = open_location(str(folder), Storage())
    (folder / "log").mkdir()
    (folder / "log/old").mkdir()
    for name in ("events-1.csv", "events-2.csv", "log/a.csv", "log/b.csv"):
        (folder / name).write_text("user_id,item_id\n1,2\n")
    assert [table.name for table in take_inventory(root).tables] == ["events-*.csv", "log"]
    for name in ("events-x.csv", "log/old/c.csv"):
        (folder / name).write_text("user,thing\n1,2\n")
    names = {
        "events-1.csv",
        "events-2.csv",
        "events-x.csv",
        "log/a.csv",
        "log/b.csv",
        "log/old",
        "log/old/c.csv",
    }
    assert {table.name for table in take_inventory(root).tables} <= names


def test_suffixes_in_capitals(folder: Path) -> None:
    """Readers know tables by small letters, and images by any."""
    (folder / "RATINGS.CSV").write_text("user_id,item_id\n1,2\n")
    (folder / "1.JPG").write_bytes(b"")
    inventory = take_inventory(open_location(str(folder), Storage()))
    assert list(inventory.unusable) == ["RATINGS.CSV"]
    assert [images.pattern for images in inventory.images] == ["{item}.JPG"]


@pytest.mark.parametrize("name", ["a\x85b", "a\u2028b", "ü: #'\"", "\x1b[31mred"])
def test_any_column_name_survives_the_yaml(folder: Path, name: str) -> None:
    pq.write_table(pa.table({name: [1, 2, 3] * 4, "item_id": range(12)}), folder / "clicks.parquet")
    write_vectors(folder / "image.parquet", "item_id", list(range(12)))
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert load_job(Path("job.yaml")).data.columns.user == name
