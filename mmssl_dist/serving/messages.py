"""What the HTTP service takes and answers, as its OpenAPI description shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from mmssl_dist.errors import InputError, UnknownIdError, message_text
from mmssl_dist.serving.answers import Ranked
from mmssl_dist.serving.item_filter import ItemFilter

LONGEST = 1000  # items of one answer, users of one request
_MOST_ITEMS = 100_000  # of all answers to one request
_MOST_IDS = 100_000  # of one filter

# Strict: without it a boolean would be the id 1 or 0
Id = StrictInt | StrictStr | StrictFloat
Value = bool | int | float | str
Number = StrictInt | StrictFloat


class Bounds(BaseModel):
    """Numbers that meet every bound named."""

    model_config = ConfigDict(extra="forbid")

    gt: Number | None = Field(None, description="Greater than this.")
    gte: Number | None = Field(None, description="At least this.")
    lt: Number | None = Field(None, description="Less than this.")
    lte: Number | None = Field(None, description="At most this.")

    @model_validator(mode="after")
    def _some(self) -> Bounds:
        if not self.model_fields_set:
            raise ValueError("name gt, gte, lt or lte")
        return self


class Candidates(BaseModel):
    """Says which items may be listed; all conditions hold. Ids that the run does not know are ignored."""

    model_config = ConfigDict(extra="forbid")

    allow: list[Id] | None = Field(None, max_length=_MOST_IDS, description="Nothing but these items.")
    block: list[Id] = Field([], max_length=_MOST_IDS, description="None of these items.")
    where: dict[str, Value | list[Value] | Bounds] = Field(
        {},
        max_length=20,
        description="Column of the table of items: the value that an item has there, several of which it has "
        "one, or bounds of a number.",
    )

    def filter(self) -> ItemFilter:
        """For a run."""
        where = {
            column: value.model_dump(exclude_none=True) if isinstance(value, Bounds) else value
            for column, value in self.where.items()
        }
        return ItemFilter(self.allow, self.block, where)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    k: int = Field(20, ge=1, le=LONGEST, description="Items wanted.")
    candidates: Candidates | None = Field(None, description="Which items may be listed; by default all.")

    def filter(self) -> ItemFilter | None:
        """The filter, if there is one."""
        return None if self.candidates is None else self.candidates.filter()


class RecommendRequest(_Request):
    """A user of the data, or several, or items known of somebody who is not in it."""

    user: Id | None = Field(None, description="A user of the data.")
    users: list[Id] | None = Field(
        None, min_length=1, max_length=LONGEST, description="Several; each is answered apart."
    )
    items: list[Id] = Field(
        [], max_length=LONGEST, description="Without a user: items known of somebody new."
    )
    exclude_seen: bool = Field(True, description="Leave out items that the user has, or the items given.")

    @model_validator(mode="after")
    def _one_question(self) -> RecommendRequest:
        if sum((self.user is not None, self.users is not None, bool(self.items))) != 1:
            raise ValueError("give one of user, users and items")
        if self.users is not None and len(self.users) * self.k > _MOST_ITEMS:
            raise ValueError(f"users times k is at most {_MOST_ITEMS}")
        return self


class SimilarRequest(_Request):
    """An item of the data, or one that is not in it, by its features."""

    item: Id | None = Field(None, description="An item of the data.")
    features: dict[str, list[float]] | None = Field(
        None, description="By modality, a vector as in the raw files."
    )

    @model_validator(mode="after")
    def _one_question(self) -> SimilarRequest:
        if (self.item is None) == (self.features is None):
            raise ValueError("give either item or features")
        return self


class NewItem(BaseModel):
    """An item that is not in the data, by its features."""

    model_config = ConfigDict(extra="forbid")

    features: dict[str, list[float]] = Field(description="By modality, a vector as in the raw files.")
    k: int = Field(20, ge=1, le=LONGEST, description="Users wanted.")


class Item(BaseModel):
    """An item and its score: the dot product with the user, or the cosine with the item asked about."""

    item: Any
    title: str | None = Field(None, description="Where the service has titles.")
    score: float


class Answer(BaseModel):
    """Has items, the best first."""

    items: list[Item]


class UserAnswer(BaseModel):
    """The answer for one of several users: items, or what is wrong."""

    user: Any
    items: list[Item] | None = None
    error: str | None = None


class Answers(BaseModel):
    """An answer for each user, in the order in which they were asked for."""

    answers: list[UserAnswer]


class User(BaseModel):
    """A user and their score, which is the dot product with the item."""

    user: Any
    score: float


class Users(BaseModel):
    """Has users, the best first."""

    users: list[User]


class Health(BaseModel):
    """What is served; ``run`` is the last part of its path or URL."""

    status: str
    run: str
    users: int
    items: int
    index: dict[str, Any]
    lists: dict[str, Any]


def answer(result: Ranked | InputError) -> Response:
    """An ``Answer``, or the HTTP error that says what is wrong.

    Written here: checking each item of each answer against the model would take as long as all else that
    FastAPI does.
    """
    if isinstance(result, InputError):
        raise http_error(result)
    return _json({"items": _entries(result)})


def answers_by_user(users: Sequence[Id], results: Sequence[Ranked | InputError]) -> Response:
    """``Answers``."""
    return _json(
        {
            "answers": [
                {"user": user, "error": _detail(result)}
                if isinstance(result, InputError)
                else {"user": user, "items": _entries(result)}
                for user, result in zip(users, results, strict=True)
            ]
        }
    )


def http_error(error: InputError) -> HTTPException:
    """404 for an unknown id, 422 for anything else that is wrong with a request."""
    return HTTPException(404 if isinstance(error, UnknownIdError) else 422, _detail(error))


def plain(raw_value: Any) -> int | str | float:
    """An id as JSON has it: a number or a text."""
    return raw_value if isinstance(raw_value, int | str | float) else str(raw_value)


def _entries(ranked: Ranked) -> list[dict[str, Any]]:
    scores = ranked.scores.tolist()
    if ranked.titles is None:
        return [
            {"item": plain(item), "score": score} for item, score in zip(ranked.items, scores, strict=True)
        ]
    return [
        {"item": plain(item), "title": title, "score": score}
        for item, title, score in zip(ranked.items, ranked.titles, scores, strict=True)
    ]


def _detail(error: InputError) -> str:
    if isinstance(error, UnknownIdError):  # without the remedy, which has somebody else's id as an example
        return f"{message_text(error.where)}: found {message_text(error.value)}; {error.rule}"
    return str(error)


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/json")
