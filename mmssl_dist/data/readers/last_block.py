"""Where the last block of delimited text begins, so that its rows can be read without those before them.

A quoted value may have lines of its own, so not every line end is a row's. From a line end on there are two
ways to read the text: outside quotes, or within. Either one of them breaks the rules of quotes before the
file ends, or both agree from some row on.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers import delimited
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.dialect import quoting_of
from mmssl_dist.data.readers.json_lines import is_json_lines
from mmssl_dist.data.readers.quotes import CheckedQuotes, QuoteState
from mmssl_dist.errors import InputError

READ_THROUGH_BYTES = 1 << 28
"""Compressed files of so many bytes in all are read through for the sake of their last blocks."""

_THREADS = 8
_KEPT_BLOCKS = 3  # no row that Arrow takes is as long
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class LastBlocks:
    """Where the last blocks of files begin.

    Attributes:
        starts: by file, as ``last_block`` gives it.
        left_out: compressed files that are beyond ``READ_THROUGH_BYTES``.
    """

    starts: tuple[int | None, ...]
    left_out: int

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The last block of each file that has one beside its first."""
        return tuple(Piece(number, first=start) for number, start in enumerate(self.starts) if start)


def last_blocks(files: Sequence[RawFile]) -> LastBlocks:
    """Where the last blocks of ``files`` begin; raises as ``last_block``."""
    is_read, compressed = [], 0
    for file in files:
        if file.location.path.endswith(delimited.COMPRESSED_SUFFIXES):
            compressed += file.size
            is_read.append(compressed <= READ_THROUGH_BYTES)
        else:
            is_read.append(True)
    with ThreadPoolExecutor(_THREADS) as pool:
        starts = pool.map(lambda file, look: last_block(file) if look else None, files, is_read)
        return LastBlocks(tuple(starts), is_read.count(False))


def last_block(file: RawFile) -> int | None:
    """The byte of a file's text at which a row begins, with about a block of rows up to the end; None where
    the first block is the whole text.

    Compressed text is read through, for which no more than a few blocks are held.

    Raises:
        InputError: quotes do not pair up, or a row is longer than a block.
    """
    if is_json_lines(file.location.path):
        return _last_lines(file)
    size, compressed = delimited.BLOCK_BYTES, file.location.path.endswith(delimited.COMPRESSED_SUFFIXES)
    if not compressed and file.size <= size:
        return None
    delimiter = delimited.header_line(file).delimiter
    if compressed or file.size <= 2 * size:  # its last block would begin in its first, perhaps in the header
        return _by_reading(file, delimiter)
    try:
        with file.location.filesystem.open_input_file(file.location.path) as stream:
            text = bytes(stream.read_at(size, file.size - size))
    except (pa.ArrowException, OSError) as error:
        raise delimited.not_text(file, error) from error
    first = _LINE_END.search(text)
    if first is None:
        return _by_reading(file, delimiter)
    start, text = file.size - len(text) + first.end(), text[first.end() :]
    readings = [
        state for state in (QuoteState.START, QuoteState.QUOTED) if _holds(file, text, state, delimiter)
    ]
    if readings == [QuoteState.START]:
        return start
    offset = _first_row(file, text, readings, delimiter) if readings else None
    return _by_reading(file, delimiter) if offset is None else start + offset


def _last_lines(file: RawFile) -> int | None:
    """``last_block`` of JSON lines, where every line end is a row's."""
    size, path = delimited.BLOCK_BYTES, file.location.path
    try:
        if not path.endswith(delimited.COMPRESSED_SUFFIXES):
            if file.size <= size:
                return None
            with file.location.filesystem.open_input_file(path) as stream:
                before = file.size - size
                end = bytes(stream.read_at(size, before)).find(b"\n") + 1
            return before + end if 0 < end < size else None
        starts, before = [0, 0], 0
        with file.location.filesystem.open_input_stream(path) as stream:
            while block := bytes(stream.read(size)):
                starts = [starts[1], before + block.find(b"\n") + 1]
                before += len(block)
    except (pa.ArrowException, OSError) as error:
        raise delimited.not_text(file, error) from error
    # Of the last block but one: the last may be a few bytes
    return starts[0] or None


def _by_reading(file: RawFile, delimiter: str) -> int | None:
    """``last_block`` by way of the whole text, which shows what is quoted at its end."""
    blocks: list[tuple[QuoteState, bytes]] = []
    end = 0
    try:
        with file.location.filesystem.open_input_stream(file.location.path) as stream:
            checked = delimited.checked_stream(stream, file, delimiter)
            state = QuoteState.START
            while block := bytes(checked.read(delimited.BLOCK_BYTES)):
                blocks = [*blocks[1 - _KEPT_BLOCKS :], (state, block)]
                end += len(block)
                state = checked.state if isinstance(checked, CheckedQuotes) else QuoteState.START
    except (pa.ArrowException, OSError) as error:
        raise delimited.not_text(file, error) from error
    if end <= delimited.BLOCK_BYTES:
        return None
    # The last block may be a few bytes, so the one before is looked at too, unless it is the first
    only_two = end <= 2 * delimited.BLOCK_BYTES
    for kept in range(1 if only_two else 2, len(blocks) + 1):
        text = b"".join(block for _, block in blocks[-kept:])
        offset = _first_row(file, text, [blocks[-kept][0]], delimiter, begins=len(text) == end)
        if offset is not None:
            return end - len(text) + offset
    raise delimited.too_long(file)


def _holds(file: RawFile, text: bytes, state: QuoteState, delimiter: str) -> bool:
    """Whether quotes pair up in ``text``, with which a file ends, if it begins in ``state``."""
    if quoting_of(file.location.path) == csv.QUOTE_NONE:
        return state is QuoteState.START
    checked = _checked(file, text, state, delimiter)
    try:
        while checked.read(len(text) + 1):
            pass
    except InputError:
        return False
    return True


def _first_row(
    file: RawFile, text: bytes, readings: Sequence[QuoteState], delimiter: str, begins: bool = False
) -> int | None:
    """Where the first row after a line end of ``text`` begins, whichever of ``readings`` is the state at its
    first byte; None where there is none. A text that ``begins`` its file has the header first, perhaps after
    blank lines."""
    quoted = quoting_of(file.location.path) != csv.QUOTE_NONE
    checks = [_checked(file, text, state, delimiter) for state in readings] if quoted else []
    position = 0
    for match in _LINE_END.finditer(text):
        length, position = match.end() - position, match.end()
        for checked in checks:
            checked.read(length)
        if begins and not text[:position].removeprefix(codecs.BOM_UTF8).strip():
            continue
        if position < len(text) and all(checked.state is QuoteState.START for checked in checks):
            return position
    return None


def _checked(file: RawFile, text: bytes, state: QuoteState, delimiter: str) -> CheckedQuotes:
    return CheckedQuotes(io.BytesIO(text), file.name, delimiter, state)
