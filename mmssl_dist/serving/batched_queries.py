"""What several people ask at once, answered with one look into the index; one's mistake is no other's."""

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
    found: list[Ranked | InputError | None] = [None] * len(questions)
    places, rows, left_out = [], [], []
    for place, question in enumerate(questions):
        try:
            row, seen = _row(run, question)
        except InputError as error:
            found[place] = error
            continue
        places.append(place)
        rows.append(row)
        left_out.append(seen if question.exclude_seen else NOTHING)
    if places:
        longest = max(questions[place].k for place in places)
        for place, ranked in zip(places, run.rank(np.stack(rows), left_out, longest), strict=True):
            k = questions[place].k
            found[place] = Ranked(ranked.items[:k], ranked.scores[:k])
    assert None not in found
    return [each for each in found if each is not None]


def alike(run: Run, items: list[str], ks: list[int]) -> list[Ranked | InputError]:
    """The ``k`` items most like each item, or what is wrong with it; all the known ones are compared at
    once."""
    found: dict[int, Ranked | InputError] = {}
    for place, item in enumerate(items):
        try:
            run.items.place(item)
        except InputError as error:
            found[place] = error
    known = [place for place in range(len(items)) if place not in found]
    ranked = run.similar([items[place] for place in known], max(ks)) if known else []
    assert isinstance(ranked, list)
    for place, each in zip(known, ranked, strict=True):
        found[place] = Ranked(each.items[: ks[place]], each.scores[: ks[place]])
    return [found[place] for place in range(len(items))]


def _row(run: Run, question: Question) -> tuple[np.ndarray, np.ndarray]:
    """The row [D] to rank with, and the places of the items seen."""
    if question.user is not None:
        user = run.users.place(question.user)
        return run.user_embeddings[user], run.seen.of(user)
    items = run.basket(question.items)
    return run.fold_in(items), items
