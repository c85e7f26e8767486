"""The row of an item that training never saw, from its features: what the model makes of an item without
interactions.

It is the final row that the item would have if it were added to the catalogue with all weights and rows as
they are. Missing is its own ID row, which nobody has learned: it counts as zero.
"""

# I items, D embedding, F features of a modality, K neighbours in the item-item graph

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import safetensors.numpy

from mmssl_dist.errors import InputError
from mmssl_dist.graph import names
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.serving.seen import places_of
from mmssl_dist.storage.export_names import (
    NEW_ITEMS,
    OWN,
    bias,
    components,
    fold_in_file,
    share,
    standardization,
    weight,
)

_SHORTEST = 1e-12  # a row not longer than this has no direction
_SHORTEST_FEATURES = 1e-6  # the same of standardized features, as in the item-item graph
_BLOCK = 1 << 16  # items compared at once


class NewItems:
    """What rows of new items are computed with, read when it is first needed."""

    def __init__(self, export: Artifact, partitions: Artifact) -> None:
        self.export, self.partitions = export, partitions
        self._catalogues: dict[str, _Catalogue] = {}

    def row(self, features: Mapping[str, Sequence[float]]) -> np.ndarray:
        """float32 [D], the row of an item with these raw features; see ``Run.new_item``."""
        standardized = self._standardized(features)
        facts = self.export.manifest.facts["fold_in"]
        tower = [self._tower(m, x) for m, x in standardized.items()]
        row = facts["modality_weight"] * sum(tower if facts["feature_columns"] else map(unit, tower))
        if facts["similar_weight"] > 0:
            around = sum(self._tensors[share(m)] * self._around(m, x) for m, x in standardized.items())
            row = row + facts["similar_weight"] * unit(np.asarray(around))
        # As the catalogue's embeddings; see ``evaluation.item_lengths``.
        length = float(lengths(row)) or 1.0  # a row of zeros stays one
        row = row * length ** (facts["length_exponent"] - 1.0)
        _require_float32("features", row)
        return np.asarray(row, np.float32)

    def _standardized(self, features: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
        """float32 of each modality given, as training saw those of the catalogue."""
        tensors, facts = self._tensors, self.partitions.manifest.facts
        left_out = facts.get("left_out", ())
        if features and set(features) <= set(left_out):
            raise InputError(
                "features",
                ", ".join(features),
                "partition left that out, as it says nothing of what users choose",
                "Ask for items of the catalogue, or for new ones by what the run was trained on.",
            )
        modalities = {
            m: tensors[standardization(m)].shape[1] for m in facts["modalities"] if m not in left_out
        }
        # A client need not know what a training has left out.
        features = {m: vector for m, vector in features.items() if m not in left_out}
        named = ", ".join(f"{m} ({width} values)" for m, width in modalities.items())
        rule, remedy = (
            f"the run's modalities are {named}",
            "Give one vector for each modality that the item has.",
        )
        if not features:
            raise InputError("features", "none", rule, remedy)
        prepared = {}
        for modality, vector in features.items():
            if modality not in modalities:
                raise InputError("features", modality, rule, remedy)
            try:
                raw = np.asarray(vector, np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"features.{modality}", "something else", "a list of numbers", remedy
                ) from error
            if raw.shape != (modalities[modality],):
                raise InputError(f"features.{modality}", f"shape {list(raw.shape)}", rule, remedy)
            mean, scale = tensors[standardization(modality)].astype(np.float64)
            # With the numbers of the training catalogue: those of the new item alone would move it.
            standardized = (raw - mean) * scale
            if components(modality) in tensors:
                standardized = standardized @ tensors[components(modality)]
            _require_float32(f"features.{modality}", raw, standardized)
            prepared[modality] = standardized.astype(np.float32)
        return prepared

    def _tower(self, modality: str, x: np.ndarray) -> np.ndarray:
        """[D] float64, equation 1."""
        weights = self._tensors[weight(modality)].astype(np.float64)
        projected: np.ndarray = weights @ x + self._tensors[bias(modality)]
        return projected

    def _around(self, modality: str, x: np.ndarray) -> np.ndarray:
        """[D], the ID rows of the nearest items summed with the weights of the item-item graph."""
        if modality not in self._catalogues:
            self._catalogues[modality] = _read_catalogue(self.partitions, modality)
        positions, weights = self._catalogues[modality].nearest(
            x, self.partitions.manifest.facts["item_neighbours"]
        )
        summed: np.ndarray = weights @ self._own[positions]
        return summed

    @cached_property
    def _tensors(self) -> dict[str, np.ndarray]:
        return safetensors.numpy.load_file(self.export.path(NEW_ITEMS))

    @cached_property
    def _own(self) -> np.ndarray:
        return self.export.rows(fold_in_file, OWN)


@dataclass(frozen=True)
class _Catalogue:
    """One modality of the catalogue's items, by place.

    features: per partition [i, F + 1] float32, memory-mapped. lengths: [I] of the features. listed: [I]
        int64, how many items have an item among their neighbours.
    """

    features: Sequence[np.ndarray]
    lengths: np.ndarray
    listed: np.ndarray

    def nearest(self, x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the ``size`` items nearest to features ``x`` [F] by cosine, and their weights,
        float32."""
        direction, length = unit(x), lengths(x)
        present = np.flatnonzero(self.lengths > _SHORTEST_FEATURES)
        size = min(size, len(present)) if length > _SHORTEST_FEATURES else 0
        if size == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        # Without the bias column, which is 1 for every item and would pull all cosines together.
        dots = np.concatenate([block[:, :-1] @ direction for block in _blocks(self.features)])
        cosines = dots[present] / self.lengths[present]
        # Unsorted, as their rows are summed; a full sort of the catalogue would cost most of the request.
        positions = present[np.argpartition(-cosines, size - 1)[:size]]
        listings = self.listed[positions] + 1  # the new item lists them too
        return positions, (1.0 / np.sqrt(size * listings)).astype(np.float32)


def _read_catalogue(partitions: Artifact, modality: str) -> _Catalogue:
    book = read_book(partitions.manifest)

    def arrays_of(name: str) -> list[np.ndarray]:
        paths = [partitions.path(f"{names.part_folder(part)}/{name}") for part in range(book.parts)]
        return [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]

    features = arrays_of(names.features(modality))
    # Without the last column: it carries the bias and is no feature.
    norms = np.concatenate([lengths(block[:, :-1]) for block in _blocks(features)])
    neighbours = places_of(book, np.concatenate(arrays_of(names.similar(modality)[1])))
    return _Catalogue(features, norms, np.bincount(neighbours, minlength=book.num_items))


def _blocks(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    # An empty partition still gives a block, so that there is something to concatenate.
    return [rows[start : start + _BLOCK] for rows in arrays for start in range(0, max(1, len(rows)), _BLOCK)]


def _require_float32(where: str, *arrays: np.ndarray) -> None:
    """Raise an InputError for values that float32 cannot hold; what is compared may be wider."""
    largest = np.finfo(np.float32).max
    # Not ``> largest``, which is false for NaN.
    if not all(bool((np.abs(array) <= largest).all()) for array in arrays):
        raise InputError(
            where,
            "a value that is not finite in float32",
            f"features, and what the model makes of them, must be within {largest:.3g}",
            "Leave the modality out where it is unknown.",
        )


def lengths(rows: np.ndarray) -> np.ndarray:
    """Euclidean norms of rows [..., D], in float64: squares of large float32 values overflow."""
    return np.asarray(np.linalg.norm(rows.astype(np.float64), axis=-1))


def unit(rows: np.ndarray) -> np.ndarray:
    """float32 rows [..., D] at unit length; a zero row stays zero."""
    length = lengths(rows)[..., None]
    return np.asarray(np.where(length > _SHORTEST, rows / np.maximum(length, _SHORTEST), 0.0), np.float32)
