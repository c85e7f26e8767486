"""Distributed training of multi-modal self-supervised recommenders (MMSSL, WWW 2023)."""

__version__ = "0.1.0"
