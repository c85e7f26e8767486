"""A dataset goes to MMRec's layout and comes back: the same interactions by split, and the same features."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import load_job
from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM_ID, SPLIT, TIME, USER_ID, VECTOR
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_sources
from mmssl_dist.datasets.interchange import read_mmrec, write_mmrec
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, open_location
from tests.artifacts import write_dataset
from tests.jobs import job_on

USERS, ITEMS = ["ann", "b\tob", "cid"], [70, 71, 72, 73]
TRAIN, VALIDATION, TEST = [(0, 0), (0, 2), (1, 1), (2, 3)], [(1, 0)], [(2, 0), (0, 1)]
IMAGE = np.arange(12, dtype=np.float32).reshape(4, 3) + 0.5
TEXT = np.ones((3, 2), np.float32)


def at(path: Path) -> Location:
    return open_location(str(path), Storage())


@pytest.fixture
def mmrec(tmp_path: Path) -> Path:
    """A dataset in MMRec's layout; item 1 has no text."""
    features = {"image": ([0, 1, 2, 3], IMAGE), "text": ([0, 2, 3], TEXT)}
    write_dataset(
        path=tmp_path / "out/dataset",
        train=TRAIN,
        validation=VALIDATION,
        test=TEST,
        features=features,
        users=USERS,
        items=ITEMS,
    )
    done = write_mmrec(at(tmp_path / "out"), at(tmp_path / "mmrec"), "shop")
    assert (done.users, done.items, done.interactions, done.lacking) == (3, 4, 7, {"image": 0, "text": 1})
    return tmp_path / "mmrec"


def read(job: Job) -> tuple[set[tuple[int, int, int]], dict[str, dict[int, list[float]]]]:
    """What prepare would read: (user, item, split), and the features by modality and item."""
    sources = open_sources(job.data, find_files(job))
    source = sources.interactions
    triples = {
        triple
        for piece in source.pieces
        for table in source.read(piece)
        for triple in zip(*(table[name].to_pylist() for name in (USER_ID, ITEM_ID, SPLIT)), strict=True)
    }
    features = {
        name: {
            item: vector.tolist()
            for piece in feature_source.pieces
            for batch in feature_source.read(piece)
            for item, vector in zip(batch.items.to_pylist(), batch.vectors, strict=True)
        }
        for name, feature_source in sources.features.items()
    }
    return triples, features


TRIPLES = {(u, i, code) for code, pairs in enumerate((TRAIN, VALIDATION, TEST)) for u, i in pairs}
FEATURES = {
    "image": dict(enumerate(IMAGE.tolist())),
    "text": {0: [1.0, 1.0], 1: [0.0, 0.0], 2: [1.0, 1.0], 3: [1.0, 1.0]},
}


def test_mmrec_s_files(mmrec):
    assert sorted(path.name for path in mmrec.iterdir()) == [
        "i_id_mapping.csv",
        "image_feat.npy",
        "shop.inter",
        "text_feat.npy",
        "u_id_mapping.csv",
    ]
    assert (mmrec / "shop.inter").read_text().splitlines()[:2] == ["userID\titemID\tx_label", "0\t0\t0"]
    assert (mmrec / "i_id_mapping.csv").read_text().splitlines()[:2] == ["item_id\titemID", "70\t0"]
    assert (mmrec / "u_id_mapping.csv").read_text().splitlines()[2] == '"b\tob"\t1'
    assert np.load(mmrec / "image_feat.npy").tolist() == IMAGE.tolist()


def test_prepare_reads_them_as_they_are(mmrec):
    files = {"image": {"file": "image_feat.npy"}, "text": {"file": "text_feat.npy"}}
    job = job_on(mmrec, {"layout": "inter", "split": {"method": "given"}, "modalities": files})
    assert read(job) == (TRIPLES, FEATURES)


def test_and_as_tables_with_a_job(mmrec, tmp_path):
    done = read_mmrec(at(mmrec), at(tmp_path / "table"))
    assert (done.users, done.items, done.interactions) == (3, 4, 7)
    assert read(load_job(tmp_path / "table/job.yaml")) == (TRIPLES, FEATURES)
    assert pq.read_table(tmp_path / "table/image.parquet")[VECTOR].type == pa.list_(pa.float32(), 3)


