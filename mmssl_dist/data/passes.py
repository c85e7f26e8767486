"""The passes over all rows before anything is written: users and items get numbers, interactions a split.

They run on Ray Data for `prepare`, and in one process for `validate`: both refuse the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_count import bucket_count, interaction_bytes, needed_buckets, with_buckets
from mmssl_dist.data.bucket_steps import (
    EARLIEST,
    ITEMS_DROPPED,
    LATEST,
    UNKNOWN_INTERACTIONS,
    UNKNOWN_ITEMS,
    Catalogue,
    feature_table_name,
    held_out_digests,
    rows_by_item,
    settle_items,
    settle_users,
    used_count,
)
from mmssl_dist.data.columns import (
    BUCKET,
    HELD_OUT,
    HELD_OUT_DIGEST,
    SPLITS,
    TEST,
    TIME,
    TRAIN,
    VALIDATION,
)
from mmssl_dist.data.first_ids import check_first_ids, matrix_rows
from mmssl_dist.data.k_core import k_core
from mmssl_dist.data.known_items import of_known_items, unknown_items
from mmssl_dist.data.packed_rows import to_fragments, unpack
from mmssl_dist.data.readers import FeatureSource, InteractionSource
from mmssl_dist.data.readers.times import TimeFormat, moment_text
from mmssl_dist.data.row_operations import Numbers, RowDataset, by_bucket, map_tables
from mmssl_dist.data.rows import (
    BELOW_EVENTS,
    BELOW_RATING,
    FIRST_IDS,
    OUTSIDE_WINDOW,
    REASONS,
    UNKNOWN_ITEM,
    grouped_pieces,
    read_features,
    read_interactions,
)
from mmssl_dist.data.splits import RADIX_BITS, RADIX_PASSES, digit_counts, select_digit, temporal_ranks
from mmssl_dist.data.window import within_window
from mmssl_dist.errors import InputError

_SETTINGS = {
    BELOW_RATING: "data.min_rating",
    UNKNOWN_ITEM: "data.unknown_items",
    OUTSIDE_WINDOW: "data.window",
    BELOW_EVENTS: "data.min_events",
    "below_min_interactions": "data.min_interactions",
}
"""What drops rows of interactions, by the reason that is counted."""


@dataclass(frozen=True, kw_only=True)
class _Users:
    """First pass: packed user buckets, the first number of each bucket's users, counts.

    Attributes:
        thresholds: time keys at which validation and test begin; None for splits that do without.
        times: where data.window begins and ends, where there is one, and the times of the first and the last
            interaction, where they have times.
    """

    buckets: RowDataset
    offsets: np.ndarray
    counts: dict[str, int]
    thresholds: tuple[int | None, int | None] | None
    times: dict[str, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class NumberedRows:
    """All rows, read and checked.

    Attributes:
        users, items: packed buckets.
        user_offsets, item_offsets: [buckets] the first number of each bucket's users and items.
        counts: of users, items, interactions by split, features by modality, and of what was dropped.
        held_out_digest: of the pairs in validation and test, 32 hex digits; equal for equal pairs, however
            users and items are numbered.
        times: where data.window begins and ends, where there is one, and the times of the first and the last
            interaction, where they have times.
    """

    users: RowDataset
    items: RowDataset
    user_offsets: np.ndarray
    item_offsets: np.ndarray
    counts: dict[str, int]
    held_out_digest: str
    times: dict[str, dict[str, str]]


def numbered_rows(
    job: Job, interactions: InteractionSource, features: dict[str, FeatureSource], numbers: Numbers
) -> NumberedRows:
    """Read all rows, number users and items, split the interactions, check everything.

    Args:
        numbers: where the rows begin, and with that where they are worked on.

    Raises:
        InputError: a raw file has a bad value, an interaction names an unknown item, a split is empty.
    """
    job = with_buckets(job, _needed_buckets(interactions, features))
    vectors = _features_by_item(job, interactions, features, numbers)
    if job.data.unknown_items == "drop":
        vectors = vectors.materialize()  # read once, although their items are asked for first
    users = _settle_users(
        job=job,
        source=interactions,
        features=vectors,
        numbers=numbers,
        rows_of_matrix=matrix_rows(features.values()),
    )
    check_first_ids(users.counts, features.values())
    items = by_bucket(
        _interactions_by_item(job, interactions, users).union(vectors),
        partial(settle_items, catalogue=_catalogue(job, features)),
        bucket_count(job),
    ).materialize()
    names = ("items", ITEMS_DROPPED, UNKNOWN_ITEMS, UNKNOWN_INTERACTIONS, *SPLITS)
    of_features = (*map(feature_table_name, features), *map(used_count, features))
    offsets, counts = _summary(items, (*names, *of_features), "items", bucket_count(job))
    # Counted over all buckets first, so that one message says how many there are and names the first of them.
    if job.data.unknown_items == "error" and counts[UNKNOWN_ITEMS]:
        raise unknown_items(items, counts, interactions, features)
    _require_splits(job, counts)
    _require_features(job, features, counts)
    return NumberedRows(
        users=users.buckets,
        items=items,
        user_offsets=users.offsets,
        item_offsets=offsets,
        counts=users.counts | counts,
        held_out_digest=_held_out_digest(users),
        times=users.times,
    )


def _needed_buckets(interactions: InteractionSource, features: dict[str, FeatureSource]) -> int:
    feature_bytes = sum(file.size for source in features.values() for file in source.files)
    return needed_buckets(interaction_bytes(interactions.files), feature_bytes)


def dataset_facts(
    job: Job, source: InteractionSource, features: dict[str, FeatureSource], rows: NumberedRows
) -> dict[str, Any]:
    """The facts of the dataset's manifest."""
    counts, keep = rows.counts, job.data.unknown_items == "keep"
    dropped = {reason: counts[reason] for reason in (*REASONS, "below_min_interactions")}
    return {
        "users": counts["users"],
        "items": counts["items"],
        "interactions": {name: counts[name] for name in SPLITS},
        "split": job.data.split.method,
        "modalities": {
            name: {"dimension": feature.dimension, "items": counts[feature_table_name(name)]}
            for name, feature in features.items()
        },
        "user_id_type": str(source.user_type),
        "item_id_type": str(source.item_type),
        "dropped": {
            **dropped,
            "items_below_min_interactions": counts[ITEMS_DROPPED],
        },
        "items_without_features": counts[UNKNOWN_ITEMS] if keep else 0,
        **rows.times,
        HELD_OUT_DIGEST: rows.held_out_digest,
    }


