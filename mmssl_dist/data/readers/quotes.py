"""Quotes in delimited text, checked while the text streams to Arrow.

Arrow takes text after a closing quote into the value. A quote that is never closed therefore swallows rows up
to the next quote of the file, without an error. RFC 4180 allows nothing but a delimiter or a line end after a
closing quote, and by that rule such a value shows.
"""

from __future__ import annotations

import codecs
import io
import re
from enum import Enum, auto
from typing import IO

import numpy as np
import pyarrow as pa

from mmssl_dist.errors import InputError

_QUOTE, _RETURN, _NEWLINE = b'"\r\n'
_LONGEST_EXCERPT = 20


class QuoteState(Enum):
    """Where in a value a block of text ends."""

    START = auto()
    UNQUOTED = auto()
    QUOTED = auto()
    CLOSED = auto()  # after a quote that closes, or is the first of two that stand for one


# Text that leads to a state: put before the next block, it spares a case for each state
_PREFIXES = {
    QuoteState.START: b"\n",
    QuoteState.UNQUOTED: b"x",
    QuoteState.QUOTED: b'"',
    QuoteState.CLOSED: b'""',
}


class CheckedQuotes(io.RawIOBase):
    """A stream that hands on delimited text as it is, and refuses quotes that do not pair up.

    A quote opens a value only where the value begins, as in Arrow and pandas: ``5" disc`` needs no quotes.
    ``read`` raises an InputError where text follows a closing quote, or the text ends within quotes; it names
    the line in which the quote was opened.
    """

    def __init__(
        self,
        stream: pa.NativeFile | IO[bytes],
        name: str,
        delimiter: str,
        state: QuoteState = QuoteState.START,
    ) -> None:
        self._stream, self._name = stream, name
        self.state = state  # after what has been read
        self._ends_value = np.zeros(256, bool)
        self._ends_value[[ord(delimiter), _RETURN, _NEWLINE]] = True
        self._opening = re.compile(b'[%b\r\n]"' % re.escape(delimiter.encode()))
        self._lines = 0  # ended before the block
        self._return_last = False
        self._opened_line = 0  # of the last quote that opened a value
        self._begun = False

    def readable(self) -> bool:
        """As ``io.RawIOBase``."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As ``io.RawIOBase``; see the class for what it raises."""
        block = bytes(self._stream.read(size))
        if block:
            self._check(block if self._begun else block.removeprefix(codecs.BOM_UTF8))
            self._begun = True
        elif self.state is QuoteState.QUOTED:
            raise self._error("a quote that is never closed")
        return block

    def _check(self, block: bytes) -> None:
        prefix = _PREFIXES[self.state]
        text = prefix + block
        if _QUOTE not in text:
            self.state = self._state_outside(text)
        elif not self._check_pairs(text, len(prefix)):
            self._check_values(text, len(prefix))
        self._lines += self._lines_between(text, len(prefix), len(text))
        self._return_last = block.endswith(b"\r")

    def _check_pairs(self, text: bytes, start: int) -> bool:
        """Whether every quote at an even place opens a value and the next one closes it.

        Nearly all files are so, and a few passes of NumPy show it. Updates the state if it is true.
        """
        letters = np.frombuffer(text, np.uint8)
        quotes = np.flatnonzero(letters == _QUOTE)
        # In well-formed text quotes alternate, so even ones open and odd ones close.
        opening, closing = quotes[::2], quotes[1::2]
        opening = opening[opening > 0]  # without the prefix's
        before = letters[opening - 1]
        after = letters[closing[closing < len(letters) - 1] + 1]
        # Two quotes within quotes stand for one: the first closes and the second opens
        if not (self._ends_value[before] | (before == _QUOTE)).all():
            return False
        if not (self._ends_value[after] | (after == _QUOTE)).all():
            return False
        first = opening[self._ends_value[before]]
        self._note_opened(text, start, int(first[-1]) if len(first) else -1)
        if len(quotes) % 2:
            self.state = QuoteState.QUOTED
        else:
            self.state = QuoteState.CLOSED if letters[-1] == _QUOTE else self._state_outside(text)
        return True

    def _check_values(self, text: bytes, start: int) -> None:
        """Go from quote to quote: some stand within values that are not quoted, or one is wrong."""
        at, state, opened = 0, QuoteState.START, -1
        if text[0] == _QUOTE:
            at, state = 1, QuoteState.QUOTED
        while at < len(text):
            if state is QuoteState.QUOTED:
                end = text.find(b'"', at)
                if end < 0:
                    break
                at, state = end + 1, QuoteState.CLOSED
            elif state is QuoteState.CLOSED and text[at] == _QUOTE:
                at, state = at + 1, QuoteState.QUOTED
            elif state is QuoteState.CLOSED and not self._ends_value[text[at]]:
                self._note_opened(text, start, opened)
                line = self._line_at(text, start, at)
                excerpt = text[at : at + _LONGEST_EXCERPT].decode(errors="replace").splitlines()[0]
                raise self._error(f"a quote that closes in line {line}, before {excerpt!r}")
            else:
                match = self._opening.search(text, at)
                if match is None:
                    state = self._state_outside(text)
                    break
                at, state = match.end(), QuoteState.QUOTED
                opened = at - 1  # its line is counted once, at the end
        self.state = state
        self._note_opened(text, start, opened)

    def _note_opened(self, text: bytes, start: int, opened: int) -> None:
        if opened >= 0:
            self._opened_line = self._line_at(text, start, opened)

    def _state_outside(self, text: bytes) -> QuoteState:
        return QuoteState.START if self._ends_value[text[-1]] else QuoteState.UNQUOTED

    def _line_at(self, text: bytes, start: int, at: int) -> int:
        return 1 + self._lines + self._lines_between(text, start, at)

    def _lines_between(self, text: bytes, start: int, at: int) -> int:
        """The lines that end in ``text[start:at]``, by \\n, \\r or both."""
        ends = text.count(b"\n", start, at) + text.count(b"\r", start, at) - text.count(b"\r\n", start, at)
        # Of \r\n, the block before may have the first and this one the second
        return ends - (self._return_last and at > start and text[start] == _NEWLINE)

    def _error(self, value: str) -> InputError:
        return InputError(
            f"{self._name}, line {self._opened_line}",
            value,
            "a quoted value ends with a quote before the delimiter or the end of the line",
            "Close the quote; write a quote within a quoted value twice.",
        )
