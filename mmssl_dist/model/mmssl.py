"""MMSSL's generator (reference equations 1 to 5) on sampled blocks. A plain module: ID rows and propagated
modality rows come in, nothing about where they live is known. Sums and norms are float32 even where weights
are bf16."""

# M modalities, D embedding, F features of a modality, L
# layers; S_{L+1}, S_L, ..., S_0: node sets of SampledGraph

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mmssl_dist.config import model_sections
from mmssl_dist.model.attention import CrossModalAttention
from mmssl_dist.model.row_functions import normalize
from mmssl_dist.sampling.block import SampledGraph, aggregate, aggregate_and_pick


@dataclass(frozen=True, kw_only=True)
class SeedRows:
    """The seeds' rows, all [|S_0|, D] float32.

    final: what is ranked with. tower: per modality, as given to ``forward``. views: per modality, the rows g
        over the
    modality graph; empty when it is off. similar: rows over the item-item graph; None when it is off. own:
    the ID rows; None when the propagation starts from others (equation 4). layers: of the propagation, L + 1.
    similar_items: per modality, the items' sums over the item-item graph [|T|, D], before they are added up.
    """

    final: Tensor
    tower: Mapping[str, Tensor]
    views: Mapping[str, Tensor]
    similar: Tensor | None
    own: Tensor | None
    layers: Sequence[Tensor]
    similar_items: Mapping[str, Tensor]


