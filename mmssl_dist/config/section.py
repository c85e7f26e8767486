"""What every section of a job is made of: its base class, and the kinds of values."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

# Patterns of texts; ``wording`` says them in words.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
METRIC = r"^(recall|precision|ndcg|hit_rate|mrr)@[1-9][0-9]{0,8}$"
ENDPOINT = r"^https?://[^/?#]+/?$"

Name = Annotated[str, Field(pattern=NAME)]
# Below 1, since a share of 1 leaves nothing for the rest: no training data, or no rows after dropout.
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
Rate = Annotated[float, Field(gt=0.0)]
Text = Annotated[str, Field(min_length=1)]


def _not_listed(value: object) -> object:
    if isinstance(value, list):
        raise PydanticCustomError(
            "files",
            "must be one name; for several files, their folder or a glob such as events/*.parquet",
            {},
        )
    return value


Files = Annotated[Text, BeforeValidator(_not_listed)]
"""A file, or several by the name of a folder or a glob."""


def as_tuple(value: object) -> object:
    """A YAML list as the tuple that a frozen section holds."""
    return tuple(value) if isinstance(value, list) else value


LIMIT = 2**31  # numbers of this size mean nothing in a job, and overflow further on
Count = Annotated[int, Field(ge=1, lt=LIMIT)]
Natural = Annotated[int, Field(ge=0, lt=LIMIT)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(as_tuple), Field(min_length=1)]


def _in_order(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise PydanticCustomError("order", "must be [fewest, most], in this order", {})
    return value


Range = Annotated[tuple[Count, Count], BeforeValidator(as_tuple), AfterValidator(_in_order)]


def _as_text(value: object) -> object:
    """What YAML reads as a date, as the text it was."""
    return value.isoformat() if isinstance(value, date) else value


def _is_moment(value: str) -> str:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError(
            "moment", "must be a date or an ISO timestamp, such as 2026-02-01", {}
        ) from None
    return value


Moment = Annotated[str, BeforeValidator(_as_text), AfterValidator(_is_moment)]
"""A date or a timestamp as ISO 8601 writes it; without a zone in UTC."""


def _is_day(value: str) -> str:
    try:
        if date.fromisoformat(value).isoformat() == value:  # it takes 20260201 and 2026-W05-7 too
            return value
    except ValueError:
        pass
    raise PydanticCustomError("day", "must be a date, such as 2026-02-01", {})


Day = Annotated[str, BeforeValidator(_as_text), AfterValidator(_is_day)]
"""A date as ISO 8601 writes it."""


class Section(BaseModel):
    """Frozen, strict about types, and without room for unknown keys."""

    # Strict: YAML has types, and "yes" for a number or 1 for a switch is a mistake rather than a spelling.
    # Without infinities, which YAML can write and which JSON, the form in which jobs travel, cannot.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
