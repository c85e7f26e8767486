"""Names of what the export artifact holds, written once for the writers and for those that read a run."""

from __future__ import annotations

RECOMMENDATIONS = "recommendations"
USER_EMBEDDINGS = "user_embeddings"
ITEM_EMBEDDINGS = "item_embeddings"
ITEMS = "items"
SCORES = "scores"
USER_ROWS = "users"
ITEM_ROWS = "items"
LAYERS = "layers"
SIMILAR = "similar"
OWN = "own"
NEW_ITEMS = "new_items.safetensors"
"""What a new item's row is computed with, beside the rows of fold_in/."""
INDEX = "index/items.faiss"
"""The FAISS index; its number of an item is the item's place in item_embeddings, file by file."""


def parquet_file(folder: str, part: int) -> str:
    """A partition's file of one table."""
    return f"{folder}/part-{part:05d}.parquet"


def embeddings_file(part: int) -> str:
    """A partition's rows of users and items, without ids."""
    return f"safetensors/part-{part:05d}.safetensors"


def fold_in_file(part: int) -> str:
    """A partition's rows of items that a new user's row is summed from."""
    return f"fold_in/part-{part:05d}.safetensors"


def weight(modality: str) -> str:
    """Tensor [D, F] of a modality's projection in the new items' file."""
    return f"weight/{modality}"


def bias(modality: str) -> str:
    """Tensor [D] of a modality's projection in the new items' file."""
    return f"bias/{modality}"


def standardization(modality: str) -> str:
    """Tensor [2, F] in the new items' file: what raw features are less, and what the rest is multiplied
    with."""
    return f"standardization/{modality}"


def components(modality: str) -> str:
    """Tensor [F, k] in the new items' file: the directions that standardized features are reduced to; none
    where they keep all dimensions."""
    return f"components/{modality}"


def share(modality: str) -> str:
    """Tensor [1] in the new items' file: what a modality counts in the row over the item-item graph."""
    return f"share/{modality}"


def tower(modality: str) -> str:
    """Tensor of a modality's tower rows in a fold-in file."""
    return f"tower/{modality}"