def _settle_users(
    job: Job, source: InteractionSource, features: RowDataset, numbers: Numbers, rows_of_matrix: int | None
) -> _Users:
    buckets, method, groups = bucket_count(job), job.data.split.method, grouped_pieces(source)
    read = partial(
        read_interactions,
        source=source,
        groups=groups,
        buckets=buckets,
        least_rating=job.data.min_rating,
        matrix_rows=rows_of_matrix,
    )
    rows = map_tables(numbers(len(groups)), to_fragments(read))
    if job.data.unknown_items == "drop":
        rows = of_known_items(rows, features, buckets)
    times = getattr(source, "times", None)  # the layout mmssl has none, and no window
    known: dict[str, dict[str, str]] = {}
    if job.data.window is not None:
        assert times is not None
        rows, window = within_window(rows, job.data.window, times)
        known = {"window": window} if window else {}
    rare, least_events = 0, job.data.min_events
    if job.data.min_interactions > 1:
        # Before the split: with interactions removed afterwards, a user's held-out share would be another.
        rows, rare = k_core(rows, job.data.min_interactions, buckets, least_events)
        least_events = 1  # of what is left, every pair has one row
    settle = partial(settle_users, split=job.data.split, method=method, least=least_events)
    # Used by several passes below; without this Ray Data would read all raw files again for each.
    packed = by_bucket(rows, settle, buckets).materialize()
    offsets, counts = _summary(packed, ("users", "interactions", *REASONS, *FIRST_IDS), "users", buckets)
    counts["below_min_interactions"] = rare
    if counts["interactions"] == 0:
        raise _nothing_left(source, counts)
    if times is not None:
        known["period"] = _period(packed, times)
    return _Users(
        buckets=packed,
        offsets=offsets,
        counts=counts,
        thresholds=_thresholds(job, packed, counts["interactions"]),
        times=known,
    )


def _period(packed: RowDataset, times: TimeFormat) -> dict[str, str]:
    """When the first and the last interaction were."""
    bounds = [
        row for row in packed.select_columns([EARLIEST, LATEST]).iter_rows() if row[EARLIEST] is not None
    ]
    first, last = min(row[EARLIEST] for row in bounds), max(row[LATEST] for row in bounds)
    return {"from": moment_text(first, times, last), "to": moment_text(last, times, last)}


def _nothing_left(source: InteractionSource, counts: Mapping[str, int]) -> InputError:
    """The error for a job none of whose rows can be used, with the settings that dropped them."""
    went = {reason: count for reason, count in counts.items() if reason in _SETTINGS and count}
    why = "".join(f"; {count} dropped by {_SETTINGS[reason]}" for reason, count in went.items())
    others = {OUTSIDE_WINDOW: "widen", UNKNOWN_ITEM: "change"}
    verbs = (others.get(reason, "lower") for reason in went)
    remedy = " or ".join(f"{verb} {_SETTINGS[reason]}" for verb, reason in zip(verbs, went, strict=True))
    return InputError(
        source.files[0].name,
        f"no interactions{why}",
        "there must be something to train on",
        f"{remedy.capitalize()}." if went else "Check data.interactions and data.columns.",
    )


