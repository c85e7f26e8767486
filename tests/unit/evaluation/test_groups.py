"""Cold and warm items apart, and the file of each user's metrics, against cases by hand and for two
workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.evaluate import held_out_users, means_of, popularity_users, ranked_users
from mmssl_dist.evaluation.groups import group_metrics
from mmssl_dist.evaluation.metrics import metric_names
from mmssl_dist.evaluation.user_columns import MODEL, POPULARITY
from mmssl_dist.evaluation.users import write_user_metrics
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.storage import open_location
from tests.graphs import local_graph
from tests.processes import run_workers

# Four users, five items (ranks); nodes: users 0, 1, items 2, 3, 4, then users 5, 6, items 7, 8. Cold: 3, 4.
CUT = PartitionBook((2, 2), (3, 2))
TRAIN = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (3, 2)]
HELD = [(0, 3), (0, 2), (1, 4), (3, 0)]  # user 2 holds nothing out
SETTINGS = Evaluation(ks=(1, 2), metric="recall@2", user_block=2, item_block=2)
ROWS = torch.tensor([1.0, 1.0, 0.5, 0.4, 0.3, 1.0, -1.0, 0.2, 0.1])[
    :, None
]  # user 3 ranks items the other way
IDS = [pa.array(["u0", "u1"]), pa.array(["u2", "u3"])]


def evaluate(rank: int, workers: int, folder: Path, held: list[tuple[int, int]]) -> tuple[dict, dict]:
    graph = local_graph(book=CUT, pairs=TRAIN, rank=rank, workers=workers, held_out=held)
    exchange = Exchange(dist.group.WORLD if workers > 1 else None, CUT.worker_bounds(workers), rank)
    rows = ROWS[graph.first : graph.first + graph.num_rows]
    groups = group_metrics(
        settings=SETTINGS, graph=graph, rows=rows, exchange=exchange, splits=("validation", "test")
    )
    result = {
        MODEL: held_out_users(
            settings=SETTINGS, graph=graph, rows=rows, exchange=exchange, splits=("validation", "test")
        ),
        POPULARITY: popularity_users(SETTINGS, graph, exchange, ("test",)),
    }
    ids = [IDS[part] for part in graph.parts]
    records = write_user_metrics(
        evaluation=open_location(str(folder), Storage()),
        graph=graph,
        ids=ids,
        by_ranker=result,
        ks=SETTINGS.ks,
    )
    assert list(records) == [f"users/part-{part:05d}.parquet" for part in graph.parts]
    return groups, means_of(SETTINGS, result[MODEL], exchange)


def test_cold_and_warm_by_hand(tmp_path):
    groups, _ = evaluate(0, 1, tmp_path, HELD)
    assert groups["cold"]["test"] == groups["cold"]["validation"]
    # of 3, 4: user 0 finds 3 first, user 1 finds 4 second
    cold, warm = groups["cold"]["test"], groups["warm"]["test"]
    assert (cold["users"], cold["items"]) == (2, 2)
    assert (cold["recall@1"], cold["recall@2"], cold["mrr@2"]) == (0.5, 1, 0.75)
    # of 0, 1, 2: user 0 knows 0 and 1 and finds 2 first; user 3 knows 2 and finds 0 second
    assert (warm["users"], warm["items"]) == (2, 3)
    assert (warm["recall@1"], warm["recall@2"], warm["mrr@2"]) == (0.5, 1, 0.75)


def test_without_cold_items_to_find_there_are_no_groups(tmp_path):
    assert evaluate(0, 1, tmp_path, [(0, 2), (3, 0)])[0] == {}


def test_cold_items_alone(tmp_path):
    groups, _ = evaluate(0, 1, tmp_path, [(0, 3)])
    assert set(groups) == {"cold"}


def test_each_user_s_metrics_have_the_means_of_the_whole(tmp_path):
    _, means = evaluate(0, 1, tmp_path, HELD)
    table = pa.concat_tables(pq.read_table(tmp_path / f"users/part-0000{part}.parquet") for part in range(2))
    assert table.column_names == ["user_id", "split", "who", "positives", *metric_names((1, 2))]
    for split in ("validation", "test"):
        mine = table.filter((pc.field("split") == split) & (pc.field("who") == MODEL))
        assert mine["user_id"].to_pylist() == ["u0", "u1", "u3"]
        assert mine["positives"].to_pylist() == [2, 1, 1]
        assert mine["recall@2"].to_pylist() == [1, 0, 0]
        assert mine.schema.field("recall@2").type == pa.float32()
        for name in metric_names((1, 2)):
            assert pc.mean(mine[name]).as_py() == pytest.approx(means[split][name], abs=1e-7)
    popular = table.filter(pc.field("who") == POPULARITY)
    assert (popular["split"].to_pylist(), popular["recall@1"].to_pylist()) == (["test"] * 3, [0.5, 0, 1])


@pytest.mark.processes
def test_two_workers_publish_the_same(tmp_path):
    alone = evaluate(0, 1, tmp_path / "one", HELD)
    assert run_workers(2, evaluate, 2, tmp_path / "two", HELD) == [alone, alone]
    for part in range(2):
        name = f"users/part-0000{part}.parquet"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("wanted", [1, 40, 200, 1000])
def test_some_users_are_drawn_and_the_same_ones_for_any_number_of_workers(wanted):
    book = PartitionBook((300, 100), (2, 2))
    held = [(user, user % 4) for user in range(0, 400, 2)]
    settings = Evaluation(users=wanted)

    class Counted(Exchange):
        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return torch.tensor([200])

    def drawn(rank: int, workers: int) -> list[int]:
        graph = local_graph(book=book, pairs=[(0, 0)], rank=rank, workers=workers, held_out=held)
        exchange = Counted(None, book.worker_bounds(1), 0)
        return (ranked_users(settings, graph, graph.held_out["test"], exchange) + graph.first).tolist()

    together = drawn(0, 1)
    assert drawn(0, 2) + drawn(1, 2) == together
    assert abs(len(together) - min(wanted, 200)) <= 3 * wanted**0.5
    assert set(together) < set(range(400 + 4))


def drawn_metrics(rank: int, workers: int, wanted: int) -> tuple[dict, dict, list[list[int]]]:
    """Of 500 users all hold a warm item out for the test and every other one a cold item, but one user alone
    holds items out for validation, and a cold one among them."""
    book = PartitionBook((300, 200), (3, 2))  # items 3 and 4 are cold
    train = [(user, user % 3) for user in range(500)]
    test = [pair for user in range(500) for pair in [(user, (user + 1) % 3), (user, 3)][: 1 + user % 2]]
    graph = local_graph(book=book, pairs=train, rank=rank, workers=workers, held_out=test)
    one = local_graph(
        book=book, pairs=train, rank=rank, workers=workers, held_out=[(407, 0), (407, 4)]
    ).held_out["test"]
    graph = replace(graph, held_out={"validation": one, "test": graph.held_out["test"]})
    exchange = Exchange(dist.group.WORLD if workers > 1 else None, book.worker_bounds(workers), rank)
    rows = torch.ones(505, 1)[graph.first : graph.first + graph.num_rows]
    settings = SETTINGS.model_copy(update={"users": wanted})
    groups = group_metrics(
        settings=settings, graph=graph, rows=rows, exchange=exchange, splits=("validation", "test")
    )
    users = held_out_users(
        settings=settings, graph=graph, rows=rows, exchange=exchange, splits=("validation", "test")
    )
    counted = [exchange.sum(torch.tensor([len(of_split.rows)])).tolist() for of_split in users.values()]
    return groups, means_of(settings, users, exchange), counted


@pytest.mark.parametrize("wanted", [1, 20])
def test_a_split_of_one_user_has_metrics_when_some_are_drawn(wanted):
    groups, means, counted = drawn_metrics(0, 1, wanted)
    assert set(means) == set(groups["cold"]) == set(groups["warm"]) == {"validation", "test"}
    assert counted[0] == [1] == [groups["cold"]["validation"]["users"]]
    assert 1 <= counted[1][0] <= wanted + 3 * wanted**0.5
    # The split draws from its own users, so it is the same draw as without the other one.
    assert abs(groups["cold"]["test"]["users"] - wanted) <= 3 * wanted**0.5


@pytest.mark.processes
def test_two_workers_draw_the_same_users_for_a_split_of_one():
    alone = drawn_metrics(0, 1, 1)
    assert run_workers(2, drawn_metrics, 2, 1) == [alone, alone]
