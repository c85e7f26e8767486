"""The ``search`` section: which settings ``tune`` tries, with which values, and how many times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mmssl_dist.config.section import Count, Section, Text, as_tuple

_MOST_LISTED = 64


def _rising(value: tuple[Any, Any]) -> tuple[Any, Any]:
    if value[0] >= value[1]:
        raise PydanticCustomError("order", "must be [lowest, highest], in this order", {})
    return value


def _above_zero(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise PydanticCustomError("logarithm", "must be greater than 0 for a logarithmic scale", {})
    return value


Choices = Annotated[tuple[Any, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Interval = Annotated[tuple[float, float], BeforeValidator(as_tuple), AfterValidator(_rising)]
LogInterval = Annotated[Interval, AfterValidator(_above_zero)]
Integers = Annotated[tuple[int, int], BeforeValidator(as_tuple), AfterValidator(_rising)]


class Space(Section):
    """The values that one setting may take; exactly one kind."""

    choice: Choices | None = None
    """One of these."""
    uniform: Interval | None = None
    """[lowest, highest]: any number between."""
    loguniform: LogInterval | None = None
    """[lowest, highest]: any number between, each order of magnitude as often."""
    int: Integers | None = None
    """[lowest, highest]: any whole number between, both included."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        options = (self.choice, self.uniform, self.loguniform, self.int)
        if sum(option is not None for option in options) != 1:
            raise PydanticCustomError(
                "kind", "must have exactly one of choice, uniform, loguniform and int", {}
            )
        return self

    @property
    def explicit_values(self) -> tuple[Any, ...]:
        """The choices, or the two ends."""
        return next(
            option for option in (self.choice, self.uniform, self.loguniform, self.int) if option is not None
        )

    def extremes(self) -> Iterator[Any]:
        """Values that the schema has to take, so that it takes all: every one where they are few, else the
        ends."""
        # A rule may allow some whole numbers of a range only, such as divisors; of intervals of numbers rules
        # know bounds alone.
        if self.int is not None and self.int[1] - self.int[0] < _MOST_LISTED:
            yield from range(self.int[0], self.int[1] + 1)
        else:
            yield from self.explicit_values


class Search(Section):
    """Trials of `tune` train this job with other settings, on the same partitions."""

    space: dict[Text, Space] = Field(default_factory=dict)
    """One entry per setting, by its dotted path, such as training.rows.learning_rate; settings of training
    only."""
    trials: Count = 20
    """Trainings in all, those stopped early included."""
    concurrent: Count = 1
    """Trainings at a time, each with scaling.workers."""
    grace_epochs: Count = 5
    """Epochs that every trial may train, before it can be stopped for being worse than others."""
    reduction: Annotated[float, Field(gt=1.0)] = 3.0
    """Of the trials that come to grace_epochs, to this times as many, and so on, the best 1/reduction
    continue (ASHA)."""