def test_recbole_s_typed_header_without_a_split(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/ml.inter").write_text("user_id:token\titem_id:token\trating:float\n5\t0\t3\n6\t1\t4\n")
    np.save(tmp_path / "raw/audio.npy", np.ones((2, 3), np.float32))
    done = read_mmrec(at(tmp_path / "raw"), at(tmp_path / "table"))
    assert (done.users, done.items, done.interactions) == (2, 2, 2)
    job = load_job(tmp_path / "table/job.yaml")
    assert job.data.split.method == "ratio"
    assert pq.read_table(tmp_path / "table/interactions.parquet").column_names == [USER_ID, ITEM_ID]


def test_what_cannot_be_converted(mmrec, tmp_path):
    with pytest.raises(InputError, match="the dataset must be published first"):
        write_mmrec(at(tmp_path / "nothing"), at(tmp_path / "new"), "shop")
    with pytest.raises(InputError, match=r"FOLDER: .*the folder must be new or empty"):
        write_mmrec(at(tmp_path / "out"), at(mmrec), "shop")
    with pytest.raises(InputError, match=r"found 0 \.inter and 0 \.npy files"):
        read_mmrec(at(tmp_path / "out"), at(tmp_path / "new"))
    (mmrec / "shop.inter").write_text("userID\titemID\tx_label\n0\t0\t7\n")
    with pytest.raises(InputError, match="7"):
        read_mmrec(at(mmrec), at(tmp_path / "new"))
    assert not (tmp_path / "new/job.yaml").exists()


def _inter(folder: Path, *lines: str) -> Path:
    """A folder of RecBole's with these lines, and one modality."""
    (folder / "raw").mkdir()
    (folder / "raw/ml.inter").write_text("".join(f"{line}\n" for line in lines))
    np.save(folder / "raw/audio_feat.npy", np.ones((2, 3), np.float32))
    return folder / "raw"


@pytest.mark.parametrize(
    ("times", "raw", "kept"),
    [
        (("20", "10"), pa.int64(), [20, 10]),
        (("881250949.25", "7"), pa.decimal128(38, 2), [Decimal("881250949.25"), Decimal(7)]),
        (("1e9", "0.5"), pa.float64(), [1e9, 0.5]),
        (("2020-01-01T00:00:00.000000001Z", "2020-01-01"), pa.string(), None),
    ],
)
def test_times_are_kept_and_other_columns_are_named(tmp_path, times, raw, kept):
    raw_folder = _inter(
        tmp_path,
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tnote:token",
        f"5\t0\t3\t{times[0]}\ta",
        f"5\t1\t4\t{times[1]}\tb",
    )
    done = read_mmrec(at(raw_folder), at(tmp_path / "table"))
    assert done.left_out == ("rating", "note")
    table = pq.read_table(tmp_path / "table/interactions.parquet")
    assert table.column_names == [USER_ID, ITEM_ID, TIME]
    assert table[TIME].type == raw
    assert table[TIME].to_pylist() == (list(times) if kept is None else kept)
    job = load_job(tmp_path / "table/job.yaml", ["data.split.method=leave_last_out"])
    assert job.data.columns.time == TIME
    source = open_sources(job.data, find_files(job)).interactions
    first, second = next(source.read(source.pieces[0]))[TIME].to_pylist()
    assert first > second


def test_graphs_and_mappings_beside_features_are_skipped_and_named(tmp_path):
    raw_folder = _inter(tmp_path, "userID\titemID\tx_label", "0\t0\t0", "0\t1\t1")
    np.save(raw_folder / "user_graph_dict.npy", np.array({0: [1]}, dtype=object))
    np.save(raw_folder / "audio.npy", np.ones((2, 9), np.float32))
    done = read_mmrec(at(raw_folder), at(tmp_path / "table"))
    assert done.skipped == ("audio.npy", "user_graph_dict.npy")
    job = load_job(tmp_path / "table/job.yaml")
    assert list(job.data.modalities) == ["audio"]
    assert (job.data.split.method, job.data.columns.split) == ("given", SPLIT)


def test_pickled_objects_are_skipped_where_features_have_other_names(tmp_path):
    raw_folder = _inter(tmp_path, "userID\titemID", "0\t0", "0\t1")
    (raw_folder / "audio_feat.npy").rename(raw_folder / "audio.npy")
    np.save(raw_folder / "user_graph_dict.npy", np.array({0: [1]}, dtype=object))
    done = read_mmrec(at(raw_folder), at(tmp_path / "table"))
    assert done.skipped == ("user_graph_dict.npy",)
    assert list(load_job(tmp_path / "table/job.yaml").data.modalities) == ["audio"]


def test_rows_without_an_id_are_no_user(tmp_path):
    raw_folder = _inter(tmp_path, "userID\titemID\ttime", "0\t0\t1", "\t1\t1", "0\t\t")
    done = read_mmrec(at(raw_folder), at(tmp_path / "table"))
    assert (done.users, done.items) == (1, 2)
