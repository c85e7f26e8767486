"""Raw files of every layout, read piece by piece into the same few columns."""

from mmssl_dist.data.readers.base import FeatureSource, InteractionSource
from mmssl_dist.data.readers.open import Sources, open_sources

__all__ = ["FeatureSource", "InteractionSource", "Sources", "open_sources"]
