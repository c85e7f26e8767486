"""What a refusal has to be: one line that a terminal can show."""

from __future__ import annotations

from mmssl_dist.errors import InputError


def message(error: InputError) -> str:
    text = str(error)
    assert text.isprintable(), repr(text)
    return text
