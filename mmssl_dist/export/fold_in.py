"""Rows of items from which the rows of users and of items that training never saw are summed: the model's own
propagation, one at a time. For a user of the training graph they give the final row but for the share of the
user's own ID row."""

# m local items, D embedding, F features, L layers

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from mmssl_dist.evaluation.propagation import ExactRows
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.storage.export_names import LAYERS, OWN, SIMILAR, fold_in_file, tower


@dataclass(frozen=True)
class FoldInRows:
    """Rows of this worker's items, each [m, D] float32, on the host.

    Attributes:
        layers: the item's rows of all layers but the last, summed, over (L + 1) sqrt(degree). A user of n
            items with the rows' sum over sqrt(n) has the mean of layers 0..L but for its own layer 0.
        similar: rows over the item-item graph, whose mean over a user's items is the user's; None when it is
            off.
        own: ID rows, which a new item's row over the item-item graph is summed from; None when it is off.
        tower: modality -> projected features of the item itself, whose sum over a user's items has the
            direction of the user's tower row. None with model.feature_columns, where users have no tower
            rows.
    """

    layers: Tensor
    similar: Tensor | None
    own: Tensor | None
    tower: Mapping[str, Tensor]


@torch.no_grad()
def fold_in_rows(
    model: Mmssl, exact: ExactRows, graph: LocalGraph, features: Mapping[str, Iterable[np.ndarray]]
) -> FoldInRows:
    """The rows of ``graph``'s items.

    Args:
        features: modality -> [m_p, F + 1] features of the items of each partition held, as training saw them.
    """
    device = exact.final.device
    items = graph.items.to(device)
    degree = graph.training.degrees(graph.items).clamp(min=1).to(device)  # a new item's first user makes it 1
    layers = sum(
        (rows.index_select(0, items) for rows in exact.layers[:-1]), exact.final.new_zeros(len(items), 1)
    )
    # Equation 5's mean over L + 1 layers; the last is left out, since no user's row is one hop beyond it.
    layers = layers / (len(exact.layers) * degree.sqrt()[:, None])
    return FoldInRows(
        # Without layers the sum above is one column of zeros; the file has full rows for any model.
        layers=layers.expand(-1, exact.final.shape[1]).cpu(),
        similar=None if exact.similar is None else exact.similar.index_select(0, items).cpu(),
        # A new item's neighbours are found by features; its row over the item-item graph is a sum of ID rows.
        own=None if exact.similar is None else exact.own.index_select(0, items).cpu(),
        tower={}
        if model.settings.feature_columns
        else {m: _projected(model, m, parts, device) for m, parts in features.items()},
    )


def write_fold_in(export: Location, graph: LocalGraph, rows: FoldInRows) -> dict[str, FileRecord]:
    """Write `fold_in/part-XXXXX.safetensors` of each partition held, items in the order of its item
    embeddings.

    Returns:
        records of the files written, by name below ``export``.
    """
    tensors = {LAYERS: rows.layers} | {tower(m): tensor for m, tensor in rows.tower.items()}
    if rows.similar is not None and rows.own is not None:
        tensors |= {SIMILAR: rows.similar, OWN: rows.own}
    files, first = {}, 0
    for part in graph.parts:
        last = first + graph.book.items[part]
        content = safetensors.numpy.save(
            {name: np.ascontiguousarray(tensor[first:last].numpy()) for name, tensor in tensors.items()}
        )
        files[fold_in_file(part)] = (export / fold_in_file(part)).write_bytes(content)
        first = last
    return files


def _projected(model: Mmssl, modality: str, parts: Iterable[np.ndarray], device: torch.device) -> Tensor:
    """[m, D], in pieces, since F may be far wider than D."""
    pieces = (torch.from_numpy(np.array(part)) for part in parts)
    return torch.cat([model.project(modality, piece.to(device)).cpu() for piece in pieces])
