"""Tags in a text: a filter compares tag by tag, in the files of the job and in a table that is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl_dist.config.data_sections import Modality
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.titled_run import open_titled_run
from tests.exported import Exported, run_with
from tests.training import ITEMS

FACTS = Modality(table="items.csv", features={"tags": "tags", "brand": "category"}, separator="|")
LINES = (
    "item_id,title,brand,tags",
    "103,A,x|y,summer",
    "104,B,x, new | summer ",
    '105,C,y,"[""summer"", 7]"',
    "106,D,y,",
)


@pytest.fixture
def shop(exported: Exported, output: Path, tmp_path: Path) -> Path:
    """A run whose job declares the column tags of its items.csv, with a bar between tags."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/items.csv").write_text("\n".join(LINES) + "\n")
    data = {"path": str(tmp_path / "raw"), "titles": "items.csv", "modalities": {"facts": FACTS}}
    return run_with(exported, output, tmp_path, data)


def listed(run: Path, items: Path | None, **where: object) -> set[object]:
    opened = open_titled_run(str(run), Storage(), None if items is None else str(items))
    ranked = opened.recommend("u3", k=ITEMS, exclude_seen=False, candidates=ItemFilter(where=where))
    return set(ranked.items)


@pytest.mark.parametrize("given", [False, True], ids=["files of the job", "a table that is given"])
def test_an_item_has_every_tag_of_its_text(shop, tmp_path, given):
    items = tmp_path / "raw/items.csv" if given else None
    assert listed(shop, items, tags="summer") == {103, 104, 105}
    assert listed(shop, items, tags=["new", "7"]) == {104, 105}
    assert listed(shop, items, brand="x|y") == {103}, "a column that is not declared as tags is a text"


def test_a_list_that_is_not_json_is_refused(shop, tmp_path):
    items = tmp_path / "wrong.csv"
    items.write_text("item_id,tags\n103,\"['summer', 'new']\"\n")
    with pytest.raises(
        InputError, match=r"items, column tags: found .*summer.*; tags are texts with separators"
    ):
        listed(shop, items, tags="summer")
