"""Names in the job become the files that are there, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl_dist.config import parse_job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import expand, find_files
from mmssl_dist.data.prepare import dataset_fingerprint
from mmssl_dist.data.readers import open_sources
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location
from tests.jobs import raw_job
from tests.servers import client, moto_server, upload
from tests.unit.data.raw import write_matrix, write_table, write_text


def _names(files):
    return [file.name.rsplit("/raw/", 1)[1] for file in files]


@pytest.fixture
def folder(tmp_path):
    for name in (
        "day=1/a.parquet",
        "day=2/b.parquet",
        "day=2/_SUCCESS.parquet",
        ".hidden.parquet",
        "image.parquet",
    ):
        write_table(tmp_path, name, user_id=[1])
    write_text(tmp_path, "day=2/notes.txt", ["x"])
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("day=1/a.parquet", ["day=1/a.parquet"]),
        ("day=2", ["day=2/b.parquet"]),
        ("day=*/*.parquet", ["day=1/a.parquet", "day=2/b.parquet"]),
        ("day=[2-9]/?.parquet", ["day=2/b.parquet"]),
        ("*.parquet", ["image.parquet"]),
        (".hidden.parquet", [".hidden.parquet"]),
        (".*.parquet", [".hidden.parquet"]),
        ("_export", ["_export/a.parquet"]),
        ("_export/*.parquet", ["_export/a.parquet"]),
        (".cache/*.parquet", [".cache/c.parquet"]),
        ("*/c.parquet", []),
        ("a[1].parquet", ["a[1].parquet"]),
        ("b[2]", ["b[2]/d.parquet"]),
        ("b[[]2]/*", ["b[2]/d.parquet"]),
    ],
)
def test_a_file_a_folder_and_a_glob(folder, pattern, expected):
    for name in (
        "_export/a.parquet",
        "_export/_b.parquet",
        ".cache/c.parquet",
        "a[1].parquet",
        "b[2]/d.parquet",
    ):
        write_table(folder, name, user_id=[1])
    write_table(folder, "a1.parquet", user_id=[1])
    job = raw_job(folder, interactions=pattern)
    if pattern == "*.parquet":
        expected = ["a1.parquet", "a[1].parquet", *expected]
    if not expected:
        with pytest.raises(InputError, match="no such file"):
            find_files(job)
        return
    assert _names(find_files(job).interactions) == expected
    titles = raw_job(folder, interactions=pattern, titles=pattern)
    assert _names(find_files(titles).titles) == expected


_NESTED = ("a.parquet", "clicks.parquet", "x/clicks-1.parquet", "x/y/clicks-2.parquet", "x/y/notes.parquet")
_HIDDEN = ("_clicks.parquet", "x/.old/clicks.parquet", "_tmp/clicks.parquet")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/clicks*", [1, 2, 3]),
        ("**/clicks*.parquet", [1, 2, 3]),
        ("x/**/clicks*", [2, 3]),
        ("**/y/*", [3, 4]),
        ("**/x/**/y/**/clicks*", [3]),
        ("**", [0, 1, 2, 3, 4]),
        ("x/**", [2, 3, 4]),
        ("*/**/clicks*", [2, 3]),
        ("**/**/notes*", [4]),
        ("x**/clicks*", [2]),
    ],
)
def test_two_stars_are_any_number_of_folders(tmp_path, pattern, expected):
    """As in a shell with globstar, none is a number too; for every setting that takes a glob."""
    for name in (*_NESTED, *_HIDDEN):
        write_table(tmp_path, name, user_id=[1])
    modalities = {
        "image": {"file": pattern},
        "text": {"table": pattern, "columns": ["title"], "encoder": "encoders/small"},
        "facts": {"table": pattern, "features": {"brand": "category"}},
    }
    tree = raw_job(tmp_path, interactions=pattern, titles=pattern, images=pattern).model_dump(mode="json")
    files = find_files(parse_job({**tree, "data": {**tree["data"], "modalities": modalities}}))
    names = [_NESTED[number] for number in expected]
    assert _names(files.interactions) == _names(files.titles) == _names(files.images) == names
    assert _names(files.features["image"]) == names
    assert _names(files.content["text"].tables) == _names(files.content["facts"].tables) == names


@pytest.mark.processes
def test_two_stars_in_object_storage(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for name in (*_NESTED, *_HIDDEN):
        write_table(tmp_path, name, user_id=[1])
    with moto_server() as endpoint:
        client(endpoint).create_bucket(Bucket="lake")
        upload(endpoint, "lake", tmp_path / "raw", "raw")
        storage = Storage(endpoint=endpoint, region="us-east-1", path_style=True, retries=1)
        matching = expand(open_location("s3://lake/raw", storage), "**/clicks*", "key", (".parquet",))
        assert _names(matching) == ["clicks.parquet", "x/clicks-1.parquet", "x/y/clicks-2.parquet"]


@pytest.mark.parametrize("pattern", ["day=2", "day=*/*.parquet", "day=2/gone.parquet"])
def test_a_broken_link_is_named(folder, pattern):
    (folder / "raw/day=2/gone.parquet").symlink_to(folder / "elsewhere.parquet")
    with pytest.raises(InputError) as caught:
        find_files(raw_job(folder, interactions=pattern))
    assert "day=2/gone.parquet: found a broken symbolic link" in str(caught.value)


def test_a_broken_link_that_is_not_meant_is_nobodys_business(folder):
    (folder / "raw/day=2/_gone.parquet").symlink_to(folder / "elsewhere.parquet")
    (folder / "raw/day=2/gone.txt").symlink_to(folder / "elsewhere.txt")
    assert _names(find_files(raw_job(folder, interactions="day=2")).interactions) == ["day=2/b.parquet"]


def test_a_missing_file_is_named_with_its_key(folder):
    with pytest.raises(InputError) as caught:
        find_files(raw_job(folder, interactions="nowhere.csv"))
    assert str(caught.value).startswith(
        f"{folder}/raw/nowhere.csv: found no such file; data.interactions names"
    )
    with pytest.raises(InputError, match=r"nope.npy: found no such file; data.modalities.image.file names"):
        find_files(raw_job(folder, interactions="day=1", modalities={"image": "nope.npy"}))


def test_a_missing_folder_is_data_path(tmp_path):
    with pytest.raises(InputError, match=r"^data.path: found .*/raw; the folder must exist"):
        find_files(raw_job(tmp_path))


def test_names_cannot_leave_the_folder(folder):
    with pytest.raises(
        InputError, match=r"^data.interactions: found ../run/x.parquet; paths must stay below data"
    ):
        find_files(raw_job(folder, interactions="../run/x.parquet"))


def test_several_inter_files_need_a_name(folder):
    write_text(folder, "a.inter", ["user_id:token"])
    assert _names(find_files(raw_job(folder, layout="inter")).interactions) == ["a.inter"]
    write_text(folder, "b.inter", ["user_id:token"])
    with pytest.raises(InputError, match=r"data.interactions: found a.inter, b.inter"):
        find_files(raw_job(folder, layout="inter"))
    assert _names(find_files(raw_job(folder, layout="inter", interactions="b.inter")).interactions) == [
        "b.inter"
    ]


def test_the_release_layout_needs_all_three_files(folder):
    write_text(folder, "train.json", ["{}"])
    write_text(folder, "val.json", ["{}"])
    with pytest.raises(InputError, match=r"test.json: found no such file; data.layout"):
        find_files(raw_job(folder, layout="mmssl"))


def test_the_fingerprint_follows_the_data_section_and_nothing_else(folder):
    def of(seed=0, extra=(), **data):
        tree = raw_job(folder, seed=seed, interactions="day=*/*.parquet", **data).model_dump(mode="json")
        job = parse_job(tree, extra)
        return dataset_fingerprint(job, find_files(job))

    first = of()
    assert of() == first
    assert (
        of(extra=("scaling.workers=3", "training.epochs=2", "partition.parts=7", "model.dimension=8"))
        == first
    )
    assert of(seed=1) == first  # seeds of one experiment share a dataset
    assert of(split={"seed": 1}) != first
    assert of(min_interactions=2) != first
    assert of(split={"method": "ratio", "test": 0.3}) != first
    write_table(folder, "day=2/b.parquet", user_id=[1, 2])
    assert of() != first


@pytest.mark.processes
def test_files_of_a_web_server_are_named_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    write_text(tmp_path, "clicks.csv", ["user_id,item_id", "a,0", "b,1"])
    write_matrix(tmp_path, "image.npy", np.ones((2, 3), np.float32))
    with moto_server() as endpoint:
        store = client(endpoint)
        store.create_bucket(Bucket="web")
        for path in (tmp_path / "raw").iterdir():
            store.put_object(Bucket="web", Key=f"raw/{path.name}", Body=path.read_bytes(), ACL="public-read")

        def job(interactions):
            made = raw_job(tmp_path, interactions=interactions, modalities={"image": "image.npy"})
            data = made.data.model_copy(update={"path": f"{endpoint}/web/raw"})
            return made.model_copy(update={"data": data})

        files = find_files(job("clicks.csv"))
        assert [file.size for file in files.all()] == [24, 152]
        assert all(file.modified for file in files.all())
        sources = open_sources(job("clicks.csv").data, files)
        (table,) = sources.interactions.read(sources.interactions.pieces[0])
        assert table["user_id"].to_pylist() == ["a", "b"]
        (batch,) = sources.features["image"].read(sources.features["image"].pieces[0])
        assert batch.vectors.tolist() == [[1.0] * 3] * 2
        for name in ("none.csv", "*.csv"):
            with pytest.raises(InputError) as caught:
                find_files(job(name))
            where = f"{endpoint}/web/raw/{name}"
            assert f"{where}: found no such file; data.interactions names one file" in str(caught.value)
