"""The HTTP service: a Ray Serve deployment whose replicas each hold the run, and answer what came together at
once."""

import asyncio
import json
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from mmssl_dist import __version__
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError, UnknownIdError, message_text
from mmssl_dist.serving.batched_queries import Question, answers, similar_lists
from mmssl_dist.serving.run import Ranked, Run, open_run

LONGEST = 1000  # items of one answer
_BATCH = 64  # questions answered together
_WAIT_SECONDS = 0.002  # that the first of them waits for others

Id = int | str | float
Length = Annotated[int, Query(ge=1, le=LONGEST, description="Items wanted.")]


class RecommendRequest(BaseModel):
    """Either a user of the data, or items known of somebody who is not in it."""

    model_config = ConfigDict(extra="forbid")

    user: Id | None = Field(None, description="A user of the data.")
    items: list[Id] = Field(
        [], max_length=LONGEST, description="Without a user: items known of somebody new."
    )
    k: int = Field(20, ge=1, le=LONGEST, description="Items wanted.")
    exclude_seen: bool = Field(
        True, description="Leave out the user's items of training, or the items given."
    )


class NewItem(BaseModel):
    """An item that is not in the data, by its features."""

    model_config = ConfigDict(extra="forbid")

    features: dict[str, list[float]] = Field(description="By modality, a vector as in the raw files.")
    k: int = Field(20, ge=1, le=LONGEST, description="Items or users wanted.")


class Item(BaseModel):
    """An item and its score: the dot product with the user, or the cosine with the item asked about."""

    item: Any
    score: float


class Answer(BaseModel):
    """Items, best first."""

    items: list[Item]


class User(BaseModel):
    """A user and their score of the item: the dot product."""

    user: Any
    score: float


class Users(BaseModel):
    """Users, best first."""

    users: list[User]


class Health(BaseModel):
    """What is served; ``run`` is the last part of its path or URL."""

    status: str
    run: str
    users: int
    items: int
    index: dict[str, Any]


def answer(result: Ranked | InputError) -> Response:
    """An ``Answer``, or the HTTP error that says what is wrong.

    Written here: checking each item of each answer against the model would take as long as all else that
        FastAPI does.
    """
    if isinstance(result, InputError):
        raise refused(result)
    pairs = zip(result.items, result.scores.tolist(), strict=True)
    content = json.dumps({"items": [{"item": plain(item), "score": score} for item, score in pairs]})
    return Response(content, media_type="application/json")


def refused(error: InputError) -> HTTPException:
    """404 for an unknown id, 422 for anything else that is wrong with a request."""
    if isinstance(error, UnknownIdError):  # without the remedy, which has somebody else's id as an example
        return HTTPException(
            404, f"{message_text(error.where)}: found {message_text(error.value)}; {error.rule}"
        )
    return HTTPException(422, str(error))


def plain(raw_value: Any) -> int | str | float:
    """An id as JSON has it: a number or a text."""
    return raw_value if isinstance(raw_value, int | str | float) else str(raw_value)


def warm(run: Run) -> None:
    """Read everything that an answer needs: a replica that is ready answers at once."""
    if len(run.users) and len(run.items):
        run.check_users()
        run.recommend(run.users.array[0].as_py(), k=1)
        run.similar(run.items.array[0].as_py(), k=1)
        run.recommend_new([run.items.array[0].as_py()], k=1)


# Serve packs the class with what it refers to as it is made: all of that stands above it
api = FastAPI(title="mmssl-dist", version=__version__, description="Recommendations of one exported run.")


def _batched(function: Any) -> Any:
    return serve.batch(function, max_batch_size=_BATCH, batch_wait_timeout_s=_WAIT_SECONDS)


@serve.deployment
@serve.ingress(api)
class Service:
    """One replica."""

    def __init__(self, url: str, storage: Storage) -> None:
        # Each replica opens the run by itself: its arrays are mapped from files that all replicas of a
        # machine share.
        self.url, self.run = url, open_run(url, storage)
        warm(self.run)

    @api.get("/recommend", response_model=Answer)
    async def recommend_user(
        self,
        user: Annotated[str, Query(description="A user of the data.")],
        k: Length = 20,
        exclude_seen: Annotated[bool, Query(description="Leave out the user's items of training.")] = True,
    ) -> Response:
        """The best items of a user. 404: no such user."""
        return answer(await self._ask(Question(user, (), k, exclude_seen)))

    @api.post("/recommend", response_model=Answer)
    async def recommend(self, request: RecommendRequest) -> Response:
        """The best items of a user, or of somebody new by the items known of them. 404: an id is unknown."""
        if (request.user is None) == (not request.items):
            raise HTTPException(422, "give either user or items")
        return answer(await self._ask(Question(request.user, request.items, request.k, request.exclude_seen)))

    @api.get("/similar", response_model=Answer)
    async def similar(
        self, item: Annotated[str, Query(description="An item of the data.")], k: Length = 20
    ) -> Response:
        """The items whose embeddings have the highest cosine with an item's. 404: no such item."""
        return answer(await self._like(item, k))

    @api.post("/similar", response_model=Answer)
    async def similar_to_new(self, new: NewItem) -> Response:
        """The items most like one that is not in the data, by its features. 422: features that the run does
        not have."""
        try:
            # In a thread: the search takes milliseconds of a core, during which other requests have to be
            # accepted.
            return answer(await asyncio.to_thread(self.run.similar_to_new, new.features, new.k))
        except InputError as error:
            raise refused(error) from error

    @api.post("/users")
    async def users_for_new(self, new: NewItem) -> Users:
        """The users who score an item that is not in the data highest. 422: features that the run does
        not have."""
        try:
            ranked = await asyncio.to_thread(self.run.users_for_new, new.features, new.k)
        except InputError as error:
            raise refused(error) from error
        pairs = zip(ranked.users, ranked.scores, strict=True)
        return Users(users=[User(user=plain(user), score=float(score)) for user, score in pairs])

    @api.get("/health")
    async def health(self) -> Health:
        """What is served."""
        facts = self.run.facts
        return Health(
            status="ok",
            run=PurePosixPath(self.url).name,
            users=facts["users"],
            items=facts["items"],
            index=facts["index"],
        )

    @_batched
    async def _ask(self, questions: list[Question]) -> list[Ranked | InputError]:
        return await asyncio.to_thread(answers, self.run, questions)

    @_batched
    async def _like(self, items: list[str], ks: list[int]) -> list[Ranked | InputError]:
        return await asyncio.to_thread(similar_lists, self.run, items, ks)
