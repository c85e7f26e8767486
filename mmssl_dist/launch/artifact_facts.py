"""Rules for the facts in a manifest that later stages read; the manifest itself only proves they are
unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite

from mmssl_dist.errors import ArtifactError
from mmssl_dist.storage import Location, Manifest


def require_facts(location: Location, manifest: Manifest) -> Manifest:
    """``manifest``, of the artifact at ``location``.

    Raises:
        ArtifactError: a fact that a stage would read is missing or invalid.
    """
    for name, is_valid in _FACTS.get(manifest.kind, {}).items():
        if name not in manifest.facts or not is_valid(manifest.facts[name]):
            raise ArtifactError(
                f"{location.url}/manifest.json: {name} is missing or invalid. "
                "Re-run the stage that published it, with --force."
            )
    # Names below the checkpoint are made by cutting its folder off; another file would keep its whole path.
    checkpoint = manifest.facts.get("checkpoint") if manifest.kind == "training" else None
    if checkpoint is not None and not all(file.startswith(f"{checkpoint}/") for file in manifest.files):
        raise ArtifactError(
            f"{location.url}/manifest.json: it lists files outside its checkpoint. Re-run train with --force."
        )
    return manifest


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    # ``type`` and not ``isinstance``: a bool is an int in Python, and JSON's true is no count.
    return type(value) is int and value >= 0


def _are_counts(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_count, value.values()))


def _are_sections(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_are_counts, value.values()))


def _is_book(value: object) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"users", "items"}:
        return False
    sides = (value["users"], value["items"])
    if not all(isinstance(side, list) for side in sides) or len(sides[0]) != len(sides[1]):
        return False
    return all(_is_count(number) for side in sides for number in side)


def _are_degrees(value: object) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"users", "items"}:
        return False
    return all(
        isinstance(side, list)
        and all(isinstance(row, list) and len(row) == 2 and all(map(_is_count, row)) for row in side)
        for side in value.values()
    )


def _are_shares(value: object) -> bool:
    return (
        isinstance(value, list)
        and value != []
        and all(isinstance(share, float) and 0.0 <= share <= 1.0 for share in value)
    )


def _are_numbers(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        # json writes and reads NaN and Infinity, although JSON has neither; NaN would pass every bound.
        isinstance(number, float) and isfinite(number)
        for number in value.values()
    )


def _are_embedded(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(own, Mapping)
        and all(_is_count(own.get(name)) for name in ("dimension", "items", "embedded"))
        for own in value.values()
    )


_FACTS: dict[str, dict[str, Callable[[object], bool]]] = {
    "embeddings": {"modalities": _are_embedded},
    "dataset": {
        "users": _is_count,
        "items": _is_count,
        "interactions": _are_counts,
        "modalities": _are_sections,
        "user_id_type": _is_text,
        "item_id_type": _is_text,
    },
    "partitions": {
        "book": _is_book,
        "modalities": _are_counts,
        "item_neighbours": _is_count,
        "interactions": _are_counts,
        "degrees": _are_degrees,
        "edge_cut_of_workers": _are_shares,
        "balance": _are_numbers,
        "method": _is_text,
    },
    "training": {"checkpoint": _is_text},
}
