"""Raw files of every layout, read piece by piece into the same few columns."""

from mmssl_dist.data.readers.base import FeatureSource, InteractionSource
from mmssl_dist.data.readers.open import open_features, open_interactions

__all__ = ["FeatureSource", "InteractionSource", "open_features", "open_interactions"]
