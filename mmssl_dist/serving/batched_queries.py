"""Queries of several users at once, answered by one search of the index; an invalid one affects no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmssl_dist.errors import InputError
from mmssl_dist.serving.run import NOTHING, Ranked, Run


@dataclass(frozen=True)
class Question:
    """Recommendations for a user of the data, or, when there is none, for a new user of these items."""

    user: object | None
    items: Sequence[object]
    k: int
    exclude_seen: bool


def answers(run: Run, questions: Sequence[Question]) -> list[Ranked | InputError]:
    """The answer to each question, or what is wrong with it."""
    results: list[Ranked | InputError | None] = [None] * len(questions)
    positions, rows, left_out = [], [], []
    for position, question in enumerate(questions):
        try:
            row, seen = _row(run, question)
        except InputError as error:
            results[position] = error
            continue
        positions.append(position)
        rows.append(row)
        left_out.append(seen if question.exclude_seen else NOTHING)
    if positions:
        longest = max(questions[position].k for position in positions)
        for position, ranked in zip(positions, run.rank(np.stack(rows), left_out, longest), strict=True):
            k = questions[position].k
            results[position] = Ranked(ranked.items[:k], ranked.scores[:k])
    assert None not in results
    return [result for result in results if result is not None]


def similar_lists(run: Run, items: list[str], ks: list[int]) -> list[Ranked | InputError]:
    """The ``k`` items most like each item, or what is wrong with it; all the known ones are compared at
    once."""
    results: dict[int, Ranked | InputError] = {}
    for position, item in enumerate(items):
        try:
            run.items.position(item)
        except InputError as error:
            results[position] = error
    known = [position for position in range(len(items)) if position not in results]
    ranked = run.similar([items[position] for position in known], max(ks)) if known else []
    assert isinstance(ranked, list)
    for position, result in zip(known, ranked, strict=True):
        results[position] = Ranked(result.items[: ks[position]], result.scores[: ks[position]])
    return [results[position] for position in range(len(items))]


def _row(run: Run, question: Question) -> tuple[np.ndarray, np.ndarray]:
    """The row [D] to rank with, and the places of the items seen."""
    if question.user is not None:
        user = run.users.position(question.user)
        return run.user_rows.take(np.asarray([user]))[0], run.seen.of(user)
    items = run.basket(question.items)
    return run.fold_in(items), items
