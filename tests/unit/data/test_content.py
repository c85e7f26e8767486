"""Raw content of items as tables and folders have it, before an encoder sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.packed_rows import unpack
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.embedding.shards import content_rows, pack_items
from mmssl_dist.errors import InputError
from mmssl_dist.launch.input_check import check_values
from mmssl_dist.report.job_summary import description, input_lines
from tests.jobs import job_on
from tests.pictures import PICTURES

TEXT = {"table": "items.csv", "columns": ["title", "tags"], "encoder": "owner/model"}


def _job(folder: Path, **modalities: dict[str, object]) -> Job:
    return job_on(folder, {"interactions": "clicks.csv", "modalities": modalities}, "partition.parts=2")


def _content(job: Job, modality: str) -> dict[object, str | None]:
    source = open_sources(job.data, find_files(job)).features[modality]
    assert isinstance(source, ContentSource)
    batches = [batch for piece in source.pieces for batch in source.read_content(piece)]
    return {
        item: content
        for batch in batches
        for item, content in zip(batch.items.to_pylist(), batch.content.to_pylist(), strict=True)
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clicks.csv").write_text(
        "user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(30) for i in (1, 2, 3))
    )
    (tmp_path / "items.csv").write_text(
        "item_id,title,tags,picture\n1,Red shirt,cotton,a.png\n2, ,,b.jpeg\n3,,wool,\n"
    )
    (tmp_path / "images").mkdir()
    for name, kind in (("a.png", "png"), ("b.jpeg", "jpeg"), ("1.png", "png")):
        (tmp_path / "images" / name).write_bytes(PICTURES[kind])
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    return tmp_path


def test_columns_of_a_text_table_are_lines_of_one_text(folder):
    assert _content(_job(folder, text=TEXT), "text") == {1: "Red shirt\ncotton", 2: None, 3: "wool"}


def test_parquet_has_texts_numbers_and_lists(folder):
    table = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "title": ["One", None, ""],
            "tags": [["x", "y"], None, []],
            "price": [1.5, 2, None],
        }
    )
    pq.write_table(table, folder / "items.parquet")
    settings = {"table": "items.parquet", "columns": ["title", "tags", "price"], "encoder": "owner/model"}
    assert _content(_job(folder, text=settings), "text") == {"a": "One\nx, y\n1.5", "b": "2", "c": None}


def test_json_lines_have_texts_numbers_and_lists(folder):
    (folder / "items.jsonl").write_text(
        '{"item_id": "a", "title": "One", "tags": ["x", "y"], "price": 1.50}\n'
        '{"item_id": "b", "title": " "}\n{"item_id": "c", "tags": []}\n'
    )
    settings = {"table": "items.jsonl", "columns": ["title", "tags", "price"], "encoder": "owner/model"}
    assert _content(_job(folder, text=settings), "text") == {"a": "One\nx, y\n1.50", "b": None, "c": None}


def test_texts_in_lists_are_trimmed_as_others_are(folder):
    (folder / "items.jsonl").write_text(
        '{"item_id": "a", "tags": [" x", "\\ty ", " "]}\n{"item_id": "b"}\n{"item_id": "c", "tags": [""]}\n'
    )
    settings = {"table": "items.jsonl", "columns": ["tags"], "encoder": "owner/model"}
    assert _content(_job(folder, text=settings), "text") == {"a": "x, y", "b": None, "c": None}


def test_nulls_in_lists_are_left_out(folder):
    tags = [[None, "x", None], None, [], ["y", "z"], [None]]
    ids = ["a", "b", "c", "d", "e"]
    records = (json.dumps({"item_id": item, "tags": some}) for item, some in zip(ids, tags, strict=True))
    (folder / "items.jsonl").write_text("\n".join(records))
    pq.write_table(pa.table({"item_id": ids, "tags": tags}), folder / "items.parquet")
    for name in ("items.jsonl", "items.parquet"):
        settings = {"table": name, "columns": ["tags"], "encoder": "owner/model"}
        assert _content(_job(folder, text=settings), "text") == {
            "a": "x",
            "b": None,
            "c": None,
            "d": "y, z",
            "e": None,
        }


def test_pictures_are_named_by_items_or_by_a_column(folder):
    by_item = {"files": "images/{item}.png", "encoder": "owner/model"}
    by_column = {"table": "items.csv", "files": "images/{picture}", "encoder": "owner/model"}
    job = _job(folder, text=TEXT, image=by_column)
    assert _content(job, "image") == {1: "images/a.png", 2: "images/b.jpeg", 3: None}
    # Ids of the table are integers, so those that file names show are texts beside "a".
    assert set(_content(_job(folder, image=by_item), "image").values()) == {"images/1.png", "images/a.png"}


def test_validate_knows_which_items_have_content(folder):
    (folder / "images" / "b.jpeg").unlink()
    by_column = {"table": "items.csv", "files": "images/{picture}", "encoder": "owner/model"}
    job = _job(folder, text=TEXT, image=by_column)
    with pytest.raises(InputError, match=r"1 item\(s\) without features"):
        check_values(job, find_files(job))  # item 2 has neither text nor picture
    kept = job.model_copy(update={"data": job.data.model_copy(update={"unknown_items": "drop"})})
    overview = check_values(kept, find_files(kept))
    assert {name: seen.items for name, seen in overview.features.items()} == {"text": 2, "image": 1}
    assert "data: features: text (to be embedded), image (to be embedded) for 1 items" in input_lines(
        overview
    )
    assert "text (title, tags of items.csv, embedded by owner/model)" in description(kept)


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        ({**TEXT, "table": "nothing.csv"}, "no such file"),
        ({**TEXT, "columns": ["name"]}, "a column name is needed"),
        ({"files": "pictures/{item}.png", "encoder": "o/m"}, "no such picture"),
        ({"files": "images/{item}.webp", "encoder": "o/m"}, "no such picture"),
        ({"files": "images/{item}.pdf", "encoder": "o/m"}, "pictures end in"),
        ({"files": "../{item}.png", "encoder": "o/m"}, "paths must stay below data.path"),
        ({"table": "items.csv", "files": "images/{photo}", "encoder": "o/m"}, "a column photo is needed"),
    ],
)
def test_content_that_cannot_be_read_is_named(folder, modality, message):
    job = _job(folder, m=modality)
    with pytest.raises(InputError, match=message):
        open_sources(job.data, find_files(job))


def test_a_parquet_column_that_is_no_text_is_refused(folder):
    pq.write_table(pa.table({"item_id": [1], "title": [b"bytes"]}), folder / "items.parquet")
    settings = {"table": "items.parquet", "columns": ["title"], "encoder": "owner/model"}
    with pytest.raises(InputError, match="content is texts"):
        _content(_job(folder, text=settings), "text")


def test_a_text_without_an_item_and_an_item_with_two_texts_are_refused(folder):
    (folder / "items.csv").write_text("item_id,title,tags\n,Lost,\n1,One,\n")
    with pytest.raises(InputError, match=r"items\.csv, line 2: found no item id"):
        _content(_job(folder, text=TEXT), "text")
    (folder / "items.csv").write_text("item_id,title,tags\n1,One,\n2,Two,\n1,Other,\n")
    job = _job(folder, text=TEXT)
    source = open_sources(job.data, find_files(job)).features["text"]
    assert isinstance(source, ContentSource)
    (rows,) = content_rows(pa.table({"id": [0]}), source, 1)
    with pytest.raises(InputError, match=r"line 4: found item 1, also in .*items\.csv, line 2"):
        pack_items(rows, source)


def test_a_row_without_content_does_not_hide_another(folder):
    (folder / "items.csv").write_text("item_id,title,tags\n1,,\n1,One,\n2,,\n")
    job = _job(folder, text=TEXT)
    source = open_sources(job.data, find_files(job)).features["text"]
    assert isinstance(source, ContentSource)
    (rows,) = content_rows(pa.table({"id": [0]}), source, 1)
    packed = pack_items(rows, source)
    assert unpack(packed, "rows")["content"].to_pylist() == ["One", None]


def test_what_changes_a_file_changes_the_stamp(folder):
    settings = {"files": "images/{item}.png", "encoder": "owner/model"}
    job = _job(folder, image=settings)
    before = find_files(job).content["image"].stamp()
    assert before == find_files(job).content["image"].stamp()
    (folder / "images" / "a.png").write_bytes(PICTURES["png"] + b"x")
    assert before != find_files(job).content["image"].stamp()
