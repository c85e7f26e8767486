"""The first line of delimited text: what separates it, its encoding, and what is no such text."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers import delimited
from mmssl_dist.data.readers.delimited import header, text_blocks
from mmssl_dist.data.readers.last_block import last_block
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location


def _file(folder: Path, content: bytes, name: str = "log.csv") -> RawFile:
    path = folder / name
    path.write_bytes(content)
    return RawFile(location=open_location(str(path), Storage()), size=len(content), modified=None)


def _message(file: RawFile) -> str:
    with pytest.raises(InputError) as caught:
        list(text_blocks(file, header(file), ()))
    return str(caught.value).replace(file.name, "log.csv")


def _zipped() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return memory.getvalue()


@pytest.mark.parametrize(
    ("rows", "faulty"),
    [(["1;2;3;4;", "1;3;4;5"], "line 2: found"), (["1;2;3;4;", "1;3;4;5;", "2;3;4;5;"], "line 2: found")],
)
def test_rows_with_one_field_more_than_a_header_with_semicolons(
    tmp_path: Path, rows: list[str], faulty: str
) -> None:
    text = "\n".join(["user_id;item_id;timestamp;rating", *rows]) + "\n"
    file = _file(tmp_path, text.encode())
    assert header(file) == ["user_id", "item_id", "timestamp", "rating"]
    message = _message(file)
    assert faulty in message
    assert "Expected 4 columns, got 5" in message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_header_that_is_not_utf_8(tmp_path: Path, end: str) -> None:
    text = end.join(["Käufer;item_id", "1;2", ""])
    assert _message(_file(tmp_path, text.encode("cp1252"))) == (
        "log.csv, line 1: found the byte(s) e4; delimited text is UTF-8. Save the file again, in Excel as "
        "`CSV UTF-8`, or convert it: `iconv -f cp1252 -t utf-8 OLD > NEW`."
    )
    assert _message(_file(tmp_path, (end + text).encode("cp1252"))).startswith("log.csv, line 2: ")
    assert header(_file(tmp_path, text.encode())) == ["Käufer", "item_id"]
    # Values of columns that nobody reads may be anything.
    other = _file(tmp_path, "user_id,name\n1,Käufer\n".encode("cp1252"))
    assert [block["user_id"].to_pylist() for block in text_blocks(other, ["user_id"], ())] == [["1"]]


def test_a_letter_that_is_cut_off_is_no_fault(tmp_path: Path) -> None:
    start = b"user_id,item_id,note\n1,2,"
    content = start + b"x" * ((1 << 16) - len(start) - 1) + "ä\n".encode()
    assert header(_file(tmp_path, content)) == ["user_id", "item_id", "note"]


def test_spaces_around_names_are_no_part_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(tmp_path, b"user_id, item_id ,\trating\n1, 2, 3\n4, 5, 6\n")
    assert header(file) == ["user_id", "item_id", "rating"]
    (block,) = text_blocks(file, ["item_id", "user_id"], ())
    assert {name: column.to_pylist() for name, column in block.items()} == {
        "item_id": ["2", "5"],
        "user_id": ["1", "4"],
    }
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 32)
    file = _file(tmp_path, b"user_id, item_id\n" + b"".join(b"1, %d\n" % item for item in range(50)))
    start = last_block(file)
    assert start
    values = [
        text for block in text_blocks(file, ["item_id"], (), start) for text in block["item_id"].to_pylist()
    ]
    assert values[-1] == "49"
    assert len(values) < 50


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=,"])
def test_excels_line_with_the_delimiter(tmp_path: Path, line: str) -> None:
    delimiter = line.strip('"')[-1]
    rows = [delimiter.join(row) for row in (("user_id", "item_id"), ("1", "2"))]
    message = _message(_file(tmp_path, "\r\n".join([line, *rows, ""]).encode()))
    assert message.startswith("log.csv, line 1: found ")
    assert line.strip('"').rstrip(",") in message
    assert "Delete this line, which only Excel needs" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"user_id,item_id\n1,2\n"), "found gzip-compressed data; a file of this name is"),
        (_zipped(), "found an Excel workbook or a ZIP archive; a file of this name is delimited text"),
    ],
    ids=["gzip", "zip"],  # not by content, which tells the time
)
def test_content_that_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    assert _message(_file(tmp_path, content)).startswith(f"log.csv: {message}")
    assert header(_file(tmp_path, gzip.compress(b"a,b\n"), "log.csv.gz")) == ["a", "b"]
