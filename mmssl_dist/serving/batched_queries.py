"""Queries of several users at once, answered by one search of the index; an invalid one affects no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmssl_dist.errors import InputError
from mmssl_dist.serving.answers import Ranked
from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.run import NOTHING, Run


@dataclass(frozen=True, kw_only=True)
class RecommendationQuery:
    """Recommendations for a user of the data, or, when there is none, for a new user of these items.

    Queries that share one ``candidates`` object are answered by one search.
    """

    user: object | None
    items: Sequence[object]
    k: int
    exclude_seen: bool
    candidates: ItemFilter | None = None


def answer_queries(run: Run, queries: Sequence[RecommendationQuery]) -> list[Ranked | InputError]:
    """The answer to each query, or what is wrong with it."""
    results: list[Ranked | InputError | None] = [None] * len(queries)
    # By identity: equal filters of several requests are rare, and comparing them would cost all the others.
    groups: dict[int, list[_ResolvedQuery]] = {}
    for position, query in enumerate(queries):
        try:
            row, known = _row(run, query)
        except InputError as error:
            results[position] = error
            continue
        left_out = known if query.exclude_seen else NOTHING
        groups.setdefault(id(query.candidates), []).append(_ResolvedQuery(position, query, row, left_out))
    for group in groups.values():
        longest = max(asked.query.k for asked in group)
        try:
            lists = run.rank(
                np.stack([asked.row for asked in group]),
                [asked.left_out for asked in group],
                longest,
                candidates=group[0].query.candidates,
            )
        except InputError as error:  # of the filter
            for asked in group:
                results[asked.position] = error
            continue
        for asked, ranked in zip(group, lists, strict=True):
            results[asked.position] = ranked.between(0, asked.query.k)
    assert None not in results
    return [result for result in results if result is not None]


@dataclass(frozen=True)
class _ResolvedQuery:
    """A query whose ids are known, with the row [D] to rank with and the places that are left out."""

    position: int
    query: RecommendationQuery
    row: np.ndarray
    left_out: np.ndarray


def similar_lists(run: Run, items: list[str], ks: list[int]) -> list[Ranked | InputError]:
    """The ``k`` items most like each item, or what is wrong with it; all the known ones are compared at
    once."""
    results: dict[int, Ranked | InputError] = {}
    for position, item in enumerate(items):
        try:
            run.items.position(item)
        except InputError as error:
            results[position] = error
    known_positions = [position for position in range(len(items)) if position not in results]
    # One search for the longest list: the shorter ones are beginnings of it.
    ranked = (
        run.similar([items[position] for position in known_positions], max(ks)) if known_positions else []
    )
    assert isinstance(ranked, list)
    for position, result in zip(known_positions, ranked, strict=True):
        results[position] = result.between(0, ks[position])
    return [results[position] for position in range(len(items))]


def _row(run: Run, query: RecommendationQuery) -> tuple[np.ndarray, np.ndarray]:
    """The row [D] to rank with, and the places of the known items."""
    if query.user is not None:
        user = run.users.position(query.user)
        return run.user_rows.take(np.asarray([user]))[0], run.known.of(user)
    items = run.basket(query.items)
    return run.fold_in(items), items