class Projection(nn.Module):
    """One modality's linear map F -> D, applied to propagated features whose last column carries the bias.

    columns: the last of the D that are not zero.
    """

    def __init__(self, dimension: int, columns: int, features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.zeros = dimension - columns
        self.weight = nn.Parameter(
            nn.init.xavier_uniform_(torch.empty(columns, features), generator=generator)
        )
        bound = features**-0.5
        self.bias = nn.Parameter(nn.init.uniform_(torch.empty(columns), -bound, bound, generator=generator))

    def forward(self, propagated: Tensor) -> Tensor:
        """[n, F + 1] -> [n, D] float32."""
        cast = propagated.to(self.weight.dtype)
        # The last column is 1 propagated as the features were: the bias arrives with the same degree weights.
        rows = torch.addmm(cast[:, -1:] * self.bias, cast[:, :-1], self.weight.T).float()
        return nn.functional.pad(rows, (self.zeros, 0)) if self.zeros else rows

    @torch.no_grad()
    def dense(self) -> tuple[Tensor, Tensor]:
        """Weight [D, F] and bias [D] float32 of the map to all columns."""
        weight, bias = self.weight.float(), self.bias.float()
        return nn.functional.pad(weight, (0, 0, self.zeros, 0)), nn.functional.pad(bias, (self.zeros, 0))


class Mmssl(nn.Module):
    """The dense weights of MMSSL and how rows are made with them.

    settings: the job's ``model``. dimensions: modality -> F. seed: the initial weights depend on it alone.
    When ``settings.modality_graph.size`` is 0 there is no attention and it has no weights.
    """

    def __init__(self, settings: model_sections.Model, dimensions: Mapping[str, int], seed: int) -> None:
        super().__init__()
        self.settings = settings
        # Sorted, so that weights and draws do not depend on the order of modalities in the YAML.
        self.modalities = tuple(sorted(dimensions))
        generator = torch.Generator().manual_seed(seed)
        columns = settings.feature_columns or settings.dimension
        self.projections = nn.ModuleDict(
            {
                _key(m): Projection(settings.dimension, columns, dimensions[m], generator)
                for m in self.modalities
            }
        )
        self.attention: CrossModalAttention | None = None
        if settings.modality_graph.size > 0:
            self.attention = CrossModalAttention(
                settings.dimension, settings.heads, len(self.modalities), generator
            )

        self.item_shares: nn.Parameter | None = None
        if settings.item_graph.weight > 0 and settings.item_graph.learned:
            self.item_shares = nn.Parameter(torch.zeros(len(self.modalities)))

    def forward(self, id_rows: Tensor, tower: Mapping[str, Tensor], graph: SampledGraph) -> SeedRows:
        """Equations 2 to 5. id_rows [|S_{L+1}|, D]; tower: per modality [|S_0|, D], dropout already
        applied."""
        views = self.views(id_rows, graph)
        # Without views the outermost set is S_L itself; a copy of its rows would be a step's largest tensor.
        own = id_rows.index_select(0, graph.start_keep) if views else id_rows
        rows = self.start_rows(own, views)  # [|S_L|, D]
        layers = []
        for block, positions in zip(graph.layers, _seeds_within(graph), strict=True):
            rows, seeds = aggregate_and_pick(block, rows, positions)
            layers.append(seeds)
        # Rows of the seeds alone are kept of each layer: equation 5's mean is only ever taken of them.
        layers.append(rows)  # of S_0, all of them
        items: dict[str, Tensor] = {}
        similar: Tensor | None = None
        if graph.similar is not None:
            items = {m: aggregate(block, id_rows) for m, block in graph.similar.lists.items()}
            similar = aggregate(graph.similar.gather, self.similar(items))
        return SeedRows(
            final=self.combine(layers, tower, similar),
            tower=tower,
            similar=similar,
            own=None if views else layers[0],
            views={m: rows.index_select(0, graph.seeds) for m, rows in views.items()},
            layers=layers,
            similar_items=items,
        )

    def project(self, modality: str, propagated: Tensor) -> Tensor:
        """Equation 1: a modality's propagated features [n, F + 1] -> tower rows [n, D] float32."""
        rows: Tensor = self.projection(modality)(propagated)
        return rows

    def projection(self, modality: str) -> Projection:
        """A modality's linear map."""
        return cast(Projection, self.projections[_key(modality)])

    def projection_weight(self, modality: str) -> str:
        """Name of the parameter [columns, F] that a modality's features are multiplied with."""
        return f"projections.{_key(modality)}.weight"

    def views(self, id_rows: Tensor, graph: SampledGraph) -> dict[str, Tensor]:
        """Equation 2: per modality, ID rows [|S_{L+1}|, D] summed over the modality graph -> [|S_L|, D]."""
        return {m: aggregate(block, id_rows) for m, block in graph.views.items()}

    def attend(self, views: Mapping[str, Tensor]) -> Tensor:
        """Equation 3: per modality [n, D], every modality of the model -> [n, D]."""
        if self.attention is None:
            raise ValueError("attention is off: model.modality_graph.size is 0")
        mixed: Tensor = self.attention([views[m] for m in self.modalities])
        return mixed

    def start_rows(self, own: Tensor, views: Mapping[str, Tensor]) -> Tensor:
        """Equation 4: own ID rows [n, D] plus the attended views; without views the ID rows themselves."""
        if not views:
            return own
        return own + self.settings.id_weight * normalize(self.attend(views))

    def similar(self, gathered: Mapping[str, Tensor]) -> Tensor:
        """Rows of items over the item-item graph: per modality the ID rows of similar items summed, [n, D] ->
        [n, D].

        The modalities' sums are added up, each by its share, and brought to unit length; an item without the
        features of one modality goes by the others.
        """
        rows = torch.stack([gathered[m] for m in self.modalities])  # [M, n, D]
        return normalize((rows * self.shares()[:, None, None]).sum(0))

    def shares(self) -> Tensor:
        """[M] float32: what each modality's sum over the item-item graph counts, in the order of
        ``modalities``."""
        if self.item_shares is None:
            # Equal shares count as 1 each and not 1 / M: the sum is brought to unit length anyway.
            return torch.ones(len(self.modalities), device=next(self.parameters()).device)
        return self.item_shares.float().softmax(0)

    def combine(
        self, layers: Sequence[Tensor], tower: Mapping[str, Tensor], similar: Tensor | None = None
    ) -> Tensor:
        """Equation 5, end: the mean of L + 1 layers' rows [n, D], plus the weighted unit tower rows and the
        weighted rows over the item-item graph -> [n, D]. With feature columns tower rows count as they are,
        since their lengths mean something there."""
        final = torch.stack(tuple(layers)).mean(0)
        if similar is not None:
            final = final + self.settings.item_graph.weight * similar
        for m in self.modalities:
            rows = tower[m] if self.settings.feature_columns else normalize(tower[m])
            final = final + self.settings.modality_weight * rows
        return final


def _seeds_within(graph: SampledGraph) -> list[Tensor]:
    """Positions of S_0 in S_L, ..., S_1, one per layer."""
    positions: list[Tensor] = []
    for block in reversed(graph.layers):
        positions.insert(0, block.keep.index_select(0, positions[0]) if positions else block.keep)
    return positions


def _key(modality: str) -> str:
    """Name of a modality's projection: prefixed, since a module may not be called "type" or "keys"."""
    return f"modality_{modality}"
