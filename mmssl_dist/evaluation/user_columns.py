"""Names in the files of users' metrics; without torch, which who reads those files has no other use for."""

from __future__ import annotations

USERS = "users"
"""Folder of the files."""
WHO = "who"
"""Who ranked: ``MODEL`` or ``POPULARITY``."""
POSITIVES = "positives"
"""How many of a user's items are held out in the split, int32."""
MODEL, POPULARITY = "model", "popularity"
