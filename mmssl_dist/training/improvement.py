"""The one rule on which of several validations is the best: the largest metric, and of equal ones the
earliest."""

from __future__ import annotations

CHECKPOINT_SCORE = "checkpoint_score"
"""Name under which reports have their ``order_key`` beside the metrics."""
_DIGITS = 8
_EPOCH = 1e-13
"""What an epoch counts beside a metric. Metrics are at most 1, where floats are 2e-16 apart, so 90,000 epochs
stay below half of the last of ``_DIGITS`` digits."""


def improves(value: float, best: float | None) -> bool:
    """Whether a later ``value`` of the validation metric is better than the ``best`` so far.

    Values that agree to eight digits are equal: sums in another order, as with another number of workers,
    differ by less, and so much means nothing over fewer than a hundred million users.
    """
    return best is None or round(value, _DIGITS) > round(best, _DIGITS)


def order_key(value: float, epoch: float) -> float:
    """A number that is larger the better a validated epoch is, by the rule of ``improves``."""
    return round(value, _DIGITS) - epoch * _EPOCH
