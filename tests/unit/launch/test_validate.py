"""`validate`: all problems at once, and what is in the raw files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.launch import input_check
from tests.unit.launch.raw_folder import ITEMS, PAIRS, write_log, write_raw, write_vectors


def validate(folder: Path, *sets: str) -> tuple[int, str]:
    options = [word for override in sets for word in ("--set", override)]
    done = CliRunner().invoke(app, ["validate", f"{folder}/job.yaml", *options])
    return done.exit_code, done.output.replace(f"{folder}/", "")


def test_it_shows_what_the_files_hold(tmp_path):
    write_raw(tmp_path)
    status, output = validate(tmp_path)
    assert status == 0, output
    lines = output.splitlines()
    assert "data: 20 users, 10 items, 160 interactions" in lines
    assert "data: features: image 3 wide, text 2 wide, audio 2 wide for 9 items" in lines
    assert "data: ids: int64 of users, int64 of items" in lines
    assert "data: times: 1,000 to 1,059" in lines
    assert "read: every row, as prepare does" in lines
    assert lines[-1] == "valid; 6 raw files found"
    assert not (tmp_path / "out").exists()


def test_rows_that_lack_an_id_have_no_time(tmp_path, monkeypatch):
    raw = write_raw(tmp_path)
    # One file has such rows alone.
    write_log(raw, 0, [None, 1, 2, 3], [1, None, 3, 4], at=[5, 6, 1020, 1030])
    write_log(raw, 1, pa.nulls(2, pa.int64()), [1, 2], at=[7, 8])
    for whole_bytes in (1 << 26, 0):
        monkeypatch.setattr(input_check, "WHOLE_BYTES", whole_bytes)
        status, output = validate(tmp_path)
        assert status == 0, output
        assert "data: times: 1,000 to 1,059" in output


def test_all_problems_of_the_yaml_and_all_missing_files_are_named_together(tmp_path):
    raw = write_raw(tmp_path)
    (raw / "image.npy").unlink()
    (raw / "audio.parquet").unlink()
    status, output = validate(tmp_path, "zebra=1", "training.epochs=none", "scaling.workers=9")
    assert status == 2
    first, *lines = output.splitlines()
    assert first == "error: job.yaml: 5 problem(s)"
    for start in (
        "zebra: unknown key",
        "training.epochs: found 'none'",
        "scaling.workers: found 9; must be at most partition.parts",
        "raw/image.npy: found no such file",
        "raw/audio.parquet: found no such file",
    ):
        assert sum(line.strip().startswith(start) for line in lines) == 1, start


def test_every_bad_header_is_named(tmp_path):
    raw = write_raw(tmp_path)
    for number in (0, 2):
        pq.write_table(pa.table({"user": [1], "item_id": [1], "at": [1]}), raw / f"log/part-{number}.parquet")
    (raw / "image.npy").write_bytes(b"nothing of NumPy's")
    write_vectors(raw, "text", range(ITEMS), vector=["1 2"] * ITEMS)
    status, output = validate(tmp_path)
    assert status == 2
    lines = [line.strip() for line in output.splitlines()]
    assert lines[0] == "error: data: 4 problem(s)"
    for start in (
        "raw/log/part-0.parquet: found columns user, item_id, at; a column user_id is needed",
        "raw/log/part-2.parquet: found columns user, item_id, at; a column user_id is needed",
        "raw/image.npy: found",
        "raw/text.parquet, column vector: found type string",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, output


def test_a_part_without_rows_is_no_problem_beside_a_bad_one(tmp_path):
    raw = write_raw(tmp_path)
    empty = pa.table({"item_id": pa.array([], pa.int64()), "vector": pa.array([], pa.list_(pa.float64()))})
    (raw / "text.parquet").unlink()
    (raw / "text").mkdir()
    pq.write_table(empty, raw / "text/a.parquet")
    pq.write_table(pa.table({"item_id": [1], "vektor": [[1.0]]}), raw / "text/b.parquet")
    status, output = validate(tmp_path, "data.modalities.text.file=text")
    assert status == 2
    assert output.startswith("error: raw/text/b.parquet: found columns item_id, vektor"), output


def test_bad_values_of_several_files_are_named_together(tmp_path):
    raw = write_raw(tmp_path)
    image = np.ones((ITEMS, 3), np.float32)
    image[4, 1] = np.nan
    np.save(raw / "image.npy", image)
    write_vectors(raw, "text", range(ITEMS), vector=[[1.0, 2.0]] * 9 + [[1.0]])
    status, output = validate(tmp_path)
    assert status == 2
    assert output.startswith("error: data: 2 problem(s)")
    assert "raw/image.npy, row 4: found nan in column 1" in output
    assert "raw/text.parquet, row 9: found 1 values" in output


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("data.split.method=temporal", "data.split.test=0"), None),
        (("data.min_interactions=100",), "found no interactions; 160 dropped by data.min_interactions"),
        (("data.split.method=leave_last_out",), None),
        (("partition.parts=40",), "partition.parts: found 40; a part needs a node, and there are 20 users"),
        (("data.split.validation=0.0001",), "found no validation interactions with method ratio"),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused(tmp_path, sets, message):
    write_raw(tmp_path)
    status, output = validate(tmp_path, *sets)
    assert (status, message is None or message in output) == (0 if message is None else 2, True), output


def test_an_output_that_is_a_file_is_refused(tmp_path):
    write_raw(tmp_path)
    (tmp_path / "out").write_text("")
    status, output = validate(tmp_path)
    assert status == 2
    assert "it must be a folder that can be written (Not a directory)" in output


@pytest.mark.parametrize("bad_row", [0, 25, 49])
def test_of_large_files_the_first_and_the_last_block_are_read(tmp_path, monkeypatch, bad_row):
    """Files of three row groups; what lies between the first and the last piece is left to prepare."""
    raw = write_raw(tmp_path)
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 0)
    monkeypatch.setattr("mmssl_dist.data.readers.vectors.PIECE_BYTES", 8 * 10)  # ten rows a piece
    vectors = [[1.0, 2.0]] * 50
    vectors[bad_row] = [float("nan"), 1.0]
    table = pa.table({"item_id": list(range(50)), "vector": vectors})
    pq.write_table(table, raw / "text.parquet", row_group_size=10)
    np.save(raw / "image.npy", np.ones((50, 3), np.float32))
    status, output = validate(tmp_path)
    if bad_row == 25:
        assert status == 0, output
        assert "read: the first and last block of each file, 160 interactions" in output
        assert "data: ids: int64 of users, int64 of items" in output
    else:
        assert status == 2
        assert f"raw/text.parquet, row {bad_row}: found nan" in output


@pytest.mark.parametrize("bad_row", [0, 25, 49])
def test_of_a_large_matrix_the_first_and_the_last_rows_are_read(tmp_path, monkeypatch, bad_row):
    raw = write_raw(tmp_path)
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 0)
    monkeypatch.setattr("mmssl_dist.data.readers.numbered.PIECE_BYTES", 12 * 10)  # ten rows a piece
    image = np.ones((50, 3), np.float32)
    image[bad_row, 1] = np.inf
    np.save(raw / "image.npy", image)
    status, output = validate(tmp_path)
    assert status == (0 if bad_row == 25 else 2), output
    assert (f"raw/image.npy, row {bad_row}: found inf" in output) == (bad_row != 25)


def test_of_a_single_row_group_every_row_is_read(tmp_path, monkeypatch):
    """Its last block is no other piece than its first."""
    raw = write_raw(tmp_path)
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 0)
    monkeypatch.setattr("mmssl_dist.data.readers.parquet.BATCH_ROWS", 10)
    write_log(raw, 0, list(range(50)), [3] * 50, at=[*range(49), None])
    status, output = validate(tmp_path)
    assert status == 2
    assert "raw/log/part-0.parquet, row 49: found nothing; every interaction has a time" in output


ROWS = 6_000
BAD_ROWS = {
    "no time": (b"7,3,", "line 6001: found nothing; every interaction has a time"),
    "no number": (b"7,3,soon", "line 6001: found 'soon'; times are numbers, dates or ISO timestamps"),
    "a moment beside numbers": (b"7,3,2020-01-01", "times are numbers, dates or ISO timestamps, all of one"),
    "ragged": (b"7,3", ", line 6001: found CSV parse error: Expected 3 columns, got 2"),
    "not UTF-8": (b"\xff,3,5", "found the byte(s) ff; delimited text is UTF-8"),
    "an item that is no integer": (b"7,x3,5", "line 6001: found 'x3'; ids of this column are integers"),
}


def write_text_log(path: Path, last: bytes) -> None:
    rows = [b"%d,%d,%d" % (row // ITEMS, row % ITEMS, row) for row in range(ROWS - 1)]
    text = b"\n".join([b"user_id,item_id,at", *rows, last, b""])
    if path.suffix == ".inter" or ".tsv" in path.name:
        text = text.replace(b",", b"\t")
    if path.suffix == ".inter":
        text = text.replace(b"user_id\titem_id\tat", b"user_id:token\titem_id:token\tat:float")
    if path.suffix in (".gz", ".zst"):
        text = pa.compress(text, "gzip" if path.suffix == ".gz" else "zstd", asbytes=True)
    path.write_bytes(text)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.inter", "log.csv.gz", "log.tsv.zst"])
@pytest.mark.parametrize("kind", [None, *BAD_ROWS])
def test_a_bad_last_row_of_large_text_is_refused_as_prepare_refuses_it(tmp_path, monkeypatch, name, kind):
    raw = write_raw(tmp_path)
    monkeypatch.setattr("mmssl_dist.data.readers.delimited.BLOCK_BYTES", 1 << 12)
    last, message = BAD_ROWS.get(kind, (b"7,3,5", "read: "))
    write_text_log(raw / name, last)
    sets = [f"data.interactions={name}"]
    if name.endswith(".inter"):
        sets += ["data.layout=inter"]
    outputs = []
    for whole_bytes in (1 << 26, 0):  # prepare's own passes, and a look at first and last blocks
        monkeypatch.setattr(input_check, "WHOLE_BYTES", whole_bytes)
        status, output = validate(tmp_path, *sets)
        assert status == (0 if kind is None else 2), output
        assert message in output
        outputs.append(output)
    if kind is None:
        assert "read: every row, as prepare does" in outputs[0]
        assert "read: the first and last block of each file, " in outputs[1]
        seen = int(outputs[1].partition("each file, ")[2].partition(" ")[0].replace(",", ""))
        assert 300 < seen < 2000, "those of two blocks"


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"user_id": 7, "item_id": 3, "at": 5}, "read: "),
        ({"user_id": 7, "item_id": "x3", "at": 5}, f"line {ROWS}: found 'x3'"),
        ({"user_id": 7, "item_id": 3, "at": "soon"}, f"line {ROWS}: found 'soon'"),
    ],
)
def test_json_lines_are_looked_at_as_csv_is(tmp_path, monkeypatch, last, message):
    raw = write_raw(tmp_path)
    for module in ("delimited", "json_lines"):
        monkeypatch.setattr(f"mmssl_dist.data.readers.{module}.BLOCK_BYTES", 1 << 12)
    rows = [{"user_id": row // ITEMS, "item_id": row % ITEMS, "at": row} for row in range(ROWS - 1)]
    (raw / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, last]))
    for whole_bytes in (1 << 26, 0):
        monkeypatch.setattr(input_check, "WHOLE_BYTES", whole_bytes)
        status, output = validate(tmp_path, "data.interactions=log.jsonl")
        assert status == (0 if message == "read: " else 2), output
        assert message in output


@pytest.mark.parametrize("at", [["soon"], ["2020-01-01"], [None]])
def test_a_bad_last_time_in_a_large_parquet_file_of_texts(tmp_path, monkeypatch, at):
    raw = write_raw(tmp_path)
    monkeypatch.setattr("mmssl_dist.data.readers.parquet.BATCH_ROWS", 100)
    table = pa.table({"user_id": list(range(1000)), "item_id": [3] * 1000, "at": ["5"] * 999 + at})
    pq.write_table(table, raw / "log/part-3.parquet", row_group_size=100)
    for whole_bytes in (1 << 26, 0):
        monkeypatch.setattr(input_check, "WHOLE_BYTES", whole_bytes)
        status, output = validate(tmp_path)
        assert status == 2
        assert "raw/log/part-3.parquet, row 999" in output


def test_numbers_with_decimals_in_the_last_block_alone_are_valid(tmp_path, monkeypatch):
    raw = write_raw(tmp_path)
    monkeypatch.setattr("mmssl_dist.data.readers.delimited.BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 0)
    write_text_log(raw / "log.csv", b"7,3,9999.5")
    status, output = validate(tmp_path, "data.interactions=log.csv")
    assert status == 0, output
    assert "data: times: 0.0 to 9,999.5" in output


def test_compressed_text_beyond_a_limit_is_read_where_it_begins_and_counted(tmp_path, monkeypatch):
    raw = write_raw(tmp_path)
    (raw / "events").mkdir()
    for number in range(3):
        write_text_log(raw / f"events/{number}.csv.gz", b"7,3,5")
    monkeypatch.setattr("mmssl_dist.data.readers.delimited.BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 0)
    size = (raw / "events/0.csv.gz").stat().st_size
    for module in ("data.readers.last_block", "report.job_summary"):
        monkeypatch.setattr(f"mmssl_dist.{module}.READ_THROUGH_BYTES", 2 * size)
    status, output = validate(tmp_path, "data.interactions=events/*.csv.gz")
    assert status == 0, output
    assert f"each file, of 1 compressed file(s) beyond {2 * size:,} bytes the first block, " in output


def test_the_passes_in_one_process_give_the_facts_that_the_raw_files_have(tmp_path):
    """By hand: of 160 pairs the last two of each user are held out."""
    write_raw(tmp_path)
    status, output = validate(tmp_path, "data.split.method=leave_last_out")
    assert status == 0, output
    assert "data: interactions: 120 train, 20 validation, 20 test" in output


def test_times_are_shown_as_moments_or_as_they_were_written(tmp_path):
    raw = write_raw(tmp_path)
    moments = pa.array([1_600_000_000_000_000_000 + n for n in range(160)], pa.timestamp("ns"))
    for number, part in enumerate((PAIRS[:50], PAIRS[50:100], PAIRS[100:])):
        users, items = [user for user, _ in part], [item for _, item in part]
        write_log(raw, number, users, items, at=moments[: len(part)])
    status, output = validate(tmp_path)
    assert status == 0, output
    assert "data: times: 2020-09-13T12:26:40Z to 2020-09-13T12:26:40Z" in output


def test_a_table_of_lists_that_run_would_refuse(tmp_path):
    write_raw(tmp_path)
    status, shown = validate(tmp_path, f"export.table.path={tmp_path}/lists")
    assert status == 0, shown
    assert not (tmp_path / "lists").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "notes.txt").write_text("mine")
    for sets, message in (
        (("export.table.path={}/link/lists",), "the table outlives the run"),
        (("export.table.path={}/lists",), "which has something else (notes.txt)"),
        (("export.table.path={}/raw",), "data.interactions reads from there"),
        (("export.table.path={}/raw/log/lists",), "data.interactions reads from there"),
        (("export.table.path={}/job.yaml/lists",), "a folder that can be written (Not a directory)"),
        (("export.table.path={}/lists", "export.table.format=delta"), "which has something else (notes.txt)"),
    ):
        status, shown = validate(tmp_path, *(one.format(tmp_path) for one in sets))
        assert (status, shown.count("error:")) == (2, 1)
        assert f"export.table.path: found {sets[0].partition('{}/')[2]}" in shown
        assert message in shown
