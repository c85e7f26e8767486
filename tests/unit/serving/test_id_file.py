"""Files of ids are read as interactions are, from a disk and from object storage."""

from __future__ import annotations

import gzip
import json
import uuid

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.serving.id_file import open_id_file
from mmssl_dist.storage import open_location
from tests.servers import REGION, client, moto_server, upload

NAMES = ["users[1].parquet", "_users.parquet", ".users.parquet", "u*.parquet", "day=1/u[a-z].parquet"]


def users_in(path, storage=None):
    source = open_id_file(open_location(str(path), storage or Storage()), ["user_id"], "--users")
    return [user for piece in source.pieces for table in source.read(piece) for user in table["user_id"]]


def texts(users):
    return [user.as_py() for user in users]


def write(folder, name, users):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"user_id": users}), path, row_group_size=2)
    else:
        delimiter = "\t" if ".tsv" in name else ","
        lines = [f"n{delimiter}user_id", *(f'"a{delimiter}\n"{delimiter}{user}' for user in users)]
        text = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("name", [*NAMES, "[u].csv", "_u.csv.gz", "u.tsv", "_u[1].tsv.gz"])
def test_a_name_is_taken_as_it_is(tmp_path, name):
    write(tmp_path, name.replace("[1]", "1").replace("*", "x"), ["another"])  # what the name means as a glob
    assert texts(users_in(write(tmp_path, name, ["u2", " u1 ", "007"]))) in (
        ["u2", "u1", "007"],  # spaces around a text in CSV are no part of it
        ["u2", " u1 ", "007"],
    )


def test_json_lines(tmp_path):
    (tmp_path / "u.jsonl").write_text('{"user_id": "u2"}\n{"user_id": 7, "n": {"x": 1}}\n{"n": 1}\n')
    assert texts(users_in(tmp_path / "u.jsonl")) == ["u2", "7", None]


@pytest.mark.parametrize("name", ["u.csv", "u.tsv", "u.jsonl", "u.parquet"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [(["customer"], "customer"), (["customer", "user_id"], "user_id"), (["n", "user_id"], "user_id")],
)
def test_the_first_of_several_names_that_a_file_has(tmp_path, name, written, expected):
    table = pa.table({column: [f"{column} a", f"{column} b"] for column in written})
    if name.endswith("parquet"):
        pq.write_table(table, tmp_path / name)
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        options = pacsv.WriteOptions(delimiter="\t" if name.endswith("tsv") else ",")
        pacsv.write_csv(table, tmp_path / name, options)
    file = open_id_file(open_location(str(tmp_path / name), Storage()), ["user_id", "customer"], "--users")
    assert file.column == expected
    assert file.ids().to_pylist() == [f"{expected} a", f"{expected} b"]


@pytest.mark.parametrize("name", ["u.csv", "u.parquet"])
def test_a_file_without_any_of_the_names_says_which_there_may_be(tmp_path, name):
    table = pa.table({"n": ["a"]})
    (pacsv.write_csv if name.endswith("csv") else pq.write_table)(table, tmp_path / name)
    location = open_location(str(tmp_path / name), Storage())
    with pytest.raises(InputError, match=r"a column user_id is needed.* \(customer is accepted too\)"):
        open_id_file(location, ["user_id", "customer"], "--users")


@pytest.mark.processes
def test_names_in_object_storage(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for number, name in enumerate([*NAMES, "_u[1].csv"]):
        write(tmp_path, name, [f"u{number}"])
    with moto_server() as endpoint:
        client(endpoint).create_bucket(Bucket="lists")
        upload(endpoint, "lists", tmp_path, "_raw[1]")
        storage = Storage(endpoint=endpoint, region=REGION, path_style=True)
        for number, name in enumerate([*NAMES, "_u[1].csv"]):
            assert texts(users_in(f"s3://lists/_raw[1]/{name}", storage)) == [f"u{number}"]


@pytest.mark.parametrize(
    "users",
    [
        pa.array([3, 1, None]),
        pa.array(["b", "a"]).dictionary_encode(),
        pa.array(["b", "a"], pa.large_string()),
        pa.array([uuid.UUID(int=5).bytes], pa.uuid()),
        pa.array([1.5, 2.0], pa.float16()),
    ],
)
def test_types_of_parquet(tmp_path, users):
    assert texts(users_in(write(tmp_path, "u.parquet", users))) == users.to_pylist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('user_id,n\nu1,"open\nu2,x\nu3,"y"\n', "line 2: found a quote that closes in line 4, before 'y"),
        ("user_id\n", "u.csv: found no row; a file of ids must have at least one"),
        ("user,n\nu1,1\n", "line 1: found columns user, n; a column user_id is needed"),
        ("user_id,user_id\nu1,1\n", "line 1: found 2 columns user_id; column names must be unique"),
        ("", "line 1: found nothing; the first line names the columns"),
    ],
)
def test_bad_text(tmp_path, text, message):
    (tmp_path / "u.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        users_in(tmp_path / "u.csv")
    assert message in str(caught.value)


def test_bad_parquet(tmp_path):
    for name, table, message in (
        ("none", pa.table({"user_id": pa.array([], pa.string())}), "found no row"),
        ("other", pa.table({"user": ["a"]}), "a column user_id is needed"),
    ):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=message):
            users_in(tmp_path / f"{name}.parquet")
    (tmp_path / "text.parquet").write_text("u1\n")
    with pytest.raises(InputError, match="the file must be readable Parquet"):
        users_in(tmp_path / "text.parquet")
    for missing in (tmp_path, tmp_path / "nowhere.parquet"):
        with pytest.raises(InputError, match="one file with a column user_id"):
            users_in(missing)
