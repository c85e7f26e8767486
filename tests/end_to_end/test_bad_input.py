"""Raw files that are wrong, through the command line: status 2, one message, and nothing that looks finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mmssl_dist.app import app

USERS, ITEMS = 5, 6
JOB = """\
output: {folder}/out
data:
  path: {folder}/raw
  modalities:
    image: {{file: image.npy}}
    text: {{file: text.parquet}}
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, ray_address: str) -> Path:
    """A folder with good raw files, every user with every item but one, and the dataset made from them."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "raw").mkdir()
    _write_interactions(folder, [(user, item) for user in range(USERS) for item in range(ITEMS) if item != user])
    np.save(folder / "raw/image.npy", np.ones((ITEMS, 3), np.float32))
    _write_text(folder, range(ITEMS), [[1.0, 2.0]] * ITEMS)
    done = _prepare(folder, ray_address)
    assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy of it that the test may spoil."""
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    assert (tmp_path / "out/dataset/manifest.json").exists()
    return tmp_path


def _prepare(folder: Path, address: str, *sets: str) -> Result:
    (folder / "job.yaml").write_text(JOB.format(folder=folder))
    overrides = [word for override in sets for word in ("--set", override)]
    return CliRunner().invoke(app, ["prepare", f"{folder}/job.yaml", "--address", address, *overrides])


def _write_interactions(folder: Path, pairs: list[tuple[int, int]]) -> None:
    users, items = zip(*pairs, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items}), folder / "raw/interactions.parquet")


def _write_text(folder: Path, items: range, vectors: list[list[float]]) -> None:
    table = {"item_id": list(items), "vector": pa.array(vectors, pa.list_(pa.float32()))}
    pq.write_table(pa.table(table), folder / "raw/text.parquet")


def _nan(folder: Path) -> None:
    _write_text(folder, range(ITEMS), [*[[1.0, 2.0]] * 4, [1.0, float("nan")], [1.0, 2.0]])


def _unknown_item(folder: Path) -> None:
    _write_interactions(folder, [(user, item) for user in range(USERS) for item in range(ITEMS + 1)])


def _too_few_rows(folder: Path) -> None:
    np.save(folder / "raw/image.npy", np.ones((ITEMS - 2, 3), np.float32))
    _write_text(folder, range(ITEMS - 2), [[1.0, 2.0]] * (ITEMS - 2))


def _one_item_each(folder: Path) -> None:
    _write_interactions(folder, [(user, user) for user in range(USERS)])


@pytest.mark.parametrize(("spoil", "sets", "message"), [
    (_nan, (), "raw/text.parquet, row 4: found nan in column 1; features are finite numbers of type float32. Replace"),
    (_unknown_item, (), "raw/interactions.parquet, row 6: found the unknown item 6; every item has features in"),
    (_too_few_rows, (), "raw/interactions.parquet, row 3: found the unknown item 4; every item has features in"),
    (_one_item_each, ("data.split.method=leave_last_out", "data.columns.time=item_id"),
     "data.split: found no validation interactions with method leave_last_out; the validation split may not be empty."),
], ids=["NaN", "unknown item", "too few rows", "empty split"])  # fmt: skip
def test_one_message_and_nothing_that_looks_finished(folder, ray_address, spoil, sets, message):
    spoil(folder)
    failed = _prepare(folder, ray_address, *sets)
    assert failed.exit_code == 2, failed.stderr
    errors = [line for line in failed.stderr.splitlines() if line != "prepare: started"]
    assert len(errors) == 1
    assert errors[0].replace(f"{folder}/", "").startswith(f"error: {message}")
    assert "Traceback" not in failed.output
    assert not list((folder / "out").rglob("manifest.json"))
