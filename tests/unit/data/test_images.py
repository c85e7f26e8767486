"""Images of items: of the right ones, from paths and from Parquet; and nothing that is none, too large or
elsewhere."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.job import Job
from mmssl_dist.data import images
from mmssl_dist.data.files import find_files, find_images
from mmssl_dist.data.image_header import Raster, raster_of
from mmssl_dist.data.images import check_images, check_picture_folder, read_images
from mmssl_dist.data.prepare import dataset_fingerprint
from mmssl_dist.errors import InputError
from tests.jobs import job_on
from tests.pictures import PICTURES
from tests.unit.data.raw import SKUS

PNG = PICTURES["png"]


def job(folder: Path, wanted: str | None) -> Job:
    return job_on(folder, {**SKUS, "images": wanted})


def read(folder: Path, wanted: str, items: list[object]) -> images.Images:
    made = job(folder, wanted)
    files = find_images(made)
    check_images(made.data, files)
    return read_images(made, files, items)


@pytest.mark.parametrize("name", PICTURES)
def test_kind_and_size_are_known_by_content(name):
    assert raster_of(PICTURES[name]) == Raster(f"image/{name.split('_')[0]}", 24, 17)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_cut_short_anywhere_is_one_or_none(name):
    whole = PICTURES[name]
    for length in range(len(whole)):
        assert raster_of(whole[:length]) in (None, raster_of(whole))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html>",
        b"BM" + bytes(60),
        b"RIFF\0\0\0\0WAVEfmt " + bytes(60),
        b"\x89PNG\r\n\x1a\n" + bytes(60),
        b"\xff\xd8\xff" + bytes(60),
        b"\xff\xd8\xff" + b"\xff" * 60,
    ],
)
def test_what_is_no_picture_is_none(content):
    assert raster_of(content) is None


def test_images_by_path(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "007.png").write_bytes(PNG)
    (tmp_path / "pictures" / "ü 9.png").write_bytes(PICTURES["webp"])  # the content counts
    result = read(tmp_path, "pictures/{item}.png", ["007", "ü 9", 8, "007"])
    assert {name: (image.media_type, image.content) for name, image in result.by_item.items()} == {
        "007": ("image/png", PNG),
        "ü 9": ("image/webp", PICTURES["webp"]),
    }
    assert result.left_out == {"not there": 1}


@pytest.mark.parametrize("ids", [[7, 8, 9, 10], ["007", "8", "ü, 9", "x"]])
@pytest.mark.parametrize("id_type", [pa.binary(), pa.large_binary()])
def test_images_from_parquet(tmp_path, ids, id_type):
    content = pa.array([PNG, PICTURES["gif"], PICTURES["jpeg"], None], id_type)
    table = pa.table({"price": [1.0, 2.0, 3.0, 4.0], "image": content, "sku": ids})
    pq.write_table(table, tmp_path / "i.parquet", row_group_size=1)
    result = read(tmp_path, "i.parquet", [ids[0], ids[2], ids[3], "none"])
    assert {name: image.media_type for name, image in result.by_item.items()} == {
        str(ids[0]): "image/png",
        str(ids[2]): "image/jpeg",
    }
    assert result.by_item[str(ids[2])].content == PICTURES["jpeg"]
    assert result.left_out == {"not there": 2}


def test_of_items_named_twice_the_last(tmp_path):
    pq.write_table(pa.table({"sku": [1, 1], "image": [PNG, PICTURES["gif"]]}), tmp_path / "i.parquet")
    assert read(tmp_path, "i.parquet", [1]).by_item["1"].media_type == "image/gif"


def test_an_id_never_leads_out_of_its_folder(tmp_path):
    inside = tmp_path / "raw" / "pictures"
    inside.mkdir(parents=True)
    for path in (tmp_path / "out.png", tmp_path / "raw" / "out.png", inside / "below" / "in.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    (inside / "link.png").symlink_to(tmp_path / "out.png")
    (inside / "a\\b.png").write_bytes(PNG)
    ids: list[object] = [
        "../out",
        "../../out",
        "below/in",
        str(inside / "below" / "in"),
        "a\\b",
        "x\0",
        ".",
        "..",
        "",
    ]
    result = read(tmp_path / "raw", "pictures/{item}.png", ids)
    assert result == images.Images({}, {"an id that is not a file name": len(ids)})
    assert read(tmp_path / "raw", "pictures/{item}.png", ["link"]).left_out == {"outside data.path": 1}


def test_large_ones_and_what_is_no_picture_are_left_out_and_counted(tmp_path, monkeypatch):
    huge = PNG[:16] + struct.pack(">II", 60_000, 60_000) + PNG[24:]
    contents = {
        "good": PNG,
        "huge": huge,
        "long": PNG + bytes(images.LARGEST),
        "svg": b"<svg/>",
        "flat": PNG[:16] + struct.pack(">II", 0, 9) + PNG[24:],
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    pq.write_table(
        pa.table({"sku": list(contents), "image": list(contents.values())}), tmp_path / "i.parquet"
    )
    for wanted in ("{item}.png", "i.parquet"):
        result = read(tmp_path, wanted, list(contents))
        assert set(result.by_item) == {"good"}
        assert result.left_out == {
            "over 4,000,000 pixels": 2,
            "over 500,000 bytes": 1,
            "neither JPEG, PNG, GIF nor WebP": 1,
        }
    monkeypatch.setattr(images, "TOGETHER", 2 * len(PNG))
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(PNG)
    result = read(tmp_path, "{item}.png", ["a", "b", "c"])
    assert set(result.by_item) == {"a", "b"}
    assert list(result.left_out.values()) == [1]


def test_a_job_without_images_has_none(tmp_path):
    made = job(tmp_path, None)
    assert find_images(made) == ()
    assert read_images(made, (), [1]) == images.Images({}, {})


@pytest.mark.parametrize(
    ("wanted", "table", "message"),
    [
        ("i.parquet", {"id": [1], "image": [b"x"]}, r"found columns id, image; a column sku is needed"),
        (
            "i.parquet",
            {"sku": [1], "picture": [b"x"]},
            r"found columns sku, picture; a column image is needed",
        ),
        (
            "i.parquet",
            {"sku": [1], "image": ["a.png"]},
            r"found column image of type string; it holds the bytes",
        ),
        ("i.parquet", None, r"i\.parquet: found .*; the file must be readable Parquet"),
        ("else.parquet", None, "no such file; data.images names a file"),
        ("pictures.zip", None, "no such file; data.images names a file"),
        ("{item}.svg", None, r"data\.images: found \{item\}\.svg; a path with \{item\} ends in \.jpg"),
        ("../{item}.png", None, r"data\.images: found \.\./\{item\}\.png; paths must stay below data\.path"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(tmp_path, wanted, table, message):
    if table is None:
        (tmp_path / "i.parquet").write_bytes(b"PAR1 and no more")
    else:
        pq.write_table(pa.table(table), tmp_path / "i.parquet")
    made = job(tmp_path, wanted)
    with pytest.raises(InputError, match=message):
        check_images(made.data, find_images(made))


def test_a_folder_of_pictures_has_to_be_there(tmp_path):
    made = job(tmp_path, "photos/{item}/front.png")
    message = r"photos: found no such folder; data\.images names a picture for each item"
    with pytest.raises(InputError, match=message):
        check_picture_folder(made)
    (tmp_path / "photos").mkdir()
    check_picture_folder(made)  # items may lack a picture
    check_picture_folder(job(tmp_path, "{item}.png"))
    check_picture_folder(job(tmp_path, None))


def test_a_dataset_is_the_same_whatever_its_items_look_like(tmp_path):
    for name in ("interactions.parquet", "image.npy"):
        (tmp_path / name).touch()
    with_images, without = job(tmp_path, "{item}.png"), job(tmp_path, None)
    assert dataset_fingerprint(with_images, find_files(with_images)) == dataset_fingerprint(
        without, find_files(without)
    )
