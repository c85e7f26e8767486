"""Defaults that depend on other settings: what a job leaves out follows what it says.

A default is replaced only where it would break a rule that the job's own settings keep; values that a job
gives are never replaced. The rules are in ``config.rules``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from mmssl_dist.config.tree import JobSections

J = TypeVar("J", bound=JobSections)
S = TypeVar("S", bound=BaseModel)
_CRITIC_WEIGHT = 1e-4  # as in the released code


@dataclass(frozen=True)
class DependentDefault:
    """The default of one setting.

    Attributes:
        path: the setting.
        value: its value from the rest of the job; the present value where that will do.
    """

    path: str
    value: Callable[[JobSections], Any]


def _heads(job: JobSections) -> int:
    """The most heads, up to the default, that divide the dimension."""
    dimension = job.model.dimension
    return next(heads for heads in range(job.model.heads, 0, -1) if dimension % heads == 0)


def _fanout(job: JobSections) -> object:
    fanout, layers = job.training.fanout, job.model.layers
    if fanout == "all" or len(fanout) == layers:
        return fanout
    # A model without layers samples nothing, and an empty tuple is not a valid fanout.
    return fanout[:1] * layers or "all"


def _batch_size(job: JobSections) -> int:
    return max(job.training.batch_size, job.partition.parts)


def _item_graph_weight(job: JobSections) -> float:
    possible = job.partition.item_neighbours > 0 and job.model.layers > 0
    return job.model.item_graph.weight if possible else 0.0


def _adversarial_kind(job: JobSections) -> str:
    """Jobs older than the choice mean the critic."""
    term = job.losses.adversarial
    # What counts is which settings a job names, not their values: one given at its default still says which
    # term is meant.
    set_fields = term.model_fields_set - {"kind"}
    if not set_fields or not term.weight:
        return "none"
    return "perturbation" if set_fields & {"eps", "rows"} else "critic"


def _adversarial_weight(job: JobSections) -> float:
    """The critic has a default of its own; it reads users' tower rows, which feature columns leave out."""
    if job.losses.adversarial.kind != "critic":
        return job.losses.adversarial.weight
    return 0.0 if job.model.feature_columns else _CRITIC_WEIGHT


def _adversarial_rows(job: JobSections) -> str:
    return job.losses.adversarial.rows if job.model.item_graph.weight else "final"


def _contrastive_rows(job: JobSections) -> str:
    only_lists = not job.model.item_graph.weight and job.model.modality_graph.size
    return "lists" if only_lists else job.losses.contrastive.rows


def _contrastive_weight(job: JobSections) -> float:
    """The term is left out where neither kind of rows exists that it could take."""
    rows = job.model.item_graph.weight or job.model.modality_graph.size
    return job.losses.contrastive.weight if rows else 0.0


def _metric(job: JobSections) -> str:
    name, k = job.evaluation.metric.split("@")
    return job.evaluation.metric if int(k) in job.evaluation.ks else f"{name}@{max(job.evaluation.ks)}"


# In this order: one default may follow another
DEPENDENT_DEFAULTS = (
    DependentDefault("model.heads", _heads),
    DependentDefault("training.fanout", _fanout),
    DependentDefault("training.batch_size", _batch_size),
    DependentDefault("model.item_graph.weight", _item_graph_weight),
    DependentDefault("losses.adversarial.kind", _adversarial_kind),
    DependentDefault("losses.adversarial.weight", _adversarial_weight),
    DependentDefault("losses.adversarial.rows", _adversarial_rows),
    DependentDefault("losses.contrastive.rows", _contrastive_rows),
    DependentDefault("losses.contrastive.weight", _contrastive_weight),
    DependentDefault("evaluation.metric", _metric),
)


def with_dependent_defaults(job: J) -> J:
    """``job`` with the defaults that follow its other settings.

    They stay defaults: a later change of the settings they depend on changes them again.
    """
    for default in DEPENDENT_DEFAULTS:
        keys = default.path.split(".")
        # A value that was given is never changed: where it does not fit, the rules say so.
        if not _is_given(job, keys):
            job = _replaced(job, keys, default.value(job))
    return job


def _is_given(section: BaseModel, keys: list[str]) -> bool:
    for key in keys:
        if key not in section.model_fields_set:
            return False
        section = getattr(section, key)
    return True


def _replaced(section: S, keys: list[str], value: object) -> S:
    """A copy of ``section`` with ``value`` at the path ``keys``, which still counts as a default."""
    first, *rest = keys
    child = getattr(section, first)
    new = _replaced(child, rest, value) if rest else value
    if new == child:
        return section
    # A copy without validation: values come from the rules above, and validating would start this again.
    copy = section.model_copy(update={first: new})
    # Setting a field marks it as given; this one was not.
    if first not in section.model_fields_set:
        copy.model_fields_set.discard(first)
    return copy
