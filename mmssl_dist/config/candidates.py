"""What ``tune`` may try: settings that shape training and nothing that it is made from, with values of the
schema."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mmssl_dist.config.job import Job
from mmssl_dist.config.load import parse_job, with_value
from mmssl_dist.errors import ConfigError, InputError

# They change how training runs, not what it computes
NEUTRAL_TRAINING = frozenset(
    {"keep_checkpoints", "checkpoint_minutes", "max_failures", "timeout_seconds", "prefetch"}
)
_SEARCHED = ("model", "losses", "training")
_MOST_COMBINATIONS = 2048


def with_settings(job: Job, settings: Mapping[str, object]) -> Job:
    """``job`` without its search, with ``settings``: values by dotted path.

    Raises:
        ConfigError: they break a rule.
    """
    # The search goes as well: a trial is a plain job, and a search within it would mean nothing.
    # Without defaults, so that those which depend on ``settings`` follow them
    tree: dict[str, Any] = job.model_dump(mode="json", exclude={"search"}, exclude_unset=True)
    for path, value in settings.items():
        tree = with_value(tree, path, value, "search.space")
    return parse_job(
        tree, source=", ".join(f"{path}={value}" for path, value in settings.items()) or "search"
    )


def check_search(job: Job) -> None:
    """Check that every value that ``search.space`` allows makes a job, and the same partitions as without.

    Raises:
        InputError: there is nothing to search.
        ConfigError: a setting does not belong to training, or a value breaks a rule; all problems at once.
    """
    search = job.search
    if not search.space:
        raise InputError(
            "search.space",
            "nothing",
            "tune needs settings to search",
            "Add, for example, search: {space: {training.rows.learning_rate: {loguniform: [1e-4, 1e-2]}}}.",
        )
    problems = list(_problems(job)) or list(_of_combinations(job))
    if problems:
        raise ConfigError(tuple(problems), "search")


def _problems(job: Job) -> Iterator[str]:
    # A value may only be valid beside another searched one, such as a fanout of three beside three layers;
    # the first value of every other setting stands for these.
    firsts = {path: next(space.extremes()) for path, space in job.search.space.items()}
    for path, space in job.search.space.items():
        refusal = _refusal(job, path) or next(
            filter(None, (_unusable(job, path, value, firsts) for value in space.extremes())), None
        )
        if refusal:
            yield f"search.space.{path}: {refusal}"
    if job.search.grace_epochs > job.training.epochs:
        yield (
            f"search.grace_epochs: found {job.search.grace_epochs}; must be at most training.epochs "
            f"({job.training.epochs})"
        )


def _refusal(job: Job, path: str) -> str | None:
    """Why ``path`` can't be searched."""
    section, _, name = path.partition(".")
    # ASHA compares trials by the epochs they were given, so the number of epochs can't be one of the choices.
    if section not in _SEARCHED or not name or path == "training.epochs" or (section, name) in _neutral():
        return (
            f"found {path}; only settings that shape training can be searched, since all trials share the "
            "partitions and the way of choosing: those below model, losses and training, but epochs and "
            f"{', '.join(sorted(NEUTRAL_TRAINING))}"
        )
    value: Any = job.model_dump(mode="json")
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict):
        return f"found {path}; this is a section. Search the settings below it"
    return None


def _neutral() -> set[tuple[str, str]]:
    return {("training", name) for name in NEUTRAL_TRAINING}


def _unusable(job: Job, path: str, value: object, others: Mapping[str, object]) -> str | None:
    """Why ``value`` can't be taken, neither with the job's settings nor with what else is searched."""
    problem = _broken(job, {path: value})
    return problem if problem and _broken(job, {**others, path: value}) else None


def _broken(job: Job, settings: Mapping[str, object]) -> str | None:
    try:
        with_settings(job, settings)
    except ConfigError as error:
        return f"{error.source} breaks a rule: {'; '.join(error.problems)}"
    except InputError as error:
        return str(error)
    return None


def _of_combinations(job: Job) -> Iterator[str]:
    """The first combination of values, each valid alone, that isn't; looked for where there are not too
    many."""
    values = {path: list(space.extremes()) for path, space in job.search.space.items()}
    # Each combination validates the whole job; beyond this number values are checked one setting at a time.
    if math.prod(map(len, values.values())) > _MOST_COMBINATIONS:
        return
    for combination in itertools.product(*values.values()):
        problem = _broken(job, dict(zip(values, combination, strict=True)))
        if problem:
            yield f"search.space: {problem}"
            return
