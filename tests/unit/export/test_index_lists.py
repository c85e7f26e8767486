"""Lists through the index are the exact ones where the index is exact, and say how they were made; a file of
users limits them, however they are made."""

from __future__ import annotations

from collections import Counter

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.training_sections import Index
from mmssl_dist.errors import ConfigError, InputError
from mmssl_dist.export.chosen_users import ChosenUsers, chosen_users
from mmssl_dist.export.index import ListComparison, make_index, tune_lists
from mmssl_dist.report.list_quality import measure_lists
from mmssl_dist.report.progress import lists_line
from mmssl_dist.serving.id_file import IdFile
from mmssl_dist.serving.run import open_run
from tests.exported import publish_run
from tests.jobs import make_job
from tests.training import USERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lists")
    publish_run(path / "exact")
    return path


def lists_of(output) -> dict[str, tuple[list[int], list[float]]]:
    table = pq.read_table(output / "export/recommendations").to_pydict()
    return dict(zip(table["user_id"], zip(table["items"], table["scores"], strict=True), strict=True))


@pytest.mark.parametrize("index_type", ["flat", "hnsw", "ivf"])
def test_lists_through_an_exact_index_are_the_exact_lists(folder, index_type):
    output = folder / index_type
    sets = (f"export.index.kind={index_type}", "export.index.cells=3", "export.index.recall=0.9999")
    publish_run(output, "export.recommendations=index", *sets)
    exact, ours = lists_of(folder / "exact"), lists_of(output)
    assert list(ours) == list(exact)  # the users of every partition, in its order
    for user, (items, scores) in ours.items():
        assert items == exact[user][0]
        np.testing.assert_allclose(scores, exact[user][1], rtol=1e-5, atol=1e-6)
    facts = open_run(str(output)).facts["lists"]
    assert (facts["made"], facts["users"], facts["unknown_users"]) == ("index", USERS, 0)
    assert facts["overlap"]["value"] == 1.0
    assert ("probes" in facts) == (index_type == "ivf")


@pytest.mark.parametrize("made", ["exact", "index"])
def test_a_file_of_users_limits_the_lists(folder, tmp_path, made):
    (tmp_path / "users.csv").write_text("user_id\nu3\nnobody\nu17\nu3\n")
    publish_run(tmp_path / "run", f"export.recommendations={made}", f"export.users={tmp_path}/users.csv")
    exact, ours = lists_of(folder / "exact"), lists_of(tmp_path / "run")
    assert sorted(ours) == ["u17", "u3"]
    assert {user: items for user, (items, _) in ours.items()} == {user: exact[user][0] for user in ours}
    run = open_run(str(tmp_path / "run"))
    assert (run.facts["lists"]["users"], run.facts["lists"]["unknown_users"]) == (2, 1)
    assert len(run.users) == USERS  # embeddings are everybody's
    quality = measure_lists(run, 5)
    assert quality is not None
    assert quality.users == 2
    assert "1 of export.users are not in the run" in lists_line(run.facts)


def test_without_lists_the_report_has_none(tmp_path):
    publish_run(tmp_path, "export.recommendations=none")
    run = open_run(str(tmp_path))
    assert measure_lists(run, 5) is None
    assert lists_line(run.facts) == "no lists (export.recommendations: none)"


def test_ids_of_a_file_are_compared_in_the_type_of_the_run():
    numbers, texts = pa.array([7, 11, 40]), pa.array(["7", "11", "x"])
    assert ChosenUsers(texts).positions(numbers).tolist() == [0, 1]
    assert ChosenUsers(numbers).positions(texts).tolist() == [0, 1]  # as prepare makes texts of them
    assert ChosenUsers(pa.array([7.0, 11.5, None])).positions(texts).tolist() == [0]
    assert ChosenUsers(numbers.cast(pa.int32())).positions(numbers).tolist() == [0, 1, 2]
    assert ChosenUsers(None).positions(numbers).tolist() == [0, 1, 2]
    uuids = pa.array([bytes(range(16)), bytes(16)], pa.uuid())
    assert ChosenUsers(uuids[:1]).positions(uuids).tolist() == [0]
    assert ChosenUsers(pa.array(["00000000-0000-0000-0000-000000000000"])).positions(uuids).tolist() == [1]
    plain = pa.array([bytes(16)], pa.binary(16))  # without the logical type, as many writers have them
    texts = pa.array(["x", "00000000-0000-0000-0000-000000000000"])
    assert ChosenUsers(plain).positions(texts).tolist() == [1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([["u3"]]), "found values of type .*an id is a number or a text"),
        (
            pa.array([None, None], pa.string()),
            "found no id; export.users: a file of users must name",
        ),
        (pa.array([float("nan")]), "found no id"),
    ],
)
def test_values_that_are_no_ids_are_refused(tmp_path, values, message):
    pq.write_table(pa.table({"user_id": values}), tmp_path / "users.parquet")
    with pytest.raises(InputError, match=message):
        chosen_users(make_job(f"export.users={tmp_path}/users.parquet"))


