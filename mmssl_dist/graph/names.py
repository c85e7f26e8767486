"""Names of the files of the partitions artifact, written once for the writer and the reader."""

from __future__ import annotations

KIND = "partitions"
FORMAT = 6  # since 6: cuts, sums and the item-item graph are the same for any number of workers
USER_IDS = "user_ids.parquet"
ITEM_IDS = "item_ids.parquet"
INDPTR = "indptr.npy"
NEIGHBOURS = "neighbours.npy"
WEIGHT = "weight.npy"
GRAPH = "graph"


def part_folder(part: int) -> str:
    """Folder of one partition."""
    return f"part-{part:05d}"


def modality_step(modality: str) -> str:
    """The step of ``partition`` that publishes a modality; that of lists and ids is ``GRAPH``."""
    return f"modality-{modality}"


def held_out(split: str) -> tuple[str, str]:
    """Files with row starts and item node ids of a held-out split."""
    return f"{split}_indptr.npy", f"{split}_items.npy"


def similar(modality: str) -> tuple[str, str, str]:
    """Files with row starts, node ids and weights of a modality's item-item graph."""
    return f"similar_{modality}_indptr.npy", f"similar_{modality}_items.npy", f"similar_{modality}_weight.npy"


def features(modality: str) -> str:
    """File with a modality's features of the items as training saw them, [items, F + 1], the last column the
    bias's."""
    return f"features_{modality}.npy"


def standardization(modality: str) -> str:
    """File with what a modality's raw features are standardized by: [2, F] float64, subtracted and multiplied
    with."""
    return f"standardization_{modality}.npy"


def components(modality: str) -> str:
    """File with the directions that a modality's standardized features are reduced to: [F, k] float64; none
    where they keep all dimensions."""
    return f"components_{modality}.npy"


def propagated(modality: str) -> str:
    """File with the propagated rows of a modality."""
    return f"propagated_{modality}.npy"
