"""Facts of an artifact that a stage would trip over are refused where the manifest is read."""

from __future__ import annotations

from typing import Any

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError
from mmssl_dist.launch.artifact_facts import require_facts
from mmssl_dist.storage import FileRecord, Manifest, open_location

GOOD: dict[str, dict[str, Any]] = {
    "dataset": {
        "users": 3,
        "items": 2,
        "interactions": {"train": 4},
        "modalities": {"image": {"dimension": 2}},
        "user_id_type": "int64",
        "item_id_type": "string",
        "dropped": {},
    },
    "partitions": {
        "book": {"users": [1, 2], "items": [2, 0]},
        "modalities": {"image": 2},
        "item_neighbours": 0,
        "interactions": {"train": 4},
        "degrees": {"users": [[0, 0], [2, 2], [1, 2]], "items": [[2, 4]]},
        "edge_cut_of_workers": [0.0, 0.5],
        "balance": {"edges": 1.1},
        "method": "metis",
    },
    "training": {"checkpoint": "run-1/checkpoint"},
    "evaluation": {},
}


def check(artifact: str, **changes: object) -> Manifest:
    files = {"run-1/checkpoint/rows": FileRecord(1, "0" * 64)} if artifact == "training" else {}
    manifest = Manifest(artifact, "x", {**GOOD[artifact], **changes}, files)
    return require_facts(open_location("/out/any", Storage()), manifest)


@pytest.mark.parametrize("artifact", GOOD)
def test_good_facts_pass(artifact: str) -> None:
    assert check(artifact).facts == GOOD[artifact]


@pytest.mark.parametrize(
    ("artifact", "name"),
    [(artifact, name) for artifact in GOOD for name in GOOD[artifact] if name != "dropped"],
)
@pytest.mark.parametrize("value", [None, -1, True, 1.5, [], {"a": -1}, {"a": {"b": "c"}}, ""])
def test_each_fact_is_looked_at(artifact: str, name: str, value: object) -> None:
    with pytest.raises(ArtifactError, match=f"^/out/any/manifest.json: {name} is missing or invalid. Re-run"):
        check(artifact, **{name: value})


@pytest.mark.parametrize(
    "book",
    [
        {"users": [1]},
        {"users": [1], "items": [1, 2]},
        {"users": 1, "items": 1},
        {"users": [-1], "items": [2]},
        {"users": ["1"], "items": [2]},
    ],
)
def test_a_book_that_is_none(book: object) -> None:
    with pytest.raises(ArtifactError, match="book is missing or invalid"):
        check("partitions", book=book)


@pytest.mark.parametrize("checkpoint", ["..", "run-2/checkpoint", "run-1/check"])
def test_a_checkpoint_elsewhere(checkpoint: str) -> None:
    with pytest.raises(ArtifactError, match="it lists files outside its checkpoint"):
        check("training", checkpoint=checkpoint)