@pytest.mark.parametrize(
    ("text", "users"), [("customer\nu3\n", ["u3"]), ("customer,user_id\nu3,u4\n", ["u4"])]
)
def test_users_may_be_in_the_column_that_the_job_names(tmp_path, text, users):
    (tmp_path / "users.csv").write_text(text)
    sets = [f"export.users={tmp_path}/users.csv", "data.columns.user=customer"]
    assert chosen_users(make_job(*sets)).ids.to_pylist() == users


def test_empty_rows_of_a_file_are_no_users(tmp_path):
    pq.write_table(pa.table({"user_id": pa.array(["u3", None, "u3"])}), tmp_path / "users.parquet")
    assert chosen_users(make_job(f"export.users={tmp_path}/users.parquet")).named == 1


@pytest.mark.parametrize("made", ["exact", "index"])
def test_users_that_are_all_unknown_are_refused(tmp_path, made):
    (tmp_path / "users.csv").write_text("user_id\nnobody\n")
    with pytest.raises(InputError, match=r"export\.users: found .*, with 1 users, none of which is in"):
        publish_run(tmp_path / "run", f"export.users={tmp_path}/users.csv", f"export.recommendations={made}")
    assert not (tmp_path / "run/export/manifest.json").exists()


def test_files_are_read_once_for_all_partitions(tmp_path, monkeypatch):
    (tmp_path / "users.csv").write_text("user_id\nu3\nu17\n")
    reads: Counter[str] = Counter()

    def counted(name, function):
        def call(*arguments, **options):
            reads[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(IdFile, "ids", counted("users", IdFile.ids))
    monkeypatch.setattr(faiss, "read_index", counted("index", faiss.read_index))
    sets = ("export.recommendations=index", f"export.users={tmp_path}/users.csv")
    job = publish_run(tmp_path / "run", *sets).job
    assert len(list((tmp_path / "run/export/recommendations").iterdir())) == 4
    assert reads == {"users": 1, "index": 1}
    assert chosen_users(job).named == 2
    assert reads["users"] == 1
    (tmp_path / "users.csv").write_text("user_id\nu4\n")
    assert chosen_users(job).named == 1  # another file by now


def test_a_file_of_users_that_is_not_there_is_named_with_its_setting(tmp_path):
    job = make_job(f"export.users={tmp_path}/none.csv")
    with pytest.raises(InputError, match=r"export\.users"):
        chosen_users(job)
    with pytest.raises(ConfigError, match=r"export\.users.*nobody gets a list"):
        make_job("export.users=u.csv", "export.recommendations=none")


def test_lists_search_as_far_as_their_own_overlap_needs():
    rng = np.random.default_rng(0)
    items, users = (rng.normal(size=(n, 16)).astype(np.float32) for n in (2000, 60))
    known = np.sort(np.argsort(-(users @ items.T), 1)[:, :40], 1)  # what the index finds first
    settings = Index(kind="ivf", cells=100, recall=0.9)
    index = make_index(items, settings)
    comparison = ListComparison(items, users, (np.arange(61) * 40, known.ravel()), 50)
    facts = tune_lists(index, comparison, settings)
    assert facts["overlap"]["value"] == comparison.recall(index) >= 0.9
    assert 1 < facts["probes"] < 100
    index.nprobe = facts["probes"] - 1
    assert comparison.recall(index) < 0.9


def test_the_overlap_by_hand():
    items = np.asarray([[4.0], [3.0], [2.0], [1.0], [1.0]], np.float32)
    known = np.asarray([0, 1, 6]), np.asarray([0, 0, 1, 2, 3, 4])  # the second knows everything

    class Partial:
        """Finds the first, the third and the last item alone."""

        def search(self, rows: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
            places = np.tile([0, 2, 4, -1, -1], (len(rows), 1))[:, :depth]
            return items[places, 0], places

    comparison = ListComparison(items, np.ones((2, 1), np.float32), known, 3)
    assert comparison.listed == 3  # the second, the third and one of the last two
    assert comparison.recall(Partial()) == pytest.approx(2 / 3)
