"""The HTTP service: a Ray Serve deployment whose replicas each hold the run, and answer what came together at
once."""

import asyncio
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from ray import serve

from mmssl_dist import __version__
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.serving.answers import Ranked
from mmssl_dist.serving.batched_queries import RecommendationQuery, answer_queries, similar_lists
from mmssl_dist.serving.guard import Guard, Protection
from mmssl_dist.serving.messages import (
    LONGEST,
    Answer,
    Answers,
    Health,
    NewItem,
    RecommendRequest,
    SimilarRequest,
    User,
    Users,
    answer,
    answers_by_user,
    http_error,
    plain,
)
from mmssl_dist.serving.request_checks import RequestChecks
from mmssl_dist.serving.run import Run
from mmssl_dist.serving.titled_run import open_titled_run

_BATCH = 64  # queries answered together
_WAIT_SECONDS = 0.002  # that the first of them waits for others

Length = Annotated[int, Query(ge=1, le=LONGEST, description="Items wanted.")]


def warm(run: Run) -> None:
    """Read everything that an answer needs: a replica that is ready answers at once."""
    if len(run.users) and len(run.items):
        run.check_users()
        run.recommend(run.users.array[0].as_py(), k=1)
        run.similar(run.items.array[0].as_py(), k=1)
        run.recommend_new([run.items.array[0].as_py()], k=1)


def _protection() -> Protection:
    """That of the replica which this process is."""
    protection: Protection = serve.get_replica_context().servable_object.protection
    return protection


def _item_columns() -> list[str]:
    """Those that the items of this replica can be filtered by."""
    run: Run = serve.get_replica_context().servable_object.run
    return run.item_table.names


_checks = RequestChecks(_item_columns)

# Serve packs the class with what it refers to as it is made: all of that stands above it
api = FastAPI(
    title="mmssl-dist",
    version=__version__,
    description="Recommendations of one exported run.",
    redoc_url=None,
    # The key for the description alone: the guard checks it, before a body is read.
    dependencies=[Security(HTTPBearer(auto_error=False)), Depends(_checks.require_known)],
    exception_handlers={RequestValidationError: _checks.refused},
)
api.add_middleware(Guard, protection=_protection)


def _batched(function: Any) -> Any:
    return serve.batch(function, max_batch_size=_BATCH, batch_wait_timeout_s=_WAIT_SECONDS)


@serve.deployment
@serve.ingress(api)
class Service:
    """One replica."""

    def __init__(self, url: str, storage: Storage, items: str | None, protection: Protection) -> None:
        # Each replica opens the run by itself: it maps files that all replicas of a machine share.
        self.url, self.run = url, open_titled_run(url, storage, items)
        self.protection = protection
        warm(self.run)

    @api.get("/", include_in_schema=False)
    async def start(self) -> RedirectResponse:
        """To the description."""
        return RedirectResponse("docs")  # relative, for a proxy that puts a path in front

    @api.get("/recommend", response_model=Answer)
    async def recommend_user(
        self,
        user: Annotated[str, Query(description="A user of the data.")],
        k: Length = 20,
        exclude_seen: Annotated[bool, Query(description="Leave out items that the user has.")] = True,
    ) -> Response:
        """Ranks the best items of a user. The status is 404 for an unknown user."""
        return answer(
            await self._ask(RecommendationQuery(user=user, items=(), k=k, exclude_seen=exclude_seen))
        )

    @api.post("/recommend", response_model=Answer | Answers)
    async def recommend(self, request: RecommendRequest) -> Response:
        """Ranks the best items of a user, of several users, or of a new user by the items known of them. The
        status is 404 for an unknown id; of several users the others are answered."""
        candidates = request.filter()
        if request.users is not None:
            queries = [
                RecommendationQuery(
                    user=user, items=(), k=request.k, exclude_seen=request.exclude_seen, candidates=candidates
                )
                for user in request.users
            ]
            results = await asyncio.to_thread(answer_queries, self.run, queries)
            return answers_by_user(request.users, results)
        query = RecommendationQuery(
            user=request.user,
            items=request.items,
            k=request.k,
            exclude_seen=request.exclude_seen,
            candidates=candidates,
        )
        if candidates is not None:
            # Alone, as a filter is searched for by itself: in a batch it would hold up those without one.
            (result,) = await asyncio.to_thread(answer_queries, self.run, [query])
            return answer(result)
        return answer(await self._ask(query))

    @api.get("/similar", response_model=Answer)
    async def similar(
        self, item: Annotated[str, Query(description="An item of the data.")], k: Length = 20
    ) -> Response:
        """Ranks items by the cosine of their embeddings with an item's. The status is 404 for an unknown
        item."""
        return answer(await self._like(item, k))

    @api.post("/similar", response_model=Answer)
    async def similar_among(self, request: SimilarRequest) -> Response:
        """Ranks the items most similar to one of the data, or to one that is not in it, by its features. The
        status is 404 for an unknown item, and 422 for features that the run does not have."""
        try:
            # In a thread: the search takes milliseconds of a core, and other requests must be accepted.
            return answer(await asyncio.to_thread(self._similar, request))
        except InputError as error:
            raise http_error(error) from error

    @api.post("/users")
    async def users_for_new(self, new: NewItem) -> Users:
        """Ranks the users who score an item highest that is not in the data. The status is 422 for features
        that the run does not have."""
        try:
            ranked = await asyncio.to_thread(self.run.users_for_new, new.features, new.k)
        except InputError as error:
            raise http_error(error) from error
        pairs = zip(ranked.users, ranked.scores, strict=True)
        return Users(users=[User(user=plain(user), score=float(score)) for user, score in pairs])

    @api.get("/health")
    async def health(self) -> Health:
        """Describes what is served."""
        facts = self.run.facts
        return Health(
            status="ok",
            run=PurePosixPath(self.url).name,
            users=facts["users"],
            items=facts["items"],
            index=facts["index"],
            lists=facts.get("lists", {}),
        )

    def _similar(self, request: SimilarRequest) -> Ranked:
        if request.features is not None:
            return self.run.similar_to_new(request.features, request.k, request.filter())
        ranked = self.run.similar(request.item, request.k, request.filter())
        assert isinstance(ranked, Ranked)
        return ranked

    @_batched
    async def _ask(self, queries: list[RecommendationQuery]) -> list[Ranked | InputError]:
        return await asyncio.to_thread(answer_queries, self.run, queries)

    @_batched
    async def _like(self, items: list[str], ks: list[int]) -> list[Ranked | InputError]:
        return await asyncio.to_thread(similar_lists, self.run, items, ks)
