"""Rows of users that training never saw, from the items known of them."""

# I items, D embedding

from __future__ import annotations

from functools import cached_property

import numpy as np

from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.serving.new_items import unit
from mmssl_dist.storage.export_names import LAYERS, SIMILAR, fold_in_file, tower


class NewUsers:
    """What a run's export keeps for new users, read when first needed."""

    def __init__(self, export: Artifact, partitions: Artifact) -> None:
        self._export, self._partitions = export, partitions

    def row(self, items: np.ndarray) -> np.ndarray:
        """float32 [D], the row of a user of these items, given by place: what the model's propagation makes
        of them.

        It is the final row that the user would have if they were added to the training graph with the weights
        and the items' rows as they are: the mean of all layers, the mean of the items' rows over the
        item-item graph, the unit tower rows. Missing is the user's own ID row, which nobody has learned: it
        counts as zero.
        """
        rows, facts = self._rows, self._export.manifest.facts["fold_in"]
        # Equation 5 for a user of these items; the items' side of the weights, 1 / sqrt(degree), is stored.
        row = rows[LAYERS][items].sum(0) / len(items) ** 0.5
        if SIMILAR in rows:
            row = row + facts["similar_weight"] * rows[SIMILAR][items].mean(0)
        for name in rows:
            if name not in (LAYERS, SIMILAR):
                row = row + facts["modality_weight"] * unit(rows[name][items].sum(0))
        return np.asarray(row, np.float32)

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """[I, D] by name."""
        facts, names = self._export.manifest.facts["fold_in"], [LAYERS]
        if not facts["feature_columns"]:  # with them users have no tower rows
            names += [tower(modality) for modality in sorted(self._partitions.manifest.facts["modalities"])]
        if facts["similar_weight"] > 0:
            names.append(SIMILAR)
        return {name: self._export.rows(fold_in_file, name) for name in names}
