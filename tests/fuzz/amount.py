"""How many examples: those of the profile `fuzz` in a night, few in every run of the tests."""

from __future__ import annotations

from hypothesis import settings

_FEW, _SOME = 30, 200

amount = settings() if settings.default.max_examples > 1000 else settings(max_examples=_FEW)
of_layouts = settings() if settings.default.max_examples > 1000 else settings(max_examples=_SOME)
