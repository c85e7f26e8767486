"""What is written reads back with the names, types and values promised."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.export import writers
from mmssl_dist.export.id_exchange import RankedIds
from mmssl_dist.storage import Location, open_location


@pytest.fixture
def export(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "export"), Storage())


def test_embeddings_keep_ids_and_bits(export: Location, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    ids = pa.array(["a", "b", "ä", "d", "e"])
    name, record = writers.write_user_embeddings(export, 3, ids, rows)
    assert name == "user_embeddings/part-00003.parquet"
    content = (tmp_path / "export" / name).read_bytes()
    assert (record.bytes, record.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    table = pq.read_table(tmp_path / "export" / name)
    assert table.schema.equals(pa.schema([("user_id", pa.string()), ("vector", pa.list_(pa.float32(), 3))]))
    assert table["user_id"].to_pylist() == ids.to_pylist()
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), rows)

    name, _ = writers.write_item_embeddings(export, 0, pa.array([7, 8, 9, 10, 11]), rows[:, ::-1])
    table = pq.read_table(tmp_path / "export" / name)
    assert name == "item_embeddings/part-00000.parquet"
    assert table.schema.field("item_id").type == pa.int64()
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), rows[:, ::-1])


def test_recommendations_end_where_the_items_end(export: Location, tmp_path: Path) -> None:
    ranked = RankedIds(pa.array(["x", "y", "z"]), np.asarray([[2, 0, 1], [1, -1, -1], [-1, -1, -1]]))
    scores = np.asarray([[3, 2, 1], [9, -np.inf, -np.inf], [-np.inf] * 3], np.float32)
    name, _ = writers.write_recommendations(
        export=export, part=1, users=pa.array([30, 10, 20], pa.uint16()), ranked=ranked, scores=scores
    )
    assert name == "recommendations/part-00001.parquet"
    table = pq.read_table(tmp_path / "export" / name)
    assert table.schema.names == ["user_id", "items", "scores"]
    assert table.schema.field("user_id").type == pa.uint16()
    assert table.schema.field("items").type.value_type == pa.string()
    assert table.schema.field("scores").type.value_type == pa.float32()
    assert table.to_pylist() == [
        {"user_id": 30, "items": ["z", "x", "y"], "scores": [3.0, 2.0, 1.0]},
        {"user_id": 10, "items": ["y"], "scores": [9.0]},
        {"user_id": 20, "items": [], "scores": []},
    ]


def test_a_row_group_holds_no_more_entries_than_its_offsets_can_count(
    export: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_MOST_ENTRIES", 11)
    index = np.arange(28).reshape(7, 4)
    ranked = RankedIds(pa.array(range(28)), index)
    name, _ = writers.write_recommendations(
        export=export, part=0, users=pa.array(range(7)), ranked=ranked, scores=index.astype(np.float32)
    )
    file = pq.ParquetFile(tmp_path / "export" / name)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 2, 1]
    assert file.read()["items"].to_pylist() == index.tolist()


def test_row_groups_join_seamlessly(
    export: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_ROW_GROUP", 4)
    index = np.arange(30).reshape(10, 3)
    ranked = RankedIds(pa.array(np.arange(30) * 10), index)
    ids = pa.array(np.arange(10))
    for name, _ in (
        writers.write_recommendations(
            export=export, part=0, users=ids, ranked=ranked, scores=index.astype(np.float32)
        ),
        writers.write_user_embeddings(export, 0, ids, index.astype(np.float32)),
    ):
        table = pq.read_table(tmp_path / "export" / name)
        assert pq.ParquetFile(tmp_path / "export" / name).num_row_groups == 3
        assert table["user_id"].to_pylist() == list(range(10))
        column = "scores" if "scores" in table.schema.names else "vector"
        assert table[column].to_pylist() == index.tolist()
        if column == "scores":
            assert table["items"].to_pylist() == (index * 10).tolist()


def test_an_empty_partition_still_has_a_schema(export: Location, tmp_path: Path) -> None:
    none = np.empty((0, 2), np.float32)
    ranked = RankedIds(pa.array([], pa.string()), np.empty((0, 2), np.int64))
    for write in (
        lambda part: writers.write_user_embeddings(export, part, pa.array([], pa.int64()), none),
        lambda part: writers.write_recommendations(
            export=export, part=part, users=pa.array([], pa.int64()), ranked=ranked, scores=none
        ),
    ):
        name, _ = write(0)
        assert len(pq.read_table(tmp_path / "export" / name)) == 0
    full = RankedIds(pa.array(["x"]), np.zeros((1, 2), np.int64))
    writers.write_recommendations(
        export=export, part=1, users=pa.array([5]), ranked=full, scores=np.zeros((1, 2), np.float32)
    )
    assert pq.read_table(tmp_path / "export" / "recommendations").num_rows == 1  # one table out of both files
