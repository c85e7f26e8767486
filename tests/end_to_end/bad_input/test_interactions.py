"""Interactions that cannot be used: found by the readers in Ray tasks, or by the command before any."""

from __future__ import annotations

import gzip

import pyarrow as pa

from tests.end_to_end.bad_input.matrix import Bench, Case, Spoil, named, patient
from tests.end_to_end.bad_input.matrix_files import ITEMS, content, parquet, write_interactions

FILE = "interactions.parquet"


def _prepare(*sets: str) -> tuple[str, ...]:
    options = [word for override in sets for word in ("--set", override)]
    return ("prepare", "JOB", "--address", "RAY", *options)


def _csv(text: str) -> Spoil:
    return content("raw/log.csv", text.encode())


def _release(train: str) -> Spoil:
    def write(folder):
        for name in ("train", "val", "test"):
            (folder / f"raw/{name}.json").write_text(train if name == "train" else '{"0": [1]}')

    return write


IDS = {"user_id": [1, 2], "item_id": [0, 1]}
CSV = _prepare("data.interactions=log.csv")
RELEASE = _prepare("data.layout=mmssl", "data.split.method=given")
CASES = [
    Case(
        "an unknown item",
        "data.unknown_items: found 1 item(s) without features, in 1 interaction(s): "
        f"{ITEMS} (raw/{FILE}, row {ITEMS})",
        _prepare(),
        lambda folder: write_interactions(folder, [(0, item) for item in range(ITEMS + 1)]),
    ),
    Case(
        "no Parquet",
        f"raw/{FILE}: found Parquet magic bytes not found in footer",
        _prepare(),
        content(f"raw/{FILE}", b"this is text"),
    ),
    Case(
        "a missing column",
        f"raw/{FILE}: found columns user_id, item; a column item_id is needed",
        _prepare(),
        parquet(FILE, user_id=[1], item=[1]),
    ),
    Case(
        "nested ids",
        f"raw/{FILE}, column user_id: found type list<element: int64>; ids are",
        _prepare(),
        parquet(FILE, user_id=[[1], [2]], item_id=[0, 1]),
    ),
    Case(
        "ids of another type than the features'",
        f"raw/{FILE}, column item_id: found ids of type string; item ids have one type",
        _prepare(),
        parquet(FILE, user_id=[1, 2], item_id=["a", "b"]),
    ),
    Case(
        "an id too large",
        f"raw/{FILE}, row 1: found 9223372036854775808; ids of this column are integers that fit into int64",
        _prepare(),
        parquet(FILE, user_id=[1, 2], item_id=pa.array([0, 2**63], pa.uint64())),
    ),
    Case(
        "an id with a fraction",
        f"raw/{FILE}, row 1: found 1.5; ids are integers or text",
        _prepare(),
        parquet(FILE, user_id=[1.0, 1.5], item_id=[0, 1]),
    ),
    Case(
        "an item that is no number in a CSV",
        "raw/log.csv, line 3: found '007'; ids of this column are integers, since they are integers in",
        CSV,
        _csv("user_id,item_id\n1,0\n1,007\n"),
    ),
    Case(
        "dates beside numbers",
        "raw/log.csv, line 3: found the number '1609459200'; times are numbers, dates or ISO timestamps, all",
        (*CSV, "--set", "data.columns.time=at"),
        _csv("user_id,item_id,at\n1,0,2020-01-01\n1,1,1609459200\n"),
    ),
    Case(
        "no row",
        f"raw/{FILE}: found no interactions; there must be something to train on",
        _prepare(),
        parquet(FILE, user_id=pa.array([], pa.int64()), item_id=pa.array([], pa.int64())),
    ),
    Case(
        "no user with an id",
        f"raw/{FILE}: found no interactions; there must be something to train on",
        _prepare(),
        parquet(FILE, user_id=pa.array([None, None], pa.int64()), item_id=[0, 1]),
    ),
    Case(
        "no validation",
        "data.split: found no validation interactions with method leave_last_out",
        _prepare("data.split.method=leave_last_out", "data.columns.time=item_id"),
        parquet(FILE, **IDS),
    ),
    Case(
        "an infinite time",
        f"raw/{FILE}, row 1: found inf; times are finite",
        _prepare("data.columns.time=at"),
        parquet(FILE, **IDS, at=[1.0, float("inf")]),
    ),
    Case(
        "a split that is none",
        f"raw/{FILE}, row 1: found 'dev'; a split is 0, 1, 2 or train, validation, test",
        _prepare("data.split.method=given", "data.columns.split=part"),
        parquet(FILE, **IDS, part=["train", "dev"]),
    ),
    Case(
        "a split of lists",
        f"raw/{FILE}, row 0: found a split of type list<element: int64>; a split is 0, 1, 2",
        _prepare("data.split.method=given", "data.columns.split=part"),
        parquet(FILE, **IDS, part=[[0], [1]]),
    ),
    Case(
        "a CSV of another shape",
        "raw/log.csv, line 3: found CSV parse error: Expected 2 columns, got 3",
        CSV,
        _csv("user_id,item_id\n1,2\n1,2,3\n"),
    ),
    Case(
        "a CSV of other columns",
        "raw/log.csv, line 1: found columns user, item; columns user_id, item_id are needed",
        CSV,
        _csv("user,item\n1,2\n"),
    ),
    Case(
        "a column twice",
        "raw/log.csv, line 1: found 2 columns user_id; column names must be unique",
        CSV,
        _csv("user_id,user_id,item_id\n1,2,3\n"),
    ),
    Case(
        "no row below the header",
        "raw/log.csv: found no row below the header; interactions have at least one",
        CSV,
        _csv("user_id,item_id\n"),
    ),
    Case(
        "an empty CSV", "raw/log.csv, line 1: found nothing; the first line names the columns", CSV, _csv("")
    ),
    Case(
        "not UTF-8",
        "raw/log.csv, line 2: found the byte(s) ff",
        CSV,
        content("raw/log.csv", b"user_id,item_id\n\xff,1\n"),
    ),
    Case(
        "half a gzip",
        "raw/log.csv.gz: found Truncated compressed stream",
        _prepare("data.interactions=log.csv.gz"),
        content("raw/log.csv.gz", gzip.compress(b"user_id,item_id\n" + b"1,2\n" * 1000)[:-20]),
    ),
    Case(
        "JSON of another shape",
        "raw/train.json: found list; the file maps users to lists of items",
        RELEASE,
        _release("[1]"),
    ),
    Case(
        "a user twice",
        "raw/train.json: found the key '3' a second time; the file must be JSON",
        RELEASE,
        _release('{"3": [1], "3": [2]}'),
    ),
    Case(
        "deep JSON",
        "raw/train.json: found maximum recursion depth exceeded",
        RELEASE,
        _release("[" * 100_000),
    ),
    Case(
        "a user that is no number",
        "raw/train.json: found key '../x'; users are row numbers",
        RELEASE,
        _release('{"../x": [1]}'),
    ),
]


@patient
@named(CASES)
def test_bad_interactions(bench: Bench, case: Case) -> None:
    bench.check(case)
