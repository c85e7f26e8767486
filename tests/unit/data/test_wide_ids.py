"""Columns of ids beyond 2 GiB: what is joined has 64-bit offsets, and values stay what they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data import ids
from mmssl_dist.data.columns import USER, USER_ID
from mmssl_dist.data.ids import concatenated, one_array, with_large_offsets
from mmssl_dist.graph.source import DatasetReader
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import RunFolder
from tests.exported import publish_run


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (pa.string(), pa.large_string()),
        (pa.binary(), pa.large_binary()),
        (pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.large_string())),
        (pa.int64(), pa.int64()),
        (pa.uuid(), pa.uuid()),
        (pa.large_string(), pa.large_string()),
    ],
)
def test_offsets_are_widened_and_nothing_else(narrow, wide):
    assert with_large_offsets(narrow) == wide


def test_joined_texts_have_wide_offsets_and_no_dictionaries():
    texts = pa.array(["a", None, "ä"])
    for chunk in (texts, texts.dictionary_encode()):
        joined = concatenated([chunk, chunk[1:]])
        assert joined.type == pa.large_string()
        assert joined.to_pylist() == ["a", None, "ä", None, "ä"]
    uuids = pa.array([bytes(range(16))], pa.uuid())
    assert concatenated([uuids, uuids]).type == pa.uuid()


def test_a_column_is_widened_where_32_bits_do_not_reach(monkeypatch):
    column = pa.chunked_array([["ab", "cd"], ["ef"]])
    assert one_array(column).type == pa.string()
    monkeypatch.setattr(ids, "MOST_BYTES", 5)
    assert one_array(column).type == pa.large_string()
    assert one_array(column).to_pylist() == ["ab", "cd", "ef"]


def test_whole_columns_of_a_run_have_wide_offsets_and_answers_narrow_ones(tmp_path):
    publish_run(tmp_path)
    run = open_run(str(tmp_path))
    assert run.users.array.type == pa.large_string()
    assert run.users.take(np.asarray([0, 1])).type == pa.string()
    dataset = RunFolder.at(str(tmp_path), Storage()).dataset
    reader = DatasetReader(location=dataset.location, manifest=dataset.require(), cache=tmp_path)
    table = reader.ids_in_order("users", USER_ID, USER)
    assert table[USER_ID].type == pa.large_string()
    assert sorted(table[USER_ID].to_pylist()) == sorted(run.users.array.to_pylist())
