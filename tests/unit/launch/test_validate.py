"""`validate`: all problems at once, and what is in the raw files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.launch import input_check

USERS, ITEMS = 20, 10
PAIRS = [(user, (user + step) % ITEMS) for user in range(USERS) for step in range(8)]


def write_raw(folder: Path) -> Path:
    """A small data set that is as it should be, with a third modality that one item lacks."""
    raw = folder / "raw"
    (raw / "log").mkdir(parents=True)
    for number, part in enumerate((PAIRS[:50], PAIRS[50:100], PAIRS[100:])):
        write_log(raw, number, [user for user, _ in part], [item for _, item in part])
    np.save(raw / "image.npy", np.ones((ITEMS, 3), np.float32))
    write_vectors(raw, "text", range(ITEMS))
    write_vectors(raw, "audio", range(1, ITEMS))
    (folder / "job.yaml").write_text(
        f"output: {folder}/out\n"
        f"data:\n  path: {folder}/raw\n  interactions: log\n  columns: {{time: at}}\n"
        "  modalities:\n    image: {file: image.npy}\n    text: {file: text.parquet}\n"
        "    audio: {file: audio.parquet}\n"
    )
    return raw


def write_log(raw: Path, number: int, users: list[object], items: list[object], **columns: object) -> None:
    names = {"user_id": users, "item_id": items, "at": list(range(1000, 1000 + len(users))), **columns}
    pq.write_table(pa.table(names), raw / f"log/part-{number}.parquet")


def write_vectors(raw: Path, name: str, items: object, **columns: object) -> None:
    ids = list(items)  # type: ignore[call-overload]
    table = {"item_id": ids, "vector": [[1.0, 2.0]] * len(ids), **columns}
    pq.write_table(pa.table(table), raw / f"{name}.parquet")


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
        (("data.min_interactions=100",), "found no interactions; 160 went because of data.min_interactions"),
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
        assert (
            "read: the first and last block of each file, of CSV and TSV the first alone, 160 inter" in output
        )
        assert "data: ids: int64 of users, int64 of items" in output
    else:
        assert status == 2
        assert f"raw/text.parquet, row {bad_row}: found nan" in output


@pytest.mark.parametrize("bad_line", [2, 20_000])
def test_of_large_text_the_first_block_is_read(tmp_path, monkeypatch, bad_line):
    raw = write_raw(tmp_path)
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 0)
    monkeypatch.setattr("mmssl_dist.data.readers.delimited.BLOCK_BYTES", 1 << 16)
    lines = ["user_id,item_id,at", *(f"{line},{line % ITEMS},{line}" for line in range(20_000))]
    lines[bad_line - 1] = lines[bad_line - 1].rpartition(",")[0] + ","
    (raw / "log.csv").write_text("".join(f"{line}\n" for line in lines))
    status, output = validate(tmp_path, "data.interactions=log.csv")
    if bad_line == 2:
        assert status == 2
        assert "raw/log.csv, line 2: found nothing; every interaction has a time" in output
    else:
        assert status == 0, output
        assert "of CSV and TSV the first alone" in output


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
