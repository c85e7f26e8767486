"""What Ray Tune is given: Optuna proposes settings, ASHA stops trials that are worse than others were at
their epoch.

Both first receive the trials of an earlier start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from mmssl_dist.config import Job
from mmssl_dist.config.search import Search, Space
from mmssl_dist.tuning.trials import Trial

BEST, EPOCH = "best", "epoch"


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Optuna's words for ``search.space``; choices are JSON texts, since Optuna knows no lists."""
    return {path: _distribution(space) for path, space in search.space.items()}


class Proposals(OptunaSearch):  # type: ignore[misc]
    """Settings for trials: first those that an earlier start left unfinished, then new ones.

    Each proposal has "number", "settings" and "best", the best value of an earlier start or None.
    """

    def __init__(self, job: Job, trials: Sequence[Trial]) -> None:
        self._known = {path: space.choice is not None for path, space in job.search.space.items()}
        # First again, under their old numbers: they have checkpoints, and Optuna has proposed them already.
        self._left = [trial for trial in trials if not trial.ended]
        self._next = max((trial.number for trial in trials), default=0) + 1
        ended = [trial for trial in trials if trial.ended]
        # other draws than an earlier start made
        # constant_liar: several trials run at a time, and without it Optuna would propose almost the same for
        # each.
        sampler = optuna.samplers.TPESampler(seed=job.seed + len(trials), constant_liar=True)
        super().__init__(
            space=distributions(job.search),
            metric=BEST,
            mode="max",
            sampler=sampler,
            points_to_evaluate=[self._encoded(trial.settings) for trial in self._left],
        )
        for trial in ended:
            # Others count as failed: Optuna wants a number of every finished one, and what diverged is no
            # place to search near.
            failed = not trial.is_candidate
            value = None if failed else trial.best
            self.add_evaluated_point(self._encoded(trial.settings), value, error=failed)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The settings of the next trial, as Ray Tune asks for them."""
        proposed = super().suggest(trial_id)
        settings = {path: json.loads(v) if self._known[path] else v for path, v in proposed.items()}
        if self._left:
            trial = self._left.pop(0)
            return {"number": trial.number, "settings": settings, "best": trial.best}
        self._next += 1
        return {"number": self._next - 1, "settings": settings, "best": None}

    def _encoded(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {path: json.dumps(value) if self._known[path] else value for path, value in settings.items()}


class Halving(ASHAScheduler):  # type: ignore[misc]
    """ASHA on epochs and the best value so far.

    Attributes:
        stopped: Ray Tune's ids of the trials it stopped before their last epoch.
    """

    def __init__(self, job: Job, trials: Sequence[Trial]) -> None:
        search, self._epochs = job.search, job.training.epochs
        super().__init__(
            time_attr=EPOCH,
            metric=BEST,
            mode="max",
            max_t=self._epochs + 1,  # a trial ends by itself at its last epoch
            grace_period=search.grace_epochs,
            reduction_factor=search.reduction,
        )
        self.stopped: set[str] = set()
        for trial in trials:
            if trial.ended:
                self._tell(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial continues, as Ray Tune asks."""
        action: str = super().on_trial_result(tune_controller, trial, result)
        if action == TrialScheduler.STOP and result[EPOCH] < self._epochs:
            self.stopped.add(trial.trial_id)
        return action

    def _tell(self, trial: Trial) -> None:
        """What ASHA would know of a trial of an earlier start; it has no public method to add results."""
        # ASHA reads nothing of a trial but its id; the prefix keeps it apart from Ray Tune's own.
        earlier, best = SimpleNamespace(trial_id=f"earlier-{trial.number}"), float("-inf")
        for epoch, value in sorted(trial.values.items()):
            # In the order of the epochs, and the best so far, as a live trial reports it.
            best = max(best, value)
            self._brackets[0].on_result(earlier, epoch, best)


def _distribution(space: Space) -> BaseDistribution:
    if space.choice is not None:
        return CategoricalDistribution([json.dumps(value) for value in space.choice])
    if space.int is not None:
        return IntDistribution(*space.int)
    ends = space.uniform or space.loguniform
    assert ends is not None, "a space has one kind of values"
    return FloatDistribution(*ends, log=space.loguniform is not None)
