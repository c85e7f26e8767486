"""``data.unknown_items: drop``: the dataset is that of files without the interactions that go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.facts import dropped, facts
from tests.unit.data.raw import vectors, write_table

ITEMS = 20
UNKNOWN = 40, 41, 42, 43, 44
Row = tuple[str, int, int]


def _rows() -> list[Row]:
    """Users of known items; users of unknown ones alone; users whose last item is their only known one; and
    the newest day is of unknown items."""
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", int(item), 100 + user) for user in range(30) for item in rng.permutation(ITEMS)[:8]]
    rows += [(f"x{user}", item, 50) for user in range(6) for item in UNKNOWN]
    rows += [(f"y{user}", item, 50) for user in range(6) for item in UNKNOWN[:4]]
    rows += [(f"y{user}", 3, 60) for user in range(6)]
    return rows + [(f"u{user}", UNKNOWN[0], 10**6 + user) for user in range(30)]


def _facts(folder: Path, rows: list[Row], **settings: Any) -> dict[str, Any]:
    folder.mkdir()
    users, items, times = zip(*rows, strict=True)
    write_table(folder, "interactions.parquet", user_id=users, item_id=items, at=times)
    write_table(
        folder, "image.parquet", item_id=range(ITEMS), vector=vectors([[float(n)] for n in range(ITEMS)])
    )
    job = raw_job(folder, columns={"time": "at"}, unknown_items="drop", **settings)
    return facts(job) | {"gone": dropped(job)}


@pytest.mark.parametrize("method", ["ratio", "leave_last_out", "temporal"])
@pytest.mark.parametrize("least", [1, 5])
def test_the_dataset_is_that_of_the_other_rows(tmp_path, method, least):
    settings = {"split": {"method": method}, "min_interactions": least}
    kept = [row for row in _rows() if row[1] < ITEMS]
    made = _facts(tmp_path / "all", _rows(), **settings)
    alone = _facts(tmp_path / "known", kept, **settings)
    assert made.pop("gone") == {**alone.pop("gone"), "unknown_item": len(_rows()) - len(kept)}
    assert made.pop("dropped").pop("unknown_item") > alone.pop("dropped").pop("unknown_item") == 0
    assert made == alone


@pytest.mark.parametrize(
    ("unknown", "known"), [("51794", "051794"), ("ab-7", "AB-7"), ("AB-7", "0ab-7"), ("x", None), ("8", None)]
)
def test_ids_that_are_nearly_those_with_features_are_named(tmp_path, unknown, known):
    items = [known or "y", "z", "81"]
    users = [f"u{n}" for n in range(6)]
    write_table(tmp_path, "interactions.parquet", user_id=users, item_id=[unknown, *"zzzzz"])
    write_table(tmp_path, "image.parquet", item_id=items, vector=vectors([[float(n)] for n in range(3)]))
    with pytest.raises(InputError) as caught:
        facts(raw_job(tmp_path))
    hint = f"; ids are compared as they are written, and {unknown!r} is not {known!r}"
    assert (hint in str(caught.value)) == (known is not None)
    assert ("compared as they are written" in str(caught.value)) == (known is not None)


def test_the_window_ends_with_the_newest_of_the_other_rows(tmp_path):
    day = 24 * 3600
    rows = [(f"u{n}", n, 1_700_000_000 + n * day) for n in range(10)] + [("u0", UNKNOWN[0], 1_800_000_000)]
    made = _facts(tmp_path / "data", rows, window={"days": 3}, split={"validation": 0.0, "test": 0.0})
    assert made["gone"] == {"unknown_item": 1, "outside_window": 7}


def test_nothing_but_unknown_items_is_an_error_that_names_the_setting(tmp_path):
    with pytest.raises(InputError, match=r"no interactions; 6 dropped by data\.unknown_items.*Change data"):
        _facts(tmp_path / "data", [(f"x{user}", UNKNOWN[0], 1) for user in range(6)])
