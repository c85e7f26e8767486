"""Checkpoints: what is saved comes back, by part; what is not a checkpoint of this job is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.sharding.lists import ModalityLists
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.storage import Location, open_location
from mmssl_dist.storage.manifest import MANIFEST, SCHEMA
from mmssl_dist.training.checkpoint import (
    CRITIC,
    GENERATOR,
    Position,
    load_dense,
    load_rows,
    read_checkpoint,
    resume,
    rows_file,
    save_checkpoint,
    save_dense,
    save_rows,
    verified,
)
from mmssl_dist.training.state import TrainingState
from tests.artifacts import signed
from tests.unit.training.states import BOOK, dense_state, engine, graph, tables


def contents(table: RowTable, lists: dict[str, ModalityLists]) -> list[Tensor]:
    each = [table.rows, table.first_moment, table.second_moment]
    return each + [value for one in lists.values() for value in (one.items, one.scores, one.published)]


def at(folder: Path) -> Location:
    return open_location(str(folder), Storage())


def here(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def test_rows_come_back_for_any_number_of_workers(tmp_path):
    for rank in range(2):  # the second worker has two parts, one of them empty
        mine = graph(rank, 2)
        save_rows(tmp_path, mine, *tables(mine, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [rows_file(part) for part in range(3)]
    for workers in (1, 2, 3):
        for rank in range(workers):
            mine = graph(rank, workers)
            result = tables(mine, 2)
            load_rows(here(tmp_path), mine, *result)
            for ours, theirs in zip(contents(*result), contents(*tables(mine, 1)), strict=True):
                assert torch.equal(ours, theirs)


POSITION = Position(
    epochs=3,
    steps=5,
    row_steps=77,
    losses={"bpr": 0.1 + 0.2},
    seconds=1.5,
    best=0.25,
    best_epoch=2,
    validations_since_best=1,
    history=({"epoch": 1.0, "loss/bpr": 0.7}, {"epoch": 2.0, "loss/bpr": 0.1 + 0.2}),
)
ALL = sorted([*map(rows_file, range(3)), GENERATOR, CRITIC])


def save(folder: Path, seed: int = 1, position: Position = POSITION) -> TrainingState:
    """A checkpoint in ``folder``, which is made."""
    state = dense_state(seed=seed)
    folder.mkdir()
    save_checkpoint(
        folder=folder,
        graph=graph(),
        state=state,
        position=position,
        worker=Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=folder / "cache", group=None),
    )
    return state


def go_on(
    folder: Path, *checkpoints: str, seed: int = 7, critic: bool = True
) -> tuple[Position, TrainingState]:
    state = dense_state(seed=seed, critic=critic)
    sources = [at(folder / name) for name in checkpoints]
    return resume(
        checkpoints=sources,
        graph=graph(),
        state=state,
        exchange=Exchange(None, BOOK.worker_bounds(1), 0),
        cache=folder / "cache",
    ), state


def same(ours: TrainingState, theirs: TrainingState) -> bool:
    pairs = [
        *zip(contents(ours.table, dict(ours.lists)), contents(theirs.table, dict(theirs.lists)), strict=True)
    ]
    for mine, other in ((ours.generator, theirs.generator), (ours.critic, theirs.critic)):
        assert mine is not None
        assert other is not None
        assert mine.state().keys() == other.state().keys()
        pairs += [(value, other.state()[name]) for name, value in mine.state().items()]
    return all(torch.equal(a, b) for a, b in pairs)


def test_all_comes_back(tmp_path):
    state = save(tmp_path / "c")
    assert sorted(here(tmp_path / "c")) == sorted([*ALL, MANIFEST])
    assert read_checkpoint(at(tmp_path / "c"), [], tmp_path / "cache") == (POSITION, {})
    position, result = go_on(tmp_path, "c")
    assert position == POSITION
    assert result.table.steps == 77
    assert same(result, state)


def test_without_checkpoints_training_starts_anew(tmp_path):
    position, result = go_on(tmp_path)
    assert position == Position()
    assert same(result, dense_state(seed=7))


def test_only_the_first_rank_writes_dense_weights(tmp_path):
    save_dense(tmp_path, dense_state(), rank=1)
    assert list(tmp_path.iterdir()) == []
    save_dense(tmp_path, dense_state(critic=False), rank=0)
    assert sorted(here(tmp_path)) == [GENERATOR]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(b"\x80\x04 not a checkpoint file, but longer than a header's eight bytes")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, scramble, flip, Path.unlink])
@pytest.mark.parametrize("name", ALL)
def test_the_checkpoint_before_a_damaged_one_is_taken_with_a_warning(tmp_path, caplog, name, damage):
    good = save(tmp_path / "old", 1)
    save(tmp_path / "new", 2, replace(POSITION, epochs=4))
    damage(tmp_path / "new" / name)
    position, result = go_on(tmp_path, "new", "old")
    assert position == POSITION
    assert same(result, good)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(
        f"a checkpoint is damaged; falling back to the one before it: {tmp_path}/new/{name}: "
    )


EMPTY = {"schema": SCHEMA, "kind": "checkpoint", "fingerprint": "", "files": {}, "facts": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[
            (text, "not a readable manifest")
            for text in ("", "{", "[]", "7", "\xff", "[" * 100_000, '{"schema": 1}')
        ],
        (signed({**EMPTY, "facts": {"epochs": "three"}}), "not a readable position"),
        (signed(EMPTY), "its manifest names no such file"),
        (signed(EMPTY).replace("checkpoint", "training"), "expected a checkpoint manifest"),
        (json.dumps(EMPTY), "not a readable manifest"),
        (None, "gone; the checkpoint is incomplete"),
    ],
)
def test_a_manifest_that_is_none(tmp_path, caplog, text, message):
    save(tmp_path / "old", 1)
    save(tmp_path / "new", 2)
    manifest = tmp_path / "new" / MANIFEST
    manifest.unlink() if text is None else manifest.write_text(text, encoding="latin-1")
    assert go_on(tmp_path, "new", "old")[0] == POSITION
    assert message in caplog.text


def test_no_whole_checkpoint(tmp_path):
    save(tmp_path / "only")
    flip(tmp_path / "only" / GENERATOR)
    with pytest.raises(
        ArtifactError, match=rf"only: no checkpoint of this run is intact \(.*{GENERATOR}: content"
    ):
        go_on(tmp_path, "only")


def without(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tensors = load_file(path)
        del tensors[name]
        save_file(tensors, path)

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (rows_file(2), truncate, "not a readable checkpoint file"),
        (rows_file(2), empty, "not a readable checkpoint file"),
        (rows_file(2), scramble, "not a readable checkpoint file"),
        (
            rows_file(2),
            without("second_moment"),
            r"second_moment is missing, where this job has \[5, 1\]. The",
        ),
        (
            rows_file(2),
            without("list.text.scores"),
            r"list.text.scores is missing, where this job has \[5, 3\]",
        ),
        (GENERATOR, truncate, "not a readable checkpoint file"),
        (GENERATOR, empty, "not a readable checkpoint file"),
        (GENERATOR, without("steps"), r"steps is missing, where this job has \[1\]"),
        (GENERATOR, without("exp_avg.bias"), r"exp_avg.bias is missing, where this job has \[2\]"),
    ],
)
def test_files_of_another_kind(tmp_path, name, damage, message):
    save(tmp_path / "c")
    damage(tmp_path / "c" / name)
    files = here(tmp_path / "c")
    with pytest.raises(ArtifactError, match=rf"{name}: {message}"):
        load_rows(files, graph(), *tables(graph(), 2)) if name != GENERATOR else load_dense(
            files, GENERATOR, engine(1).module
        )


def test_files_of_another_job(tmp_path):
    save(tmp_path / "c")
    files = here(tmp_path / "c")
    with pytest.raises(ArtifactError, match=r"rows is \[5, 4\], where this job has \[5, 6\]"):
        load_rows(files, graph(), *tables(graph(), 2, dimension=6))
    with pytest.raises(ArtifactError, match=r"second_moment is \[5, 1\], where this job has \[5, 4\]"):
        load_rows(files, graph(), *tables(graph(), 2, optimizer="element"))
    with pytest.raises(ArtifactError, match=r"weight is \[2, 3\], where this job has \[2, 5\]"):
        load_dense(files, GENERATOR, engine(1, width=5).module)


def test_a_file_that_the_manifest_does_not_name(tmp_path):
    with pytest.raises(ArtifactError, match=r"its manifest names no such file\. Run train with --force"):
        verified(at(tmp_path), [GENERATOR], {}, tmp_path / "cache")
