"""Quotes that do not pair up are refused, wherever blocks are cut; what RFC 4180 allows is read."""

from __future__ import annotations

import csv
import gzip
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers.open import open_sources
from mmssl_dist.data.readers.quotes import CheckedQuotes
from mmssl_dist.data.titles import read_titles
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table, write_text

HEADER = "user_id,item_id,note"


def check(text: str, block: int = 1 << 20, delimiter: str = ",") -> bytes:
    """What comes through a checked stream that is read ``block`` bytes at a time."""
    stream = CheckedQuotes(pa.BufferReader(text.encode()), "log.csv", delimiter)
    return b"".join(iter(lambda: stream.read(block), b""))


def message(text: str, block: int = 1 << 20) -> str:
    with pytest.raises(InputError) as caught:
        check(text, block)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "image.parquet", item_id=[1, 2, 3, 4], vector=vectors([[1, 2]] * 4))
    return tmp_path


def interactions(folder, name="log.csv"):
    job = raw_job(folder, interactions=name)
    source = open_sources(job.data, find_files(job)).interactions
    tables = [table for piece in source.pieces for table in source.read(piece)]
    return pa.concat_tables(tables).to_pydict()


SWALLOWING = ['1,1,"unclosed', "1,2,plain", '2,3,"quoted"', "2,4,plain"]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 20])
def test_a_quote_that_swallows_rows_up_to_the_next_one(block):
    assert message("\n".join([HEADER, *SWALLOWING]), block).startswith(
        "log.csv, line 2: found a quote that closes in line 4, before 'q"
    )


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_that_is_never_closed(block, end):
    text = end.join([HEADER, "1,1,plain", '1,2,"two', 'lines"', '2,3,"open ""once"" and', "2,4,plain", ""])
    assert message(text, block) == (
        "log.csv, line 5: found a quote that is never closed; a quoted value ends with a quote before the "
        "delimiter or the end of the line. Close the quote; write a quote within a quoted value twice."
    )


@pytest.mark.parametrize(
    "line", ['"a"b,1', 'x,"a" ,1', 'x,""a,1', 'x,"5" disc",1', '"a\nb"c,"d"', 'x,5" disc,"a"b']
)
@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_text_after_a_closing_quote(line, block):
    assert "log.csv, line 2: found a quote that closes in line" in message(f"{HEADER}\n{line}\n", block)


@pytest.mark.parametrize(
    "line", ['x,5" disc,1', 'x,a"b"c,"d,e"', 'x,"",""', 'x,"""a""","b\r\n\n"', '"x","1"']
)
@pytest.mark.parametrize("block", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_what_is_legal_passes_as_it_is(line, block, end):
    text = f"{HEADER}\n{line}{end}"
    assert check(text, block) == text.encode()


def test_a_byte_order_mark_does_not_hide_a_quote():
    assert check('\ufeff"user_id","item_id"\n"1","2"\n', 4).startswith(b"\xef\xbb\xbf")
    assert "line 1: found a quote that closes in line 1" in message('\ufeff"user_id"x,"item_id"\n')


@given(
    st.lists(st.lists(st.text(alphabet='ab,"\n\r\t '), min_size=2, max_size=3), min_size=1),
    st.integers(1, 9),
    st.sampled_from(",\t"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_all_that_a_csv_writer_writes_passes(rows, block, delimiter, quoting):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows(rows)
    assert check(text.getvalue(), block, delimiter) == text.getvalue().encode()


@given(st.text(alphabet='a,"\n', max_size=30), st.integers(1, 9))
def test_the_place_where_blocks_are_cut_does_not_matter(text, block):
    def outcome(size: int) -> str:
        try:
            return check(text, size).decode()
        except InputError as error:
            return str(error).split(", before")[0]  # an excerpt ends with its block

    assert outcome(block) == outcome(1 << 20)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz"])
def test_interactions_are_refused(folder, name):
    lines = [line.replace(",", "\t" if ".tsv" in name else ",") for line in [HEADER, *SWALLOWING]]
    path = write_text(folder, name, lines)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=f"{name}, line 2: found a quote that closes in line 4"):
        interactions(folder, name)


def test_interactions_with_quoted_lines_are_read(folder):
    write_text(folder, "log.csv", [HEADER, '1,1,"two', '9,9,lines"', '"2",2,5" disc', '3,"3","a ""b"""'])
    read = interactions(folder)
    assert (read["user_id"], read["item_id"]) == ([1, 2, 3], [1, 2, 3])


def test_an_inter_file_knows_no_quotes(folder):
    write_text(folder, "a.inter", ["user_id:token\titem_id:token\tnote:token", '1\t1\t"open', "2\t2\tx"])
    job = raw_job(folder, layout="inter")
    source = open_sources(job.data, find_files(job)).interactions
    assert sum(table.num_rows for piece in source.pieces for table in source.read(piece)) == 2


def test_titles_are_refused(folder):
    write_table(folder, "interactions.parquet", user_id=[1], item_id=[1])
    write_text(folder, "titles.csv", ["item_id,title", '1,"open', '2,"two"'])
    job = raw_job(folder, titles="titles.csv")
    with pytest.raises(InputError, match=r"titles\.csv, line 2: found a quote that closes in line 3"):
        read_titles(job.data, find_files(job).titles, [1, 2])
