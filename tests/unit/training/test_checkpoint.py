"""Checkpoints: what is saved comes back, by part; what is no checkpoint of this job is told from one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmssl_dist.config.tree import RowOptimizer, Storage
from mmssl_dist.errors import ArtifactError
from mmssl_dist.graph.book import PartitionBook
from mmssl_dist.sharding.lists import ModalityLists
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.storage import FileRecord, Location, open_location
from mmssl_dist.training.checkpoint import (
    CRITIC,
    GENERATOR,
    POSITION,
    Position,
    load_dense,
    load_rows,
    read_position,
    rows_file,
    save_dense,
    save_rows,
)
from mmssl_dist.training.engines import Engine
from mmssl_dist.training.state import TrainingState
from tests.graphs import local_graph

BOOK = PartitionBook((2, 0, 3), (3, 0, 2))  # 5, 0 and 5 nodes
PAIRS = [(u, u) for u in range(5)]


def graph(rank: int = 0, workers: int = 1) -> LocalGraph:
    return local_graph(BOOK, PAIRS, rank, workers)


def tables(
    graph: LocalGraph, seed: int, dimension: int = 4, kind: str = "row"
) -> tuple[RowTable, dict[str, ModalityLists]]:
    """Filled with what depends on the seed and the node."""
    numbers = torch.Generator().manual_seed(seed)
    mine = slice(graph.first, graph.first + graph.num_rows)

    def draw(*width: int) -> Tensor:
        return torch.randn(BOOK.num_nodes, *width, generator=numbers)[mine]

    table = RowTable(draw(dimension), RowOptimizer(second_moment=kind))  # type: ignore[arg-type]
    table.first_moment, table.second_moment = draw(dimension), draw(table.second_moment.shape[1])
    lists = {}
    for m in ("image", "text"):
        lists[m] = ModalityLists(graph.num_rows, 3)
        lists[m].items, lists[m].scores = (draw(3) * 100).long() % BOOK.num_nodes, draw(3)
        lists[m].publish()
        lists[m].items = (draw(3) * 100).long() % BOOK.num_nodes
    return table, lists


def contents(table: RowTable, lists: dict[str, ModalityLists]) -> list[Tensor]:
    each = [table.rows, table.first_moment, table.second_moment]
    return each + [value for one in lists.values() for value in (one.items, one.scores, one.published)]


def engine(seed: int, width: int = 3) -> Engine:
    """Stands in for DeepSpeed: a module and made-up moments."""
    module = nn.Linear(width, 2)
    numbers = torch.Generator().manual_seed(seed)
    state = {"steps": torch.tensor([seed])}
    for name, value in module.named_parameters():
        for kind in ("", "exp_avg.", "exp_avg_sq."):
            state[f"{kind}{name}"] = torch.randn(value.shape, generator=numbers)
    return cast(Engine, SimpleNamespace(module=module, state=lambda: state))


def dense_state(critic: bool = True) -> TrainingState:
    table, lists = tables(graph(), 0)
    return TrainingState(table, lists, engine(1), engine(2) if critic else None)


def at(folder: Path) -> Location:
    return open_location(str(folder), Storage())


def test_rows_come_back_for_any_number_of_workers(tmp_path):
    for rank in range(2):  # the second worker has two parts, one of them empty
        mine = graph(rank, 2)
        save_rows(tmp_path, mine, *tables(mine, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [rows_file(part) for part in range(3)]
    for workers in (1, 2, 3):
        for rank in range(workers):
            mine = graph(rank, workers)
            found = tables(mine, 2)
            load_rows(at(tmp_path), mine, *found, tmp_path / "cache")
            for ours, theirs in zip(contents(*found), contents(*tables(mine, 1)), strict=True):
                assert torch.equal(ours, theirs)


def test_dense_weights_and_position_come_back(tmp_path):
    position = Position(3, 77, 0.25, 2, 1, ({"epoch": 1.0, "loss/bpr": 0.7}, {"epoch": 2.0, "loss/bpr": 0.1 + 0.2}))
    state = dense_state()
    save_dense(tmp_path, state, position, rank=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([GENERATOR, CRITIC, POSITION])
    assert read_position(at(tmp_path)) == position
    assert state.critic is not None
    for name, each in ((GENERATOR, state.generator), (CRITIC, state.critic)):
        stored, wanted = load_dense(at(tmp_path), name, each.module, tmp_path / "cache"), each.state()
        assert stored.keys() == wanted.keys()
        assert all(torch.equal(stored[key], wanted[key]) for key in wanted)


def test_only_the_first_rank_writes_dense_weights(tmp_path):
    save_dense(tmp_path, dense_state(), Position(), rank=1)
    assert list(tmp_path.iterdir()) == []
    save_dense(tmp_path, dense_state(critic=False), Position(), rank=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([GENERATOR, POSITION])
    assert read_position(at(tmp_path)) == Position()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(b"\x80\x04 not a checkpoint file, but longer than a header's eight bytes")


def without(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tensors = load_file(path)
        del tensors[name]
        save_file(tensors, path)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a readable checkpoint file"), (empty, "not a readable checkpoint file"),
        (scramble, "not a readable checkpoint file"),
        (without("second_moment"), r"second_moment is missing, where this job has \[5, 1\]. The checkpoint belongs to"),
        (without("list.text.scores"), r"list.text.scores is missing, where this job has \[5, 3\]"),
    ],
)  # fmt: skip
def test_damaged_rows(tmp_path, damage, message):
    save_rows(tmp_path, graph(), *tables(graph(), 1))
    damage(tmp_path / rows_file(2))
    with pytest.raises(ArtifactError, match=rf"{rows_file(2)}: {message}"):
        load_rows(at(tmp_path), graph(), *tables(graph(), 2), tmp_path / "cache")


def test_rows_of_another_job(tmp_path):
    save_rows(tmp_path, graph(), *tables(graph(), 1))
    with pytest.raises(ArtifactError, match=r"rows is \[5, 4\], where this job has \[5, 6\]"):
        load_rows(at(tmp_path), graph(), *tables(graph(), 2, dimension=6), tmp_path / "cache")
    with pytest.raises(ArtifactError, match=r"second_moment is \[5, 1\], where this job has \[5, 4\]"):
        load_rows(at(tmp_path), graph(), *tables(graph(), 2, kind="element"), tmp_path / "cache")


def test_content_that_differs_from_the_manifest(tmp_path):
    save_rows(tmp_path, graph(), *tables(graph(), 1))
    records = {rows_file(part): FileRecord(1, "0" * 64) for part in range(3)}
    with pytest.raises(ArtifactError, match="content differs from its manifest"):
        load_rows(at(tmp_path), graph(), *tables(graph(), 2), tmp_path / "cache", records)
    with pytest.raises(ArtifactError, match=r"its manifest names no such file\. Run train with --force"):
        load_rows(at(tmp_path), graph(), *tables(graph(), 2), tmp_path / "cache", {})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a readable checkpoint file"), (empty, "not a readable checkpoint file"),
        (without("steps"), r"steps is missing, where this job has \[1\]"),
        (without("exp_avg.bias"), r"exp_avg.bias is missing, where this job has \[2\]"),
    ],
)  # fmt: skip
def test_damaged_dense_weights(tmp_path, damage, message):
    save_dense(tmp_path, dense_state(), Position(), rank=0)
    damage(tmp_path / GENERATOR)
    with pytest.raises(ArtifactError, match=f"{GENERATOR}: {message}"):
        load_dense(at(tmp_path), GENERATOR, engine(1).module, tmp_path / "cache")


def test_dense_weights_of_another_job(tmp_path):
    save_dense(tmp_path, dense_state(), Position(), rank=0)
    with pytest.raises(ArtifactError, match=r"weight is \[2, 3\], where this job has \[2, 5\]"):
        load_dense(at(tmp_path), GENERATOR, engine(1, width=5).module, tmp_path / "cache")


def test_an_absent_file(tmp_path):
    with pytest.raises(ArtifactError, match=f"{GENERATOR}: gone; the checkpoint is not whole"):
        load_dense(at(tmp_path), GENERATOR, engine(1).module, tmp_path / "cache")
    with pytest.raises(ArtifactError, match=f"{POSITION}: gone; the checkpoint is not whole"):
        read_position(at(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "\xff", json.dumps({"schema": 2, "history": []}), json.dumps({"history": []}),
        json.dumps({"schema": 1}), json.dumps({"schema": 1, "history": [], "zebra": 1}),
        json.dumps({"schema": 1, "history": 4}), "[" * 100_000,
    ],
)  # fmt: skip
def test_a_position_that_is_none(tmp_path, text):
    (tmp_path / POSITION).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=f"{POSITION}: not a readable position"):
        read_position(at(tmp_path))
