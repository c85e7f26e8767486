"""Every setting of a job changes something: each one is in a table, and what the table says is seen to
happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from mmssl_dist.cluster.connection import connect
from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Scaling, Storage
from tests.end_to_end import data_probes, embedding_probes, export_probes, launch_probes, training_probes
from tests.end_to_end.fields import CHANGES, Change
from tests.processes import run_workers

Sets = tuple[str, ...]
ANOTHER_PROCESS = "another process"


@dataclass(frozen=True)
class Observations:
    """What was seen: twice before a change, by probe and overrides; and after it."""

    before: dict[tuple[str, Sets], tuple[object, object]]
    after: dict[Change, object]


# Each does something with a job made from overrides, in a folder, and gives back what came of it.
HERE: dict[str, Callable[[Path, Sets], object]] = {
    "read": data_probes.read,
    "prepare": data_probes.prepared,
    "embedding": embedding_probes.embedded,
    "index": export_probes.index,
    "list table": export_probes.list_table_files,
    "table": export_probes.table,
    "launch": launch_probes.handed_to_ray,
    "partition workers": launch_probes.workers_of_partition,
    "room": launch_probes.room,
    "start": launch_probes.start,
    "search": launch_probes.asked_of_tune,
    "trackers": launch_probes.asked_of_mlflow,
    "registered": launch_probes.registered_models,
    "wandb": launch_probes.asked_of_wandb,
    "storage": launch_probes.filesystem,
    "cache": launch_probes.downloads_kept,
    "retries": launch_probes.requests_of_a_failing_store,
}


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The path of every setting; ``*`` stands for a key of the user's own."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        mapping = get_origin(field.annotation) is dict
        kinds = [
            annotation
            for annotation in (field.annotation, *get_args(field.annotation))
            if isinstance(annotation, type)
        ]
        inner = next((annotation for annotation in kinds if issubclass(annotation, BaseModel)), None)
        if inner is None or mapping:
            yield path
        if inner is not None:
            yield from leaves(inner, f"{path}.*." if mapping else f"{path}.")


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_machine() -> Iterator[None]:
    with connect(Scaling(), Storage()):
        yield


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Observations]:
    """What is seen at a place; each is looked at once, whether that works or fails."""
    seen: dict[str, Future[Observations]] = {}

    def at(location: str) -> Observations:
        if location not in seen:
            seen[location] = Future()
            try:
                seen[location].set_result(_observe(location, tmp_path_factory.mktemp("observed")))
            except Exception as error:
                seen[location].set_exception(error)
        return seen[location].result()

    return at


def _observe(location: str, folder: Path) -> Observations:
    changes = [change for change in CHANGES if _place(change) == location]
    bases = list(dict.fromkeys((change.probe, change.base) for change in changes))
    wanted = [*bases, *bases, *((change.probe, (*change.base, *change.sets)) for change in changes)]
    if location == ANOTHER_PROCESS:
        (result,) = run_workers(1, training_probes.walk, folder, wanted, timeout=400)
    else:
        result = [HERE[probe](folder, sets) for probe, sets in wanted]
    before, again, after = result[: len(bases)], result[len(bases) : 2 * len(bases)], result[2 * len(bases) :]
    return Observations(
        dict(zip(bases, zip(before, again, strict=True), strict=True)), dict(zip(changes, after, strict=True))
    )


def _place(change: Change) -> str:
    """Where a change is looked at: in this process, one after the other, or all together in another."""
    return change.probe if change.probe in HERE else ANOTHER_PROCESS


def test_every_setting_has_an_entry_and_every_entry_a_setting():
    assert {change.path for change in CHANGES} == set(leaves(Job))


def test_the_walk_finds_settings_wherever_they_are():
    result = set(leaves(Job))
    assert {
        "output",
        "data.columns.time",
        "data.modalities",
        "data.modalities.*.file",
        "evaluation.ks",
        "losses.candidates",
        "storage.endpoint",
    } <= result
    assert not {"data", "data.columns", "losses.adversarial"} & result


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.path}, {change.probe}")
def test_a_change_of_the_setting_is_seen(observed, change):
    result = observed(_place(change))
    before, again = result.before[change.probe, change.base]
    assert before == again, "the probe sees a difference where there is none"
    assert result.after[change] != before
