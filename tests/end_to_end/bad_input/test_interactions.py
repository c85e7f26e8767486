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
        name="an unknown item",
        message="data.unknown_items: found 1 item(s) without features, in 1 interaction(s): "
        f"{ITEMS} (raw/{FILE}, row {ITEMS})",
        command=_prepare(),
        spoil=lambda folder: write_interactions(folder, [(0, item) for item in range(ITEMS + 1)]),
    ),
    Case(
        name="no Parquet",
        message=f"raw/{FILE}: found Parquet magic bytes not found in footer",
        command=_prepare(),
        spoil=content(f"raw/{FILE}", b"this is text"),
    ),
    Case(
        name="a missing column",
        message=f"raw/{FILE}: found columns user_id, item; a column item_id is needed",
        command=_prepare(),
        spoil=parquet(FILE, user_id=[1], item=[1]),
    ),
    Case(
        name="nested ids",
        message=f"raw/{FILE}, column user_id: found type list<element: int64>; ids are",
        command=_prepare(),
        spoil=parquet(FILE, user_id=[[1], [2]], item_id=[0, 1]),
    ),
    Case(
        name="ids of another type than the features'",
        message=f"raw/{FILE}, column item_id: found ids of type string; item ids have one type",
        command=_prepare(),
        spoil=parquet(FILE, user_id=[1, 2], item_id=["a", "b"]),
    ),
    Case(
        name="an id too large",
        message=f"raw/{FILE}, row 1: found 9223372036854775808; ids of this column are integers that "
        "fit into int64",
        command=_prepare(),
        spoil=parquet(FILE, user_id=[1, 2], item_id=pa.array([0, 2**63], pa.uint64())),
    ),
    Case(
        name="an id with a fraction",
        message=f"raw/{FILE}, row 1: found 1.5; ids are integers or text",
        command=_prepare(),
        spoil=parquet(FILE, user_id=[1.0, 1.5], item_id=[0, 1]),
    ),
    Case(
        name="an item that is no number in a CSV",
        message="raw/log.csv, line 3: found '007'; ids of this column are integers, since they are "
        "integers in",
        command=CSV,
        spoil=_csv("user_id,item_id\n1,0\n1,007\n"),
    ),
    Case(
        name="dates beside numbers",
        message="raw/log.csv, line 3: found the number '1609459200'; times are numbers, dates or ISO "
        "timestamps, all",
        command=(*CSV, "--set", "data.columns.time=at"),
        spoil=_csv("user_id,item_id,at\n1,0,2020-01-01\n1,1,1609459200\n"),
    ),
    Case(
        name="no row",
        message=f"raw/{FILE}: found no interactions; there must be something to train on",
        command=_prepare(),
        spoil=parquet(FILE, user_id=pa.array([], pa.int64()), item_id=pa.array([], pa.int64())),
    ),
    Case(
        name="no user with an id",
        message=f"raw/{FILE}: found no interactions; there must be something to train on",
        command=_prepare(),
        spoil=parquet(FILE, user_id=pa.array([None, None], pa.int64()), item_id=[0, 1]),
    ),
    Case(
        name="no validation",
        message="data.split: found no validation interactions with method leave_last_out",
        command=_prepare("data.split.method=leave_last_out", "data.columns.time=item_id"),
        spoil=parquet(FILE, **IDS),
    ),
    Case(
        name="an infinite time",
        message=f"raw/{FILE}, row 1: found inf; times are finite",
        command=_prepare("data.columns.time=at"),
        spoil=parquet(FILE, **IDS, at=[1.0, float("inf")]),
    ),
    Case(
        name="a split that is none",
        message=f"raw/{FILE}, row 1: found 'dev'; a split is 0, 1, 2 or train, validation, test",
        command=_prepare("data.split.method=given", "data.columns.split=part"),
        spoil=parquet(FILE, **IDS, part=["train", "dev"]),
    ),
    Case(
        name="a split of lists",
        message=f"raw/{FILE}, row 0: found a split of type list<element: int64>; a split is 0, 1, 2",
        command=_prepare("data.split.method=given", "data.columns.split=part"),
        spoil=parquet(FILE, **IDS, part=[[0], [1]]),
    ),
    Case(
        name="a CSV of another shape",
        message="raw/log.csv, line 3: found CSV parse error: Expected 2 columns, got 3",
        command=CSV,
        spoil=_csv("user_id,item_id\n1,2\n1,2,3\n"),
    ),
    Case(
        name="a CSV of other columns",
        message="raw/log.csv, line 1: found columns user, item; columns user_id, item_id are needed",
        command=CSV,
        spoil=_csv("user,item\n1,2\n"),
    ),
    Case(
        name="a column twice",
        message="raw/log.csv, line 1: found 2 columns user_id; column names must be unique",
        command=CSV,
        spoil=_csv("user_id,user_id,item_id\n1,2,3\n"),
    ),
    Case(
        name="no row below the header",
        message="raw/log.csv: found no row below the header; interactions have at least one",
        command=CSV,
        spoil=_csv("user_id,item_id\n"),
    ),
    Case(
        name="an empty CSV",
        message="raw/log.csv, line 1: found nothing; the first line names the columns",
        command=CSV,
        spoil=_csv(""),
    ),
    Case(
        name="not UTF-8",
        message="raw/log.csv, line 2: found the byte(s) ff",
        command=CSV,
        spoil=content("raw/log.csv", b"user_id,item_id\n\xff,1\n"),
    ),
    Case(
        name="half a gzip",
        message="raw/log.csv.gz: found Truncated compressed stream",
        command=_prepare("data.interactions=log.csv.gz"),
        spoil=content("raw/log.csv.gz", gzip.compress(b"user_id,item_id\n" + b"1,2\n" * 1000)[:-20]),
    ),
    Case(
        name="JSON of another shape",
        message="raw/train.json: found list; the file maps users to lists of items",
        command=RELEASE,
        spoil=_release("[1]"),
    ),
    Case(
        name="a user twice",
        message="raw/train.json: found the key '3' a second time; the file must be JSON",
        command=RELEASE,
        spoil=_release('{"3": [1], "3": [2]}'),
    ),
    Case(
        name="deep JSON",
        message="raw/train.json: found maximum recursion depth exceeded",
        command=RELEASE,
        spoil=_release("[" * 100_000),
    ),
    Case(
        name="a user that is no number",
        message="raw/train.json: found key '../x'; users are row numbers",
        command=RELEASE,
        spoil=_release('{"../x": [1]}'),
    ),
]


@patient
@named(CASES)
def test_bad_interactions(bench: Bench, case: Case) -> None:
    bench.check(case)
