"""The last block of delimited text: rows begin where it says, whatever quoted values hold."""

from __future__ import annotations

import csv
import gzip
import io
import random

import pyarrow as pa
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers import delimited, last_block
from mmssl_dist.data.readers.line_numbers import line_of
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location

NOTES = ("plain", "", 'a "word"', "two\nlines", "2,105,blue\n3,106,red\n", '5" disc', "ends,", "\r\n,\n", '"')


def raw_file(path):
    return RawFile(location=open_location(str(path), Storage()), size=path.stat().st_size, modified=None)


def rows_from(path, start, delimiter=","):
    """The rows of the text from a byte on, by the csv module."""
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return list(csv.reader(io.StringIO(text[start:].decode(), newline=""), delimiter=delimiter))


def written(rng, rows, line_end, delimiter=","):
    text = io.StringIO(newline="")
    # The csv module quotes for the sake of its own line ends only
    quoting = csv.QUOTE_ALL if line_end == "\r" else rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting, delimiter=delimiter)
    writer.writerow(("user_id", "note", "item_id"))
    table = [(str(row), rng.choice(NOTES), str(row % 7)) for row in range(rows)]
    for row in table:
        writer.writerow(row)
    return text.getvalue().encode(), [list(row) for row in table]


@pytest.mark.parametrize("seed", range(60))
def test_a_row_begins_there(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    block = rng.choice((150, 300, 700))
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    delimiter = rng.choice(",;")
    text, table = written(rng, rng.randrange(120, 250), rng.choice(("\n", "\r\n", "\r")), delimiter)
    path = tmp_path / rng.choice(("log.csv", "log.csv.gz"))
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    start = last_block.last_block(raw_file(path))
    assert start is not None
    rows = rows_from(path, start, delimiter)
    assert rows == table[len(table) - len(rows) :]
    assert 0 < len(text) - start <= 3 * block
    first = len(table) - len(rows)
    assert line_of(raw_file(path), 2, start) == line_of(raw_file(path), first + 2)
    assert line_of(raw_file(path), 2 + len(rows) - 1, start) == line_of(raw_file(path), len(table) + 1)


def test_a_short_file_has_none(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n1,2\n")
    assert last_block.last_block(raw_file(path)) is None


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "head", ['"u,""x",i', '"u\nx",i', "\nu,i", "\n\r\n\ufeffu,i", "\ufeffu,i", '\ufeff"u",i']
)
@pytest.mark.parametrize("rows", [1, 12, 30, 60])
def test_a_header_is_no_row(tmp_path, monkeypatch, suffix, head, rows):
    """In text of few blocks, where the last begins near the first."""
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 100)
    path = tmp_path / f"log.csv{suffix}"
    text = (head + "\n" + "".join(f"{row},{row % 7}\n" for row in range(rows))).encode()
    path.write_bytes(gzip.compress(text) if suffix else text)
    start = last_block.last_block(raw_file(path))
    assert (start is None) == (len(text) <= 100)
    if start is not None:
        read = rows_from(path, start)
        assert read == [[str(row), str(row % 7)] for row in range(rows - len(read), rows)]


def test_values_that_end_in_a_quote_leave_no_doubt(tmp_path, monkeypatch):
    """Within every row both readings hold for a while."""
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
    path = tmp_path / "log.csv"
    path.write_text("user_id,size,item_id\n" + "".join(f'{row},5",{row}\n' for row in range(500)))
    start = last_block.last_block(raw_file(path))
    assert rows_from(path, start)[-1] == ["499", '5"', "499"]
    assert all(len(row) == 3 for row in rows_from(path, start))


def test_an_inter_file_knows_no_quotes(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
    path = tmp_path / "log.inter"
    lines = [f'"{row}\t{row}' for row in range(500)]
    path.write_text("\n".join(["user_id:token\titem_id:token", *lines, ""]))
    start = last_block.last_block(raw_file(path))
    last = path.read_bytes()[start:].decode().splitlines()
    assert 50 < len(last) < 200
    assert last == lines[-len(last) :]


def test_an_unclosed_quote_is_named_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
    path = tmp_path / "log.csv"
    lines = [f"{row},{row}" for row in range(500)]
    lines[490] = '490,"490'
    path.write_text("user_id,item_id\n" + "\n".join(lines))
    with pytest.raises(InputError, match=r"line 492: found a quote that is never closed"):
        last_block.last_block(raw_file(path))


def test_compressed_files_are_read_through_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
    files = []
    for number in range(3):
        path = tmp_path / f"{number}.csv.gz"
        path.write_bytes(gzip.compress(b"user_id,item_id\n" + b"1,2\n" * 1000))
        files.append(raw_file(path))
    monkeypatch.setattr(last_block, "READ_THROUGH_BYTES", 2 * files[0].size)
    last = last_block.last_blocks(files)
    assert last.left_out == 1
    assert [start is not None for start in last.starts] == [True, True, False]
    assert [piece.file for piece in last.pieces] == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", ["7", '7,"3\n4",5', "7,3,5"])
def test_a_row_of_another_shape_is_named_with_its_line(tmp_path, monkeypatch, threads, bad):
    """Below blank lines and quoted line ends, read from the header and from the last block."""
    before = pa.cpu_count()
    pa.set_cpu_count(threads)  # Arrow numbers rows with one thread alone
    try:
        monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
        path = tmp_path / "log.csv"
        head = '\nuser_id,note\n\n1,"two\nlines"\n\n'
        text = head + "".join(f"{row},plain\n\n" for row in range(500))
        path.write_text(text + bad + "\n8,last\n")
        wanted = rf"log\.csv, line {text.count(chr(10)) + 1}: found CSV parse error: Expected 2 columns, got"
        for start in (0, last_block.last_block(raw_file(path))):
            with pytest.raises(InputError, match=wanted):
                list(delimited.text_blocks(raw_file(path), ["user_id"], (), start))
    finally:
        pa.set_cpu_count(before)


def test_a_line_that_cannot_be_known_is_not_named(tmp_path):
    path = tmp_path / "log.csv"
    # The csv module takes no value as long.
    path.write_text("user_id,note\n1," + "x" * 200_000 + "\n2,b,c\n")
    with pytest.raises(InputError, match=r"log\.csv: found CSV parse error: Expected 2 columns, got 3"):
        list(delimited.text_blocks(raw_file(path), ["user_id"], ()))
