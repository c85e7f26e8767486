"""Sizes of a graph, published or assumed: all that a plan knows of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmssl_dist.config.job import Job
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Manifest

_CLASSES = 48  # into which assumed degrees are sorted
_USER_EXPONENT, _ITEM_EXPONENT = 0.5, 0.8  # of assumed degrees by rank, as `synthesize` plants


@dataclass(frozen=True)
class Degrees:
    """Nodes sorted into classes of about equal degree.

    Attributes:
        nodes: float64 [B] number of nodes.
        degree: float64 [B] their mean degree.
    """

    nodes: np.ndarray
    degree: np.ndarray

    @property
    def edges(self) -> float:
        """Sum of all degrees."""
        return float(self.nodes @ self.degree)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A graph in numbers.

    Attributes:
        users, items: degrees in the graph of training interactions.
        held_out: interactions of validation and test together.
        modalities: width F of the features, by name.
        edge_cut: for W = 1, 2, ... P workers, the share of interactions whose user and item are held by
            different ones; empty before the graph is cut.
        method: how it was cut; empty before.
        unevenness: most edges of a partition over the mean; 1 before the graph is cut.
        source: where the numbers come from, in words.
        named: users that ``export.users`` names; None where all get a list.
    """

    users: Degrees
    items: Degrees
    held_out: int
    modalities: Mapping[str, int]
    edge_cut: Sequence[float]
    method: str
    unevenness: float
    source: str
    named: int | None = None

    @property
    def num_listed(self) -> int:
        """Users that get a list, where export makes lists."""
        return self.num_users if self.named is None else min(self.named, self.num_users)

    @property
    def num_users(self) -> int:
        """U."""
        return round(float(self.users.nodes.sum()))

    @property
    def num_items(self) -> int:
        """I."""
        return round(float(self.items.nodes.sum()))

    @property
    def num_nodes(self) -> int:
        """U + I."""
        return self.num_users + self.num_items

    @property
    def interactions(self) -> int:
        """Of training."""
        return round(self.users.edges)

    def cut_between(self, workers: int) -> float:
        """Share of interactions whose ends are held by different ones of ``workers``: as published, else that
        of a random cut, since METIS's is unknown before it ran."""
        if workers <= len(self.edge_cut):
            return self.edge_cut[workers - 1]
        return 1.0 - 1.0 / workers


def sizes_of_partitions(manifest: Manifest) -> Sizes:
    """Of published partitions; nothing is estimated. Widths are those of the dataset's features."""
    facts = manifest.facts
    reduced = facts.get("reduced", {})
    held_out = sum(count for split, count in facts["interactions"].items() if split != "train")
    return Sizes(
        users=_degrees(facts["degrees"]["users"]),
        items=_degrees(facts["degrees"]["items"]),
        held_out=held_out,
        modalities={m: reduced.get(m, {}).get("from", width) for m, width in facts["modalities"].items()},
        edge_cut=tuple(facts["edge_cut_of_workers"]),
        method=facts["method"],
        unevenness=facts["balance"]["edges"],
        source="the published partitions",
    )


def sizes_of_dataset(manifest: Manifest) -> Sizes:
    """Of a published dataset; the distribution of degrees is assumed."""
    widths = {name: of_one["dimension"] for name, of_one in manifest.facts["modalities"].items()}
    return sizes_of_facts(manifest.facts, widths, "the published dataset")


def sizes_of_facts(facts: Mapping[str, Any], widths: Mapping[str, int], source: str) -> Sizes:
    """Of a dataset with the facts of a manifest; the distribution of degrees is assumed.

    Args:
        widths: of its modalities.
        source: of the facts, in words.
    """
    train = facts["interactions"]["train"]
    supposed = supposed_sizes(facts["users"], facts["items"], train, widths, held_out=0.0)
    held_out = sum(facts["interactions"].values()) - train
    return replace(supposed, held_out=held_out, source=f"{source}; degrees by a power law")


def supposed_sizes(
    users: int, items: int, interactions: int, modalities: Mapping[str, int], held_out: float
) -> Sizes:
    """Of a graph that does not exist yet, with degrees by a power law.

    Args:
        interactions: of all splits.
        held_out: share of them that is not trained on.

    Raises:
        InputError: a number is out of range.
    """
    for name, value in (("--users", users), ("--items", items), ("--interactions", interactions)):
        if value < 1:
            raise InputError(name, value, "it must be at least 1", "Raise it.")
    if interactions > users * items:
        raise InputError("--interactions", interactions, f"there are {users * items} pairs", "Lower it.")
    train = interactions * (1.0 - held_out)
    return Sizes(
        users=_power_law(users, train, items, _USER_EXPONENT),
        items=_power_law(items, train, users, _ITEM_EXPONENT),
        held_out=round(interactions * held_out),
        modalities=dict(modalities),
        edge_cut=(),
        method="",
        unevenness=1.0,
        source="the sizes given; degrees by a power law",
    )


def features_of(job: Job, sizes: Sizes) -> dict[str, int]:
    """Width of the features that partitions keep, by name."""
    return {m: job.partition.kept_dimensions(width) for m, width in sizes.modalities.items()}


def row_bytes(job: Job) -> int:
    """Bytes of a number of a propagated row."""
    return 2 if job.partition.row_type == "bfloat16" else 4


def held_out_share(job: Job) -> float:
    """The share of the interactions that ``data.split`` sets aside; of given splits it is unknown, and
    0."""
    split = job.data.split
    return split.validation + split.test if split.method in ("ratio", "temporal") else 0.0


def _degrees(classes: Sequence[Sequence[int]]) -> Degrees:
    nodes, edges = np.asarray(classes, np.float64).reshape(-1, 2).T
    return Degrees(nodes, np.divide(edges, nodes, out=np.zeros_like(edges), where=nodes > 0))


def _power_law(count: int, edges: float, limit: int, exponent: float) -> Degrees:
    """Degrees ~ rank ** -exponent, at most ``limit``, that sum up to ``edges``."""
    # Classes that widen with the rank: the few nodes of highest degree are the ones that differ.
    ends = np.unique(np.round(np.geomspace(1, count + 1, _CLASSES + 1)))
    nodes = np.diff(ends)
    power = 1.0 - exponent
    shape = np.diff(ends**power) / nodes  # the integral of rank ** -exponent, over each class, up to a factor
    degree = shape * edges / float(nodes @ shape)
    for _ in range(_CLASSES):  # what is over the limit goes to the others
        over = degree > limit
        left = edges - limit * float(nodes[over].sum())
        weight = float((nodes * degree)[~over].sum())
        scaled = np.where(over, float(limit), degree * (left / weight if weight > 0 else 1.0))
        if np.allclose(scaled, degree):
            break
        degree = scaled
    return Degrees(nodes, np.minimum(degree, limit))
