"""What a training step computes before its losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mmssl_dist.model import SeedRows


@dataclass(frozen=True)
class CandidateRows:
    """Rows of the global batch's candidate items, which every worker sees whole.

    final [C, D]. similar_length [C, 1]: length of their rows over the item-item graph; None where no term
    asks. tower: modality -> [C, D], empty without a critic. plain_tower: the same without dropout and
    gradient, empty without learned lists.
    """

    final: Tensor
    similar_length: Tensor | None
    tower: Mapping[str, Tensor]
    plain_tower: Mapping[str, Tensor]


@dataclass(frozen=True)
class Contrasted:
    """Rows that the contrastive term compares: k kinds of rows of the same nodes, side by side.

    local [b, k D]: of this worker's nodes. everyone [B, k D]: of those of all workers. counts: [W] how many
    each of them has. kinds: k.
    """

    local: Tensor
    everyone: Tensor
    counts: tuple[int, ...]
    kinds: int


@dataclass(frozen=True, kw_only=True)
class Forward:
    """What a step computes before its losses.

    id_leaf [k, D]: rows this worker hands out, a leaf; id_rows: those it got, for the outermost sampled set;
    plain_tower: modality -> [|S_0|, D] before dropout; rows: the seeds' rows; candidates: None when none are
        drawn;
    contrasted: what the contrastive term sums over, nothing without it;
    fakes: per modality [Bu, C] generator rows for the critic (equation 8), none without a critic.
    """

    id_leaf: Tensor
    id_rows: Tensor
    plain_tower: Mapping[str, Tensor]
    rows: SeedRows
    candidates: CandidateRows | None
    contrasted: Sequence[Contrasted]
    fakes: Sequence[Tensor]
