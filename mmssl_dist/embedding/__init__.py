"""Vectors of raw content: texts and pictures of items through pretrained encoders, on Ray Data."""
