"""The index: exact where it says so, near enough elsewhere, and its recall is counted as it is."""

from __future__ import annotations

import faiss
import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.config.training_sections import Index
from mmssl_dist.errors import ArtifactError
from mmssl_dist.export import index as index_module
from mmssl_dist.export.index import Comparison, build_index, kind_of, make_index, tune_search
from mmssl_dist.export.writers import write_safetensors, write_user_embeddings
from mmssl_dist.storage import FileRecord, Location, open_location

USERS, ITEMS, WIDTH = 60, 2000, 16


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.fixture
def export(tmp_path) -> Location:
    return open_location(str(tmp_path / "export"), Storage())


def write(export: Location, parts: int = 2) -> dict[str, FileRecord]:
    files = {}
    for part in range(parts):
        users, items = rows(USERS // parts, part), rows(ITEMS // parts, 10 + part)
        ids = pa.array(range(len(users)))
        files |= dict(
            [write_safetensors(export, part, users, items), write_user_embeddings(export, part, ids, users)]
        )
    return files


def best(query: np.ndarray, items: np.ndarray, k: int) -> list[int]:
    return np.argsort(-(items @ query))[:k].tolist()


@pytest.mark.parametrize(("index_type", "least"), [("flat", 1.0), ("hnsw", 0.97), ("ivf", 0.9)])
def test_items_are_numbered_file_by_file_and_found(export, index_type, least):
    record, facts, _ = build_index(export, write(export), Index(kind=index_type, probes=64, recall_users=40))
    assert facts["kind"] == index_type
    assert (facts["items"], facts["bytes"]) == (ITEMS, record.bytes)
    assert facts["recall"]["at"] == 20
    assert facts["recall"]["users"] == 40
    assert least <= facts["recall"]["value"] <= 1.0
    items = np.concatenate([rows(ITEMS // 2, 10), rows(ITEMS // 2, 11)])
    query = rows(1, 99)
    _, result = faiss.read_index(f"{export.path}/index/items.faiss").search(query, 20)
    shared = len(set(result[0].tolist()) & set(best(query[0], items, 20)))
    assert shared >= 20 * least - 1
    if index_type == "flat":
        assert result[0].tolist() == best(query[0], items, 20)


def test_cells_filled_at_once_hold_what_faiss_would_put_there(monkeypatch):
    monkeypatch.setattr(index_module, "_BLOCK", 300)
    items = rows(ITEMS, 10)
    ours = make_index(items, Index(kind="ivf", cells=40))
    theirs = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, 40, faiss.METRIC_INNER_PRODUCT)
    theirs.quantizer.add(ours.quantizer.reconstruct_n(0, 40))
    theirs.is_trained = True
    theirs.add(items)
    for cell in range(40):
        count = theirs.invlists.list_size(cell)
        assert ours.invlists.list_size(cell) == count
        numbers = [faiss.rev_swig_ptr(i.invlists.get_ids(cell), count).tolist() for i in (ours, theirs)]
        assert numbers[0] == numbers[1]
    ours.nprobe = theirs.nprobe = 7
    np.testing.assert_array_equal(ours.search(items[:30], 5)[1], theirs.search(items[:30], 5)[1])


def test_auto_changes_kind_at_the_size_given():
    settings = Index(exact_up_to=100)
    assert [kind_of(n, settings) for n in (100, 101)] == ["flat", "ivf"]
    assert kind_of(10**9, Index(kind="hnsw")) == "hnsw"


def test_recall_by_hand():
    items = np.asarray([[3.0], [2.0], [1.0], [1.0]], np.float32)

    class Partial:
        """Finds the first and the last item alone."""

        def search(self, queries: np.ndarray, k: int) -> tuple[None, np.ndarray]:
            return None, np.tile([0, 3, -1, -1], (len(queries), 1))[:, :k]

    comparison = Comparison(items, np.ones((2, 1), np.float32))
    assert comparison.recall(Partial()) == 0.5
    assert comparison.recall(make_index(items, Index())) == 1.0


def test_a_search_too_narrow_is_seen_in_the_recall(export):
    _, narrow, _ = build_index(export, write(export), Index(kind="ivf", cells=100, probes=1))
    _, wide, _ = build_index(export, write(export), Index(kind="ivf", cells=100, probes=100))
    assert narrow["recall"]["value"] < 0.5
    assert wide["recall"]["value"] == 1.0


@pytest.mark.parametrize(
    ("index_type", "name", "least"), [("ivf", "probes", 0.8), ("hnsw", "search_width", 0.97)]
)
def test_auto_searches_as_far_as_the_recall_needs_and_no_farther(index_type, name, least):
    items, users = rows(ITEMS, 10), rows(USERS, 0)
    settings, comparison = (
        Index(kind=index_type, recall=least, cells=100, links=4, build_width=20),
        Comparison(items, users),
    )
    index = make_index(items, settings)
    facts = tune_search(index, comparison, settings)
    value = facts[name]
    assert facts["recall"] == {"value": comparison.recall(index), "at": 20, "users": USERS}
    assert facts["recall"]["value"] >= least
    assert 1 < value < (100 if index_type == "ivf" else ITEMS)
    narrower = tune_search(index, comparison, settings.model_copy(update={name: value - 1}))
    assert narrower[name] == value - 1
    assert narrower["recall"]["value"] < least


def test_a_recall_that_only_all_cells_reach():
    items, users = rows(300, 10), rows(USERS, 0)
    settings, comparison = Index(kind="ivf", recall=0.99999, cells=37), Comparison(items, users)
    index = make_index(items, settings)
    facts = tune_search(index, comparison, settings)
    assert facts["probes"] <= 37
    assert facts["recall"]["value"] == 1.0
    assert tune_search(index, comparison, settings.model_copy(update={"probes": 1000}))["probes"] == 37


def test_fewer_items_than_the_list_is_long(export):
    files = dict(
        [
            write_safetensors(export, 0, rows(3, 0), rows(5, 1)),
            write_user_embeddings(export, 0, pa.array([1, 2, 3]), rows(3, 0)),
        ]
    )
    for index_type in ("flat", "hnsw", "ivf"):
        _, facts, _ = build_index(export, files, Index(kind=index_type))
        assert facts["recall"] == {"value": 1.0, "at": 5, "users": 3}


def test_rows_that_were_changed_are_noticed(export, tmp_path):
    files = write(export)
    (tmp_path / "export/safetensors/part-00001.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="part-00001"):
        build_index(export, files, Index())
