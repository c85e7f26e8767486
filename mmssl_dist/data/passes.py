"""The passes over all rows before anything is written: users and items get numbers, interactions a split.

They run on Ray Data for `prepare`, and in one process for `validate`: both refuse the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_steps import (
    ITEMS_DROPPED,
    Catalogue,
    feature_table,
    rows_by_item,
    settle_items,
    settle_users,
)
from mmssl_dist.data.columns import BUCKET, SPLITS, TEST, TIME, TRAIN, VALIDATION
from mmssl_dist.data.k_core import k_core
from mmssl_dist.data.packed_rows import cut, unpack
from mmssl_dist.data.readers import FeatureSource, InteractionSource
from mmssl_dist.data.row_operations import Numbers, Rows, by_bucket, map_tables
from mmssl_dist.data.rows import REASONS, read_features, read_interactions
from mmssl_dist.data.splits import RADIX_BITS, RADIX_PASSES, digit_counts, select_digit, temporal_ranks
from mmssl_dist.errors import InputError


@dataclass(frozen=True)
class _Users:
    """First pass: packed user buckets, the first number of each bucket's users, counts."""

    buckets: Rows
    offsets: np.ndarray
    counts: dict[str, int]


@dataclass(frozen=True)
class NumberedRows:
    """All rows, read and checked.

    Attributes:
        users, items: packed buckets.
        user_offsets, item_offsets: [buckets] the first number of each bucket's users and items.
        counts: of users, items, interactions by split, features by modality, and of what was dropped.
    """

    users: Rows
    items: Rows
    user_offsets: np.ndarray
    item_offsets: np.ndarray
    counts: dict[str, int]


def numbered_rows(
    job: Job, interactions: InteractionSource, features: dict[str, FeatureSource], numbers: Numbers
) -> NumberedRows:
    """Read all rows, number users and items, split the interactions, check everything.

    Args:
        numbers: where the rows begin, and with that where they are worked on.

    Raises:
        InputError: a raw file has a bad value, an interaction names an unknown item, a split is empty.
    """
    users = _settle_users(job, interactions, numbers)
    items = by_bucket(
        _interactions_by_item(job, interactions, users).union(
            _features_by_item(job, interactions, features, numbers)
        ),
        partial(settle_items, catalogue=_catalogue(job, interactions, features)),
        job.data.buckets,
    ).materialize()
    names = ("items", ITEMS_DROPPED, *SPLITS, *map(feature_table, features))
    offsets, counts = _summary(items, names, "items", job.data.buckets)
    _require_splits(job, counts)
    _require_features(job, features, counts)
    return NumberedRows(
        users=users.buckets,
        items=items,
        user_offsets=users.offsets,
        item_offsets=offsets,
        counts=users.counts | counts,
    )


def _settle_users(job: Job, source: InteractionSource, numbers: Numbers) -> _Users:
    buckets, method = job.data.buckets, job.data.split.method
    rows = map_tables(
        numbers(len(source.pieces)), cut(partial(read_interactions, source=source, buckets=buckets))
    )
    rare = 0
    if job.data.min_interactions > 1:
        rows, rare = k_core(rows, job.data.min_interactions, buckets)
    settle = partial(settle_users, seed=job.seed, split=job.data.split, method=method)
    packed = by_bucket(rows, settle, buckets).materialize()
    offsets, counts = _summary(packed, ("users", "interactions", *REASONS), "users", buckets)
    counts["below_min_interactions"] = rare
    if counts["interactions"] == 0:
        why = f"; {rare} went because of data.min_interactions" if rare else ""
        raise InputError(
            source.files[0].name,
            f"no interactions{why}",
            "there must be something to train on",
            "Lower data.min_interactions." if rare else "Check data.interactions and data.columns.",
        )
    return _Users(packed, offsets, counts)


