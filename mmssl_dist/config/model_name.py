"""What a job's model is called in tables, and whether it has any use for item features."""

from __future__ import annotations

from mmssl_dist.config.model_sections import Model
from mmssl_dist.config.tree import JobSections


def uses_features(model: Model) -> bool:
    """Whether the rows that are ranked by depend on the features of items.

    They do by the modality tower, by the item-item graph or by the learned lists; without these the model is
    made of ID rows and the interaction graph alone.
    """
    return bool(
        model.modality_weight or model.feature_columns or model.item_graph.weight or model.modality_graph.size
    )


def model_name(job: JobSections) -> str:
    """``model.name``, or else what a model of these parts is commonly called."""
    model = job.model
    if model.name is not None:
        return model.name
    if uses_features(model):
        return "mmssl"
    return "lightgcn" if model.layers else "mf"
