"""An exported run as a model of MLflow: ``mlflow.pyfunc.load_model`` imports this module to load one.

The model's data are files of the export, read as those of any run; nothing is unpickled.
"""

# q queries, D embedding

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmssl_dist.data.columns import USER_ID
from mmssl_dist.serving.run import Run, open_run
from mmssl_dist.storage.export_names import ITEMS, SCORES

if TYPE_CHECKING:
    import pandas as pd

LENGTH = "k"
EXCLUDE_SEEN = "exclude_seen"
DEFAULTS: dict[str, Any] = {LENGTH: 20, EXCLUDE_SEEN: True}
"""Parameters of a prediction."""


class Recommender:
    """What MLflow calls to predict.

    Args:
        run: opened from the model's data.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The best items of each user.

        Args:
            model_input: a column user_id, or one column of ids; other columns are left aside.
            params: k, length of a list; exclude_seen, whether to leave out items that the user has.

        Returns:
            As many rows with the same index: user_id; items, a list of item ids, best first; scores, as many.

        Raises:
            InputError: an unknown user, or k below 1.
        """
        import pandas as pd

        ids = model_input[USER_ID] if USER_ID in model_input.columns else model_input.iloc[:, 0]
        asked = DEFAULTS | dict(params or {})
        positions = self.run.users.positions(ids.tolist())
        lists = self.run.recommend_at(positions, asked[LENGTH], asked[EXCLUDE_SEEN]) if len(positions) else []
        columns = {
            USER_ID: ids.tolist(),
            ITEMS: [[plain_id(item) for item in ranked.items] for ranked in lists],
            SCORES: [ranked.scores.tolist() for ranked in lists],
        }
        return pd.DataFrame(columns, index=model_input.index)


def plain_id(value: object) -> int | str:
    """An id as the model's signature has it: a whole number, or a text."""
    # Python's booleans are integers, and ids of their own.
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _load_pyfunc(data_path: str) -> Recommender:
    """The model whose data are at ``data_path``; the name is MLflow's."""
    return Recommender(open_run(data_path))
