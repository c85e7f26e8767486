"""What a run answers: lists of items or users, best first, for programs, notebooks and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ranked:
    """Items, best first.

    Attributes:
        items: external ids.
        scores: float32, as many.
        titles: as many, None for an item without; None where the run was opened without titles.
    """

    items: list[Any]
    scores: np.ndarray
    titles: list[str | None] | None = None

    def between(self, start: int, end: int) -> Ranked:
        """Those from rank ``start`` on, which counts from 0, up to ``end``."""
        titles = None if self.titles is None else self.titles[start:end]
        return Ranked(self.items[start:end], self.scores[start:end], titles)

    def to_pandas(self) -> pd.DataFrame:
        """A row per item: item, title where titles are known, score; numbered from 1, the best."""
        titles = {} if self.titles is None else {"title": self.titles}
        return _frame({"item": self.items, **titles, "score": self.scores})

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return _html(self.to_pandas())


@dataclass(frozen=True)
class RankedUsers:
    """Users, best first. ``users``: external ids. ``scores``: float32, as many."""

    users: list[Any]
    scores: np.ndarray

    def to_pandas(self) -> pd.DataFrame:
        """A row per user: user, score; numbered from 1, the best."""
        return _frame({"user": self.users, "score": self.scores})

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return _html(self.to_pandas())


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    size = len(columns["score"])
    return pd.DataFrame(columns, index=pd.RangeIndex(1, size + 1, name="rank"))


def _html(frame: pd.DataFrame) -> str:
    # pandas escapes ids and titles, which may hold markup that others wrote.
    return str(frame.to_html(escape=True, float_format="{:.4f}".format))
