"""Tests; shared modules are imported as ``tests.<module>``."""
