"""Files that a process of the bulk recommendation writes: one for every batch, whichever users are in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.cluster import shared_paths
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.serving.bulk import ListOptions, _BulkWriter, _read_pieces, recommend_file
from mmssl_dist.serving.bulk_output import FolderOutput, TableOutput
from mmssl_dist.serving.id_file import open_id_file
from mmssl_dist.storage import open_location
from tests.exported import publish_run
from tests.jobs import make_job
from tests.list_tables import Lists, published, table_of, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bulk")
    publish_run(path / "run")
    return path


def batch_of(users: list[str], first: int) -> pa.Table:
    return pa.table({"user_id": users, "position": np.arange(first, first + len(users))})


def test_batches_of_the_same_users_are_files_of_their_own(folder):
    output = FolderOutput(open_location(str(folder / "lists"), Storage()), "lists")
    write = partial(output.write, source="0")
    recommender = _BulkWriter(str(folder / "run"), Storage(), write, ListOptions(k=3))
    users = ["u1", "u2", "u1"]
    first, second = (recommender(batch_of(users, at))["name"][0].as_py() for at in (0, 3))
    assert first != second
    assert recommender(batch_of(users, 3))["name"][0].as_py() == second  # as a repeated task
    assert pq.read_table(folder / "lists/recommendations")["user_id"].to_pylist() == users * 2


def test_the_column_that_a_file_has_is_user_id_from_there_on(folder):
    (folder / "customers.csv").write_text("customer,n\nu1,1\nu2,2\n")
    location = open_location(str(folder / "customers.csv"), Storage())
    users = open_id_file(location, ["user_id", "customer"], "--users")
    (table,) = _read_pieces(pa.table({"id": [0]}), users)
    assert table["user_id"].to_pylist() == ["u1", "u2"]


@pytest.mark.parametrize("table_format", ["parquet", "delta"])
@pytest.mark.parametrize("unknown", ["error", "popular"])
def test_a_table_of_other_columns_is_refused_before_lists_are_made(tmp_path, folder, table_format, unknown):
    """Before a Ray is started, too. With popular items, the users are of the file's type."""
    other: Lists = {1: [("x", 1.0)]}
    files = published(tmp_path / "other", [other], pa.int64(), pa.string())
    write(table_of(tmp_path / "t", table_format, "2026-11-29"), files)
    output = TableOutput(table_of(tmp_path / "t", table_format, "2026-11-30"), "t")
    (tmp_path / "users.csv").write_text("user_id\nu1\n")
    users, options = str(tmp_path / "users.csv"), ListOptions(k=3, unknown=unknown)
    with pytest.raises(InputError, match="rows with user_id of type int64, instead of string"):
        recommend_file(url=str(folder / "run"), storage=Storage(), users=users, to=output, options=options)


@pytest.mark.parametrize("is_new", [True, False])
def test_machines_that_see_another_folder_are_named(tmp_path, monkeypatch, is_new):
    """As on a machine that has a folder of the same name, without the file that is written here."""
    folder, seen = tmp_path / "lists", []
    if not is_new:
        folder.mkdir()

    def unseen(paths):
        seen.extend((Path(path).parent, Path(path).is_file()) for path in paths.values())
        return dict.fromkeys(paths, "10.0.0.2")

    monkeypatch.setattr(shared_paths, "_several_machines", lambda: True)
    monkeypatch.setattr(shared_paths, "unseen", unseen)
    table = TableOutput(table_of(folder, "parquet", "2026-11-30"), "lists")
    to = FolderOutput(open_location(str(folder), Storage()), "lists")
    for output, option in ((table, "export.table.path"), (to, "--to")):
        with pytest.raises(
            InputError, match=rf"^{option}: found lists; every machine .* and 10\.0\.0\.2 does"
        ):
            output.require_shared()
    assert seen == [(folder, True)] * 2
    assert list(tmp_path.rglob("*")) == ([] if is_new else [folder])
    job = make_job(f"export.table.path={folder}", f"data.path={tmp_path}", f"output={tmp_path}/out")
    with pytest.raises(InputError):
        shared_paths.require_shared(job)
    assert (folder, True) in seen[2:]


def test_every_user_of_a_file_has_a_position(folder):
    pq.write_table(pa.table({"user_id": ["u1"] * 5000}), folder / "users.parquet", row_group_size=700)
    users = open_id_file(open_location(str(folder / "users.parquet"), Storage()), ["user_id"], "--users")
    numbers = pa.table({"id": list(range(len(users.pieces)))})
    tables = list(_read_pieces(numbers, users))
    positions = pa.concat_tables(tables)["position"].to_numpy()
    assert len(positions) == 5000
    assert (np.diff(positions) > 0).all()
