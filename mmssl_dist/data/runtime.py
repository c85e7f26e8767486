"""Ray Data as this room uses it: quiet, and with errors that reach the caller as they were raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from types import GeneratorType

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset
from ray.data.context import ShuffleStrategy
from ray.exceptions import RayError

from mmssl_dist.data.columns import BUCKET
from mmssl_dist.data.packed_rows import Batch, joined
from mmssl_dist.errors import MmsslError, find_known

SMALL_BYTES = 1 << 30


class TaskFailure(Exception):
    """Carries an error through Ray Data, which writes advice of its own into the arguments of what a task
    raises."""

    def __init__(self, cause: MmsslError, *context: str) -> None:
        super().__init__(cause, *context)
        self.cause = cause


def guarded(function: Batch) -> Batch:
    """``function`` with its known errors carried by ``TaskFailure``."""

    @wraps(function)
    def call(batch: pa.Table) -> pa.Table | Iterator[pa.Table]:
        try:
            result = function(batch)
        except MmsslError as error:
            raise TaskFailure(error) from error
        return _guarded_items(result) if isinstance(result, GeneratorType) else result

    return call


def _guarded_items(items: Iterator[pa.Table]) -> Iterator[pa.Table]:
    try:
        yield from items
    except MmsslError as error:
        raise TaskFailure(error) from error


@contextmanager
def ray_data(raw_bytes: int) -> Iterator[None]:
    """Settings for the duration of one preparation; known errors of tasks come out as themselves.

    Small inputs take the pull-based sort shuffle: the default one starts worker processes of its own for each
    shuffle, seconds that only pay off when there is much to shuffle. The results are the same.
    """
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = (context.enable_progress_bars, context.raise_original_map_exception, context.shuffle_strategy)
    level = logger.level
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    if raw_bytes < SMALL_BYTES:
        context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    logger.setLevel(logging.CRITICAL)  # what it would log is raised as well
    try:
        yield
    except RayError as error:
        known = find_known(error)
        if known is None:
            raise
        raise known from error
    finally:
        context.enable_progress_bars, context.raise_original_map_exception, context.shuffle_strategy = before
        logger.setLevel(level)


def by_bucket(fragments: Dataset, function: Batch, buckets: int) -> Dataset:
    """``function`` applied to all rows of each bucket at once, which come in fragments (``bundle.cut``)."""
    grouped = fragments.groupby(BUCKET, num_partitions=buckets)
    return grouped.map_groups(guarded(joined(function)), batch_format="pyarrow")


def map_tables(rows: Dataset, function: Batch, batch_size: int | None = None) -> Dataset:
    """``function`` applied to tables of ``batch_size`` rows, or of whole blocks."""
    return rows.map_batches(guarded(function), batch_format="pyarrow", batch_size=batch_size)


def numbers(count: int) -> Dataset:
    """0..count-1 in column ``id``, one task each."""
    return ray.data.range(count, override_num_blocks=count)