def _thresholds(job: Job, packed: RowDataset, total: int) -> tuple[int | None, int | None] | None:
    split = job.data.split
    if split.method != "temporal":
        return None
    # Ranks of the whole, so that no bucket has to know the times in the others before it is counted.
    first_validation, first_test = temporal_ranks(total, split.validation, split.test)
    return _time_at(packed, first_validation, total), _time_at(packed, first_test, total)


def _held_out_digest(users: _Users) -> str:
    # Summed up bucket by bucket, so that no process has to hold all pairs.
    digests = map_tables(users.buckets, partial(held_out_digests, thresholds=users.thresholds), 1)
    totals = dict.fromkeys(HELD_OUT, 0)
    for row in digests.iter_rows():
        for name in HELD_OUT:
            totals[name] += int(row[name])
    return "".join(f"{totals[name] % (1 << 64):016x}" for name in HELD_OUT)


def _interactions_by_item(job: Job, source: InteractionSource, users: _Users) -> RowDataset:
    convert = partial(
        rows_by_item,
        offsets=users.offsets,
        thresholds=users.thresholds,
        item_type=source.item_type,
        buckets=bucket_count(job),
    )
    # One bucket at a time: a bucket is sized to fit a task's memory, several of them are not.
    return map_tables(users.buckets, to_fragments(convert), 1)


def _time_at(packed: RowDataset, rank: int, total: int) -> int | None:
    """The time key at position ``rank`` among all, exactly, by counting digit after digit; None past the
    end."""
    if rank >= total:
        return None
    prefix = 0
    # An exact quantile without a global sort: four passes of counting 16 bits each over the time keys.
    for level in range(RADIX_PASSES):
        counted = map_tables(packed, partial(_count_digits, prefix=prefix, level=level), 1)
        parts = (
            (np.asarray(row["digits"], np.int64), np.asarray(row["counts"], np.int64))
            for row in counted.iter_rows()
        )
        digit, rank = select_digit(parts, rank)
        # The next pass looks only at keys that begin with the digits known so far.
        prefix = (prefix << RADIX_BITS) | digit
    return prefix


def _count_digits(batch: pa.Table, prefix: int, level: int) -> pa.Table:
    digits, counts = digit_counts(unpack(batch, "interactions")[TIME].to_numpy(), prefix, level)
    numbers_type = pa.list_(pa.int64())
    return pa.table({"digits": pa.array([digits], numbers_type), "counts": pa.array([counts], numbers_type)})


def _features_by_item(
    job: Job, source: InteractionSource, features: dict[str, FeatureSource], numbers: Numbers
) -> RowDataset:
    groups = tuple(
        (modality, group)
        for modality, feature in enumerate(features.values())
        for group in grouped_pieces(feature)
    )
    read = partial(
        read_features, sources=features, groups=groups, item_type=source.item_type, buckets=bucket_count(job)
    )
    return map_tables(numbers(len(groups)), to_fragments(read))


def _catalogue(job: Job, features: dict[str, FeatureSource]) -> Catalogue:
    return Catalogue(
        features={name: feature.files for name, feature in features.items()},
        shapes={name: (feature.dimension, feature.dtype) for name, feature in features.items()},
        core=job.data.min_interactions >= 1,
        keep_unknown=job.data.unknown_items == "keep",
    )


def _summary(
    packed: RowDataset, names: tuple[str, ...], numbered: str, buckets: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Where the numbers of each bucket begin ([buckets] int64), and the counts over all buckets."""
    sizes = np.zeros(buckets, np.int64)
    totals = dict.fromkeys(names, 0)
    for row in packed.select_columns([BUCKET, *names]).iter_rows():
        sizes[row[BUCKET]] = row[numbered]
        for name in names:
            totals[name] += row[name]
    # Numbers follow the buckets' own order, so they do not depend on which bucket was ready first.
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
        if counts[used_count(name)]:
            continue
        modality = job.data.modalities[name]
        field = "file" if modality.file is not None else "table" if modality.table else "files"
        where, found = f"data.modalities.{name}.{field}", getattr(modality, field)
        if not counts[feature_table_name(name)]:
            rule, remedy = (
                "a modality must have features for at least one remaining item",
                "Remove the modality.",
            )
            raise InputError(where, found, rule, remedy)
        raise InputError(
            where,
            f"{found}, with {counts[feature_table_name(name)]:,} items, none of which has an interaction",
            "a modality must have features for at least one item that somebody interacted with",
            "Compare the ids with those of the interactions: leading zeros, letters and spaces count.",
        )
