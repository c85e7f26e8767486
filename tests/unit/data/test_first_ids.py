"""Item ids that begin at 1, with features that are rows of a matrix."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl_dist.data.files import find_files
from mmssl_dist.errors import InputError
from mmssl_dist.launch.input_check import check_values
from tests.jobs import raw_job
from tests.unit.data.raw import write_matrix, write_table


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (
            range(1, 6),
            "raw/image.npy: found item 5 without a row, and no item 0 among the interactions; row r belongs "
            "to item r, 0 to 4, and these ids seem to begin at 1. Subtract 1 from every item id, or write "
            "the vectors to Parquet with their ids.",
        ),
        (range(6), "data.unknown_items: found 1 item(s) without features, in 4 interaction(s): 5 "),
        ([*range(1, 5), 6], "data.unknown_items: found 1 item(s) without features, in 4 interaction(s): 6 "),
        (range(1, 7), "data.unknown_items: found 2 item(s) without features"),
    ],
)
def test_ids_that_begin_at_1_beside_rows_from_0(tmp_path, items, expected):
    users = [user for user in "abcd" for _ in items]
    write_table(tmp_path, "interactions.parquet", user_id=users, item_id=[*items] * 4)
    write_matrix(tmp_path, "image.npy", np.zeros((5, 3), np.float32))
    job = raw_job(tmp_path, modalities={"image": "image.npy"})
    with pytest.raises(InputError) as caught:
        check_values(job, find_files(job))
    assert str(caught.value).replace(job.data.path, "raw").startswith(expected)


@pytest.mark.parametrize("unknown", ["error", "drop", "keep"])
@pytest.mark.parametrize("rare", [False, True])
def test_they_are_refused_whatever_becomes_of_the_last_item(tmp_path, unknown, rare):
    """Left out by ``unknown_items`` or ``min_interactions``, it would no longer show that all are shifted."""
    pairs = [(user, item) for user in "abcd" for item in range(1, 6) if not rare or item < 5 or user == "a"]
    users, items = zip(*pairs, strict=True)
    write_table(tmp_path, "interactions.parquet", user_id=list(users), item_id=list(items))
    write_matrix(tmp_path, "image.npy", np.zeros((5, 3), np.float32))
    filters = {"unknown_items": unknown, "min_interactions": 3 if rare else 1}
    job = raw_job(tmp_path, modalities={"image": "image.npy"}, **filters)
    with pytest.raises(InputError, match=r"image\.npy: found item 5 without a row, and no item 0 among"):
        check_values(job, find_files(job))
