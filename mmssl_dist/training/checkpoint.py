"""Checkpoints: one file of rows per partition, one of dense weights, one JSON that says where training stood.

Nothing in a checkpoint depends on the number of workers, so another number of them can go on from it. Draws are
functions of seed, epoch and step, so the position is all the random state there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmssl_dist.errors import ArtifactError
from mmssl_dist.sharding.lists import ModalityLists
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.training.state import TrainingState

GENERATOR, CRITIC, POSITION = "generator.safetensors", "critic.safetensors", "position.json"
_SCHEMA = 1
_REMEDY = "Run train with --force to start anew."


@dataclass(frozen=True)
class Position:
    """Where training stood.

    Attributes:
        epochs: epochs finished.
        row_steps: updates of the ID rows.
        best: best value of the stopping metric, None before the first validation. best_epoch: when it was seen.
        validations_since_best: validations without improvement.
        history: one entry per validated epoch: losses, metrics, seconds.
    """

    epochs: int = 0
    row_steps: int = 0
    best: float | None = None
    best_epoch: int = 0
    validations_since_best: int = 0
    history: tuple[dict[str, float], ...] = field(default=())


def rows_file(part: int) -> str:
    """File name of the rows of ``part``."""
    return f"rows-part-{part:05d}.safetensors"


def save_rows(folder: Path, graph: LocalGraph, table: RowTable, lists: Mapping[str, ModalityLists]) -> None:
    """Write the rows, moments and learned lists of this worker's partitions."""
    for part, first, last in zip(graph.parts, graph.offsets[:-1], graph.offsets[1:], strict=True):
        tensors = {name: value[first:last] for name, value in _tables(table, lists).items()}
        on_host = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(on_host, folder / rows_file(part))


def load_rows(source: Location, graph: LocalGraph, table: RowTable, lists: Mapping[str, ModalityLists], cache: Path,
              files: Mapping[str, FileRecord] | None = None) -> None:  # fmt: skip
    """Fill the tables with what ``save_rows`` wrote, from the files of this worker's partitions only."""
    for part, first, last in zip(graph.parts, graph.offsets[:-1], graph.offsets[1:], strict=True):
        stored = _load(source, rows_file(part), cache, files)
        tables = {name: value[first:last] for name, value in _tables(table, lists).items()}
        shapes = {name: tuple(value.shape) for name, value in tables.items()}
        _require_shapes(f"{source.url}/{rows_file(part)}", stored, shapes)
        for name, value in tables.items():
            value.copy_(stored[name])


def save_dense(folder: Path, state: TrainingState, position: Position, rank: int) -> None:
    """Write dense weights with their optimizer and the position; rank 0 writes, all take part (collective)."""
    engines = {GENERATOR: state.generator.state()} | ({CRITIC: state.critic.state()} if state.critic else {})
    if rank == 0:
        for name, tensors in engines.items():
            save_file(tensors, folder / name)
        (folder / POSITION).write_text(json.dumps({"schema": _SCHEMA, **asdict(position)}, indent=1))


def load_dense(source: Location, name: str, module: nn.Module, cache: Path,
               files: Mapping[str, FileRecord] | None = None) -> dict[str, Tensor]:  # fmt: skip
    """Dense weights and optimizer state of ``module``: GENERATOR or CRITIC."""
    stored = _load(source, name, cache, files)
    wanted: dict[str, tuple[int, ...]] = {"steps": (1,)}
    for parameter, value in module.named_parameters():
        wanted |= {f"{kind}{parameter}": tuple(value.shape) for kind in ("", "exp_avg.", "exp_avg_sq.")}
    _require_shapes(f"{source.url}/{name}", stored, wanted)
    return stored


def read_position(source: Location) -> Position:
    """Where the training of this checkpoint stood."""
    text = _require_file(source, POSITION).read_bytes()
    try:
        content: dict[str, Any] = json.loads(text)
        if content.pop("schema") != _SCHEMA:
            raise ValueError("another schema")
        return Position(**{**content, "history": tuple(content["history"])})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{source.url}/{POSITION}: not a readable position ({error}). {_REMEDY}") from error


def resume(source: Location, graph: LocalGraph, state: TrainingState, cache: Path) -> Position:
    """Bring ``state`` to where the checkpoint stood (collective)."""
    position = read_position(source)
    load_rows(source, graph, state.table, state.lists, cache)
    state.table.steps = position.row_steps
    state.generator.load(load_dense(source, GENERATOR, state.generator.module, cache))
    if state.critic is not None:
        state.critic.load(load_dense(source, CRITIC, state.critic.module, cache))
    return position


def _tables(table: RowTable, lists: Mapping[str, ModalityLists]) -> dict[str, Tensor]:
    result = {"rows": table.rows, "first_moment": table.first_moment, "second_moment": table.second_moment}
    for m, each in lists.items():
        named = {"items": each.items, "scores": each.scores, "published": each.published}
        result |= {f"list.{m}.{name}": value for name, value in named.items()}
    return result


def _require_shapes(url: str, stored: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        found = tuple(stored[name].shape) if name in stored else None
        if found != shape:
            raise ArtifactError(f"{url}: {name} is {'missing' if found is None else list(found)}, where this job has "
                                f"{list(shape)}. The checkpoint belongs to another job. {_REMEDY}")


def _load(source: Location, name: str, cache: Path, files: Mapping[str, FileRecord] | None) -> dict[str, Tensor]:
    location = _require_file(source, name)
    if files is not None and name not in files:
        raise ArtifactError(f"{location.url}: its manifest names no such file. {_REMEDY}")
    path = location.localize(cache, files[name] if files is not None else None)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{location.url}: not a readable checkpoint file ({error}). {_REMEDY}") from error
    return tensors


def _require_file(source: Location, name: str) -> Location:
    location = source / name
    if not location.exists():
        raise ArtifactError(f"{location.url}: gone; the checkpoint is not whole. {_REMEDY}")
    return location

