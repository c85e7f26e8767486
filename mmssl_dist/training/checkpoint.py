"""Checkpoints: one file of rows per partition, one per engine of dense weights, and a manifest with their
hashes and where training stood.

Nothing in a checkpoint depends on the number of workers, so another number of them can resume from it. Draws
are functions of seed, epoch and step, so the position is all the random state there is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.sharding.lists import ModalityLists
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.storage import FileRecord, Location, Manifest, open_location, publish, read_manifest
from mmssl_dist.storage.manifest import MANIFEST
from mmssl_dist.training.state import TrainingState

_logger = logging.getLogger(__name__)

KIND = "checkpoint"
GENERATOR, CRITIC = "generator.safetensors", "critic.safetensors"
_REMEDY = "Run train with --force to start over."


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where training stood.

    Attributes:
        epochs: epochs finished. steps: steps taken of the next one.
        row_steps: updates of the ID rows.
        losses: sum of each loss over those steps.
        seconds: what the steps since the last validation took.
        best: best value of the stopping metric, None before the first validation. best_epoch: when it was
            seen.
        validations_since_best: validations without improvement.
        start: figures of a start from an earlier run, by name: users and items taken over, and the validation
            metrics before the first step; empty for a training from the beginning.
        history: one entry per validated epoch: losses, metrics, seconds; "train_seconds" is the mean of the
            epochs since the entry before.
    """

    epochs: int = 0
    steps: int = 0
    row_steps: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    validations_since_best: int = 0
    start: Mapping[str, float] = field(default_factory=dict)
    history: tuple[dict[str, float], ...] = field(default=())


_POSITION = TypeAdapter(Position)


def rows_file(part: int) -> str:
    """File name of the rows of ``part``."""
    return f"rows-part-{part:05d}.safetensors"


def save_checkpoint(
    folder: Path, graph: LocalGraph, state: TrainingState, position: Position, worker: Worker
) -> None:
    """Write this worker's share to the local ``folder``; on rank 0 the manifest too (collective).

    The folders of all workers together are the checkpoint.
    """
    save_rows(folder, graph, state.table, state.lists)
    save_dense(folder, state, worker.rank)
    location = open_location(str(folder), Storage())
    # Hashed where it was written: rank 0 then needs no worker's files to write the manifest.
    records = [{location.relative(info): (location / info.base_name).record() for info in location.files()}]
    if worker.world_size > 1:
        mine, records = records[0], [{}] * worker.world_size
        dist.all_gather_object(records, mine, group=worker.group)
    if worker.rank == 0:
        # On rank 0 alone; a checkpoint without this manifest counts as not written.
        files = {name: record for share in records for name, record in share.items()}
        publish(location, Manifest(KIND, "", asdict(position), files))


def resume(
    checkpoints: Sequence[Location], graph: LocalGraph, state: TrainingState, exchange: Exchange, cache: Path
) -> Position:
    """Bring ``state`` to where the first of ``checkpoints`` stood that is whole for every worker
    (collective).

    Returns:
        Where it stood; the start without any checkpoints.

    Raises:
        ArtifactError: none is whole, or one belongs to another job.
    """
    engines = {GENERATOR: state.generator} | ({CRITIC: state.critic} if state.critic else {})
    names = [*map(rows_file, graph.parts), *engines]
    damage: ArtifactError | None = None
    for checkpoint in checkpoints:
        try:
            position, files = read_checkpoint(checkpoint, names, cache)
            mine = None
        except ArtifactError as error:
            mine = damage = error
            _logger.warning("a checkpoint is damaged; falling back to the one before it: %s", error)
        # All workers or none: one that is damaged for a single worker cannot be resumed from.
        if exchange.max(mine is not None):
            continue
        load_rows(files, graph, state.table, state.lists)
        # The bias correction's exponent belongs to the moments that were just loaded.
        state.table.steps = position.row_steps
        for name, engine in engines.items():
            engine.load(load_dense(files, name, engine.module))
        return position
    if checkpoints:
        cause = f" ({damage})" if damage else ""
        raise ArtifactError(f"{checkpoints[0].url}: no checkpoint of this run is intact{cause}. {_REMEDY}")
    return Position()