def _interactions_by_item(job: Job, source: InteractionSource, users: _Users) -> Rows:
    thresholds = None
    if job.data.split.method == "temporal":
        split, total = job.data.split, users.counts["interactions"]
        first_validation, first_test = temporal_ranks(total, split.validation, split.test)
        thresholds = (
            _time_at(users.buckets, first_validation, total),
            _time_at(users.buckets, first_test, total),
        )
    convert = partial(
        rows_by_item,
        offsets=users.offsets,
        thresholds=thresholds,
        item_type=source.item_type,
        buckets=job.data.buckets,
    )
    return map_tables(users.buckets, cut(convert), 1)


def _time_at(packed: Rows, rank: int, total: int) -> int | None:
    """The time key at position ``rank`` among all, exactly, by counting digit after digit; None past the
    end."""
    if rank >= total:
        return None
    prefix = 0
    for level in range(RADIX_PASSES):
        counted = map_tables(packed, partial(_count_digits, prefix=prefix, level=level), 1)
        parts = (
            (np.asarray(row["digits"], np.int64), np.asarray(row["counts"], np.int64))
            for row in counted.iter_rows()
        )
        digit, rank = select_digit(parts, rank)
        prefix = (prefix << RADIX_BITS) | digit
    return prefix


def _count_digits(batch: pa.Table, prefix: int, level: int) -> pa.Table:
    digits, counts = digit_counts(unpack(batch, "interactions")[TIME].to_numpy(), prefix, level)
    numbers_type = pa.list_(pa.int64())
    return pa.table({"digits": pa.array([digits], numbers_type), "counts": pa.array([counts], numbers_type)})


def _features_by_item(
    job: Job, source: InteractionSource, features: dict[str, FeatureSource], numbers: Numbers
) -> Rows:
    pieces = tuple(
        (kind, index)
        for kind, feature in enumerate(features.values())
        for index in range(len(feature.pieces))
    )
    read = partial(
        read_features, sources=features, pieces=pieces, item_type=source.item_type, buckets=job.data.buckets
    )
    return map_tables(numbers(len(pieces)), cut(read))


def _catalogue(job: Job, source: InteractionSource, features: dict[str, FeatureSource]) -> Catalogue:
    rules = []
    for feature in features.values():
        name = feature.files[0].name + (
            f" and {len(feature.files) - 1} more" if len(feature.files) > 1 else ""
        )
        rules.append(
            name if feature.rows is None else f"{name} (ids are its row numbers, 0 to {feature.rows - 1})"
        )
    return Catalogue(
        files=source.files,
        unit=source.unit,
        features={name: feature.files for name, feature in features.items()},
        shapes={name: (feature.dimension, feature.dtype) for name, feature in features.items()},
        rule=f"every item has features in {' or '.join(rules)}",
        core=job.data.min_interactions >= 1,
    )


def _summary(
    packed: Rows, names: tuple[str, ...], numbered: str, buckets: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Where the numbers of each bucket begin ([buckets] int64), and the counts over all buckets."""
    sizes = np.zeros(buckets, np.int64)
    totals = dict.fromkeys(names, 0)
    for row in packed.select_columns([BUCKET, *names]).iter_rows():
        sizes[row[BUCKET]] = row[numbered]
        for name in names:
            totals[name] += row[name]
    return np.cumsum(sizes) - sizes, totals


def _require_splits(job: Job, counts: Mapping[str, int]) -> None:
    method, split = job.data.split.method, job.data.split
    shares = {VALIDATION: split.validation, TEST: split.test}
    for name in SPLITS:
        asked = name == TRAIN or method in ("given", "leave_last_out") or shares[name] > 0
        if asked and counts[name] == 0:
            raise InputError(
                "data.split",
                f"no {name} interactions with method {method}",
                f"the {name} split may not be empty",
                "Choose another method or share, or add data.",
            )


def _require_features(job: Job, features: dict[str, FeatureSource], counts: Mapping[str, int]) -> None:
    for name in features:
        if counts[feature_table(name)] == 0:
            raise InputError(
                f"data.modalities.{name}.file",
                job.data.modalities[name].file,
                "a modality has features of at least one item that is kept",
                "Remove the modality.",
            )
