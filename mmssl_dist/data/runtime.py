"""Ray Data as this package uses it: quiet, and with errors that reach the caller as they were raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext, Dataset
from ray.data.context import ShuffleStrategy
from ray.exceptions import RayError

from mmssl_dist.errors import find_known

SMALL_BYTES = 1 << 30


@contextmanager
def ray_data(raw_bytes: int) -> Iterator[None]:
    """Settings for the duration of one preparation; known errors of tasks come out as themselves.

    Small inputs take the pull-based sort shuffle: the default one starts worker processes of its own for each
    shuffle, seconds that only pay off when there is much to shuffle. The results are the same.
    """
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    # The context is one for the whole process, which may use Ray Data for something else afterwards.
    settings = (
        "enable_progress_bars",
        "print_on_execution_start",
        "raise_original_map_exception",
        "shuffle_strategy",
    )
    before = {name: getattr(context, name) for name in settings}
    level = logger.level
    # Bars redraw the terminal that our own progress lines are written to.
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    if raw_bytes < SMALL_BYTES:
        context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    logger.setLevel(logging.CRITICAL)  # what it would log is raised as well
    try:
        yield
    except RayError as error:
        own_error = find_known(error)
        if own_error is None:
            raise
        raise own_error from error
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


def numbers(count: int) -> Dataset:
    """0..count-1 in column ``id``, one task each."""
    return ray.data.range(count, override_num_blocks=count)
