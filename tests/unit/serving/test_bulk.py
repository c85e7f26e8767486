"""Files that a process of the bulk recommendation writes: one for every batch, whichever users are in it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.serving.bulk import ListOptions, _read_pieces, _Recommender
from mmssl_dist.serving.bulk_output import FolderOutput
from mmssl_dist.serving.id_file import open_id_file
from mmssl_dist.storage import open_location
from tests.exported import publish_run


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
    recommender = _Recommender(str(folder / "run"), Storage(), write, ListOptions(k=3))
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


def test_every_user_of_a_file_has_a_position(folder):
    pq.write_table(pa.table({"user_id": ["u1"] * 5000}), folder / "users.parquet", row_group_size=700)
    users = open_id_file(open_location(str(folder / "users.parquet"), Storage()), ["user_id"], "--users")
    numbers = pa.table({"id": list(range(len(users.pieces)))})
    tables = list(_read_pieces(numbers, users))
    positions = pa.concat_tables(tables)["position"].to_numpy()
    assert len(positions) == 5000
    assert (np.diff(positions) > 0).all()
