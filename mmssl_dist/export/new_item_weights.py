"""The dense weights that the row of an item training never saw is computed with, and how features are
made of raw ones."""

# D embedding, F features

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors.numpy
import torch

from mmssl_dist.graph.partition_files import FeatureMap
from mmssl_dist.model import Mmssl
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.storage.export_names import NEW_ITEMS, bias, components, share, standardization, weight


@torch.no_grad()
def write_new_items(
    export: Location, model: Mmssl, feature_maps: Mapping[str, FeatureMap]
) -> dict[str, FileRecord]:
    """Write ``new_items.safetensors``: of each modality its projection, its share, and what
    makes its features of raw ones.

    Args:
        feature_maps: by modality.

    Returns:
        the file's record, by name below ``export``.
    """
    tensors: dict[str, np.ndarray] = {}
    for modality, counts in zip(model.modalities, model.shares().cpu(), strict=True):
        dense_weight, dense_bias = model.projection(modality).dense()
        tensors |= {
            weight(modality): dense_weight.cpu().numpy(),
            bias(modality): dense_bias.cpu().numpy(),
            share(modality): counts.reshape(1).numpy(),
            standardization(modality): feature_maps[modality].standardization,
        }
        directions = feature_maps[modality].components
        if directions is not None:
            tensors[components(modality)] = directions
    content = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    return {NEW_ITEMS: (export / NEW_ITEMS).write_bytes(content)}