def read_checkpoint(source: Location, names: Iterable[str], cache: Path) -> tuple[Position, dict[str, Path]]:
    """Where training stood, and local copies of the files ``names``, checked against the manifest.

    Raises:
        ArtifactError: no readable manifest, a file is gone, or its content is not what was written.
    """
    manifest = read_manifest(source, KIND)
    if manifest is None:
        raise ArtifactError(f"{source.url}/{MANIFEST}: gone; the checkpoint is incomplete. {_REMEDY}")
    try:
        position = _POSITION.validate_python(manifest.facts)
    except ValidationError as error:
        raise ArtifactError(
            f"{source.url}/{MANIFEST}: not a readable position ({error}). {_REMEDY}"
        ) from error
    return position, verified(source, names, manifest.files, cache)


def verified(
    source: Location, names: Iterable[str], records: Mapping[str, FileRecord], cache: Path
) -> dict[str, Path]:
    """Local copies of the files ``names`` below ``source``, each with the content that ``records`` says."""
    local_paths = {}
    for name in names:
        if name not in records:
            raise ArtifactError(f"{source.url}/{name}: its manifest names no such file. {_REMEDY}")
        local_paths[name] = (source / name).localize(cache, records[name])
    return local_paths


def save_rows(folder: Path, graph: LocalGraph, table: RowTable, lists: Mapping[str, ModalityLists]) -> None:
    """Write the rows, moments and learned lists of this worker's partitions."""
    for part, first, last in zip(graph.parts, graph.offsets[:-1], graph.offsets[1:], strict=True):
        tensors = {name: value[first:last] for name, value in _tables(table, lists).items()}
        # safetensors writes whole storages, so a slice of a table has to become a tensor of its own.
        on_host = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(on_host, folder / rows_file(part))


def load_rows(
    files: Mapping[str, Path], graph: LocalGraph, table: RowTable, lists: Mapping[str, ModalityLists]
) -> None:
    """Fill the tables with what ``save_rows`` wrote, from the files of this worker's partitions only."""
    for part, first, last in zip(graph.parts, graph.offsets[:-1], graph.offsets[1:], strict=True):
        path = files[rows_file(part)]
        stored = _load(path)
        tables = {name: value[first:last] for name, value in _tables(table, lists).items()}
        _require_shapes(path, stored, {name: tuple(value.shape) for name, value in tables.items()})
        for name, value in tables.items():
            value.copy_(stored[name])


def save_dense(folder: Path, state: TrainingState, rank: int) -> None:
    """Write dense weights with their optimizer; rank 0 writes, all take part (collective)."""
    engines = {GENERATOR: state.generator.state()} | ({CRITIC: state.critic.state()} if state.critic else {})
    if rank == 0:
        for name, tensors in engines.items():
            save_file(tensors, folder / name)


def load_dense(files: Mapping[str, Path], name: str, module: nn.Module) -> dict[str, Tensor]:
    """Dense weights and optimizer state of ``module``: GENERATOR or CRITIC."""
    stored = _load(files[name])
    expected_shapes: dict[str, tuple[int, ...]] = {"steps": (1,)}
    for parameter, value in module.named_parameters():
        expected_shapes |= {
            f"{prefix}{parameter}": tuple(value.shape) for prefix in ("", "exp_avg.", "exp_avg_sq.")
        }
    # Before anything is copied: a state half of one job and half of another must not come about.
    _require_shapes(files[name], stored, expected_shapes)
    return stored


def _tables(table: RowTable, lists: Mapping[str, ModalityLists]) -> dict[str, Tensor]:
    result = {"rows": table.rows, "first_moment": table.first_moment, "second_moment": table.second_moment}
    for m, of_modality in lists.items():
        named: dict[str, Any] = {
            "items": of_modality.items,
            "scores": of_modality.scores,
            "published": of_modality.published,
        }
        result |= {f"list.{m}.{name}": value for name, value in named.items()}
    return result


def _require_shapes(path: Path, stored: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        stored_shape = tuple(stored[name].shape) if name in stored else None
        if stored_shape != shape:
            raise ArtifactError(
                f"{path}: {name} is {'missing' if stored_shape is None else list(stored_shape)}, "
                f"where this job has {list(shape)}. The checkpoint belongs to another job. {_REMEDY}"
            )


def _load(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path}: not a readable checkpoint file ({error}). {_REMEDY}") from error
    return tensors
