"""Which runs may be averaged: those of one model on one data set, which differ in their seeds alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmssl_dist.config.candidates import NEUTRAL_TRAINING
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, RunFolder
from mmssl_dist.storage.run_job import read_run_job

# Where a run is kept, the machines it took, what is made of it afterwards; none changes what is trained
_NEUTRAL_SECTIONS = ("output", "scaling", "storage", "export", "search", "tracking")
# Sizes of blocks, and what is reported besides
_NEUTRAL_EVALUATION = ("user_block", "item_block", "contributions")
_MOST_NAMED = 3


def require_same_models(runs: Sequence[Location]) -> None:
    """Check that the jobs of ``runs`` differ in nothing but seeds, machines and places.

    Raises:
        InputError: one differs from the first; names the settings.
    """
    if len(runs) < 2:
        return
    first, *others = (_trained_settings(run) for run in runs)
    for run, settings in zip(runs[1:], others, strict=True):
        differing = [path for path in {**first, **settings} if first.get(path) != settings.get(path)]
        if differing:
            named = ", ".join(f"{path} {settings.get(path)}" for path in differing[:_MOST_NAMED])
            there = ", ".join(f"{first.get(path)}" for path in differing[:_MOST_NAMED])
            more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
            raise InputError(
                run.url,
                f"{named}{more}",
                f"runs are averaged over seeds of one model, and {runs[0].url} has {there}",
                "Summarize them separately, or compare them with `mmssl-dist compare`.",
            )


def _trained_settings(run: Location) -> dict[str, Any]:
    """Every setting that makes the model and its ranking, by dotted path."""
    job = read_run_job(run)
    tree: dict[str, Any] = job.model_dump(mode="json", exclude={"seed", *_NEUTRAL_SECTIONS})
    tree["data"]["split"].pop("seed", None)
    tree["model"].pop("name", None)
    for name in NEUTRAL_TRAINING:
        tree["training"].pop(name, None)
    for name in _NEUTRAL_EVALUATION:
        tree["evaluation"].pop(name, None)
    evaluation = RunFolder(run).evaluation.read()
    if evaluation is not None and "length_exponent" not in evaluation.facts:
        # Of a version without the setting, whose rankings were by the dot product.
        tree["evaluation"]["length_exponent"] = 1.0
    return dict(_leaves(tree, ""))


def _leaves(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{above}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from _leaves(value, path)
        else:
            yield path, value
