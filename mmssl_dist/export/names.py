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


def tower(modality: str) -> str:
    """Tensor of a modality's tower rows in a fold-in file."""
    return f"tower/{modality}"
