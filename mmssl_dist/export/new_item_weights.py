"""The dense weights that the row of an item training never saw is computed with, and how features are
standardized."""

# D embedding, F features

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors.numpy
import torch

from mmssl_dist.model import Mmssl
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.storage.export_names import NEW_ITEMS, bias, share, standardization, weight


@torch.no_grad()
def write_new_items(
    export: Location, model: Mmssl, standardizations: Mapping[str, np.ndarray]
) -> dict[str, FileRecord]:
    """Write ``new_items.safetensors``: of each modality its projection, its share and its standardization.

    Args:
        standardizations: modality -> [2, F] float64.

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
            standardization(modality): standardizations[modality],
        }
    content = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    return {NEW_ITEMS: (export / NEW_ITEMS).write_bytes(content)}
