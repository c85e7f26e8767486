"""Synthetic data of any size with planted structure: communities that interactions follow and features
reveal.

Everything is a closed formula or a draw of one shard, so that no step holds more than a shard, however many
users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl_dist.data.columns import ITEM_ID, TIME, USER_ID, VECTOR
from mmssl_dist.data.write import part, write_table
from mmssl_dist.errors import InputError
from mmssl_dist.kernels.splitmix import mix, salt
from mmssl_dist.storage import Location

INTERACTIONS = "interactions.parquet"
"""The folder of the interaction shards, by the name ``data.interactions`` has unless set."""
_SHARD_INTERACTIONS = 1 << 21
_SHARD_VALUES = 1 << 26
_WITHIN = 0.85  # share of a user's interactions within the own community
_ITEM_EXPONENT = 0.8  # item popularity ~ rank ** -exponent within its community
_USER_EXPONENT = 0.5  # user activity ~ rank ** -exponent
_NOISE = 0.7  # standard deviation of a feature around its community's centroid, whose own is 1
_ROUNDS = 12
_YEAR = 365 * 24 * 3600
_START = 1_600_000_000


@dataclass(frozen=True, kw_only=True)
class SynthesisPlan:
    """The planted structure.

    Attributes:
        users, items, interactions: how many; interactions as asked for.
        modalities: F by name.
        communities: C; item and user number n are in community n mod C.
        seed: seeds everything.
        base, scale: user number n has base + scale * (rank + 1) ** -exponent interactions, rounded at random.
    """

    users: int
    items: int
    interactions: int
    modalities: Mapping[str, int]
    communities: int
    seed: int
    base: float
    scale: float

    def item_ids(self, numbers: np.ndarray) -> np.ndarray:
        """External ids of items given by number: 0..items-1 in an order that hides the structure."""
        return _permuted(numbers, self.items, self.seed)

    def activity(self, users: np.ndarray) -> np.ndarray:
        """[n] int64: interactions of each user."""
        rank = _permuted(users, self.users, self.seed + 1)
        mean = self.base + self.scale * (rank + 1.0) ** -_USER_EXPONENT
        # The upper 53 bits: all that a float64 in [0, 1) holds.
        draw = (mix(users.astype(np.uint64) ^ salt(self.seed, 3)) >> np.uint64(11)) / float(1 << 53)
        # At most half of the items, or drawing distinct ones would take many rounds.
        return np.minimum(np.floor(mean + draw), self.items // 2).astype(np.int64)


def synthesize(
    location: Location,
    *,
    users: int,
    items: int,
    interactions: int,
    modalities: Mapping[str, int],
    seed: int,
    shards: int | None = None,
) -> dict[str, Any]:
    """Write ``interactions.parquet/`` (user_id text, item_id int64, time int64 seconds) and
    ``features/<modality>/`` (item_id, vector of float16) below ``location``: one file of each in this
    process, several as Ray tasks, for which Ray has been initialised.

    Args:
        interactions: how many are wanted; the exact number is in the facts, within some percent.
        modalities: F, the width of the features, by name.
        shards: files per folder; None takes ``shard_count``.

    Returns:
        facts: users, items, interactions, modalities, communities, shards.

    Raises:
        InputError: a number is out of range.
    """
    plan = make_synthesis_plan(
        users=users, items=items, interactions=interactions, modalities=modalities, seed=seed
    )
    if shards is None:
        shards = shard_count(items, interactions, modalities)
    elif shards < 1:
        raise InputError("shards", shards, "at least one file", "Raise it.")
    # An earlier set may have had more shards, which readers would take for part of this one.
    for folder in (INTERACTIONS, "features"):
        (location / folder).remove()
    write = partial(_write_shards, plan=plan, shards=shards, target=location)
    if shards == 1:
        total = sum(write(pa.table({"id": [0]}))["interactions"].to_pylist())
    else:
        total = _as_tasks(shards, write)
    return {
        "users": users,
        "items": items,
        "interactions": total,
        "modalities": dict(modalities),
        "communities": plan.communities,
        "shards": shards,
    }


def shard_count(items: int, interactions: int, modalities: Mapping[str, int]) -> int:
    """Files per folder that keep what is held at once small."""
    widest = max(modalities.values(), default=0)
    return 1 + max(interactions // _SHARD_INTERACTIONS, items * widest // _SHARD_VALUES)


def _as_tasks(shards: int, write: Callable[[pa.Table], pa.Table]) -> int:
    """Interactions written by a Ray task for each shard."""
    from mmssl_dist.data.row_operations import map_tables
    from mmssl_dist.data.runtime import numbers, ray_data

    with ray_data(0):
        written = map_tables(numbers(shards), write)
        return sum(int(row["interactions"]) for row in written.iter_rows())


def make_synthesis_plan(
    users: int, items: int, interactions: int, modalities: Mapping[str, int], seed: int
) -> SynthesisPlan:
    """The structure for these sizes.

    Raises:
        InputError: a number is out of range.
    """
    for name, value, least in (
        ("users", users, 1),
        ("items", items, 10),
        ("interactions", interactions, users),
    ):
        if value < least:
            raise InputError(name, value, f"{name} must be at least {least}", "Raise it.")
    if interactions > users * items // 10:
        raise InputError(
            "interactions", interactions, f"at most a tenth of all pairs, {users * items // 10}", "Lower it."
        )
    if not modalities:
        raise InputError("modalities", "none", "at least one modality", "Name one with its width.")
    for name, width in modalities.items():
        if width < 1:
            raise InputError(f"modalities.{name}", width, "the width must be at least 1", "Raise it.")
    communities = max(2, min(256, items // 40))
    base = min(5.0, interactions / users)
    weight = _harmonic(users, _USER_EXPONENT)
    return SynthesisPlan(
        users=users,
        items=items,
        interactions=interactions,
        modalities=dict(modalities),
        communities=communities,
        seed=seed,
        base=base,
        scale=max(0.0, interactions - base * users) / weight,
    )


def draw_interactions(plan: SynthesisPlan, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of user number and item number, both [n] int64, of users first..last-1."""
    # By the shard's first user, so that a shard is the same in whichever process and order it is drawn.
    rng = np.random.default_rng((plan.seed, 0, first))
    users = np.arange(first, last, dtype=np.int64)
    activity = plan.activity(users)
    pairs = np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        # Repeated pairs are drawn again until every user has enough, or the rounds are over.
        missing = activity - np.bincount((pairs // plan.items) - first, minlength=len(users))
        if not missing.any():
            break
        user = np.repeat(users, missing)
        pairs = np.sort(np.concatenate([pairs, user * plan.items + _draw_items(plan, user, rng)]))
        # Numpy's unique hashes integers, and is slow on such pairs.
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return pairs // plan.items, pairs % plan.items


def draw_features(plan: SynthesisPlan, modality: int, width: int, first: int, last: int) -> np.ndarray:
    """[n, F] float16: features of items first..last-1."""
    # The same in every shard: a community has one centroid, wherever its items are written.
    centroids = np.random.default_rng((plan.seed, 1, modality)).standard_normal((plan.communities, width))
    # A generator for each shard: shards are written in any order, by any process.
    noise = np.random.default_rng((plan.seed, 2, modality, first)).standard_normal((last - first, width))
    return (centroids[np.arange(first, last) % plan.communities] + _NOISE * noise).astype(np.float16)


def _write_shards(batch: pa.Table, plan: SynthesisPlan, shards: int, target: Location) -> pa.Table:
    total = 0
    for shard in batch["id"].to_pylist():
        first, last = shard * plan.users // shards, (shard + 1) * plan.users // shards
        user, item = draw_interactions(plan, first, last)
        times = _START + (
            mix((user * plan.items + item).astype(np.uint64) ^ salt(plan.seed, 4)) % np.uint64(_YEAR)
        )
        width = len(str(plan.users - 1))
        names = np.char.add("u", np.char.zfill(np.arange(first, last).astype(str), width))
        write_table(
            target,
            part(INTERACTIONS, shard),
            pa.table(
                {
                    USER_ID: pa.array(names).take(pa.array(user - first)),
                    ITEM_ID: pa.array(plan.item_ids(item)),
                    TIME: pa.array(times.astype(np.int64)),
                }
            ),
        )
        total += len(user)
        first, last = shard * plan.items // shards, (shard + 1) * plan.items // shards
        ids = pa.array(plan.item_ids(np.arange(first, last, dtype=np.int64)))
        for number, (name, dimension) in enumerate(plan.modalities.items()):
            values = pa.array(
                draw_features(plan=plan, modality=number, width=dimension, first=first, last=last).reshape(-1)
            )
            table = pa.table({ITEM_ID: ids, VECTOR: pa.FixedSizeListArray.from_arrays(values, dimension)})
            write_table(target, part(f"features/{name}", shard), table)
    return pa.table({"interactions": [total]})


def _draw_items(plan: SynthesisPlan, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One item number per entry of ``users``: a community, then a rank in it by a power law."""
    own = rng.random(len(users)) < _WITHIN
    community = np.where(own, users % plan.communities, rng.integers(0, plan.communities, len(users)))
    size = (plan.items - community + plan.communities - 1) // plan.communities
    rank = _power_rank(size, rng.random(len(users)))
    return np.asarray(community + plan.communities * rank, np.int64)


def _power_rank(size: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """[n] int64 in [0, size): the inverse distribution function of density x ** -exponent on [1, size +
    1)."""
    power = 1.0 - _ITEM_EXPONENT
    top = (size + 1.0) ** power
    rank: np.ndarray = np.minimum(np.floor((1.0 + draw * (top - 1.0)) ** (1.0 / power)) - 1, size - 1)
    return rank.astype(np.int64)


def _permuted(numbers: np.ndarray, size: int, seed: int) -> np.ndarray:
    """A permutation of 0..size-1, as a formula: n * a + b modulo size with a and size coprime."""
    # Odd to begin with, and raised by two: an even factor is coprime to odd sizes only.
    factor = int(mix(np.asarray([seed], np.uint64) ^ salt(seed, 5))[0] % np.uint64(size)) | 1
    while gcd(factor, size) != 1:
        factor += 2
    factor %= size
    shift = int(salt(seed, 6) % np.uint64(size))
    return (numbers.astype(np.int64) * factor + shift) % size


def _harmonic(count: int, exponent: float) -> float:
    """Sum of r ** -exponent for r = 1..count, in pieces."""
    return float(
        sum(
            np.sum(np.arange(start + 1, min(start + (1 << 22), count) + 1, dtype=np.float64) ** -exponent)
            for start in range(0, count, 1 << 22)
        )
    )
