"""Titles of items, for people who look at lists: read when they are shown, and for these items alone."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from mmssl_dist.config.data_sections import Data
from mmssl_dist.data.files import PARQUET_SUFFIXES, RawFile
from mmssl_dist.data.readers.base import unreadable
from mmssl_dist.errors import InputError

TITLE = "title"
_RULE = "it must be readable Parquet, or CSV as UTF-8 text"


def check_titles(data: Data, files: Iterable[RawFile]) -> None:
    """Look at the columns of the files of titles.

    Raises:
        InputError: a file cannot be read, or has no column with ids or none with titles.
    """
    for file in files:
        _open(data, file)


def read_titles(data: Data, files: Iterable[RawFile], items: Iterable[object]) -> dict[str, str]:
    """The titles of some items, by the text of their id; of items named twice the last, of those without a
    title none.

    Raises:
        InputError: as ``check_titles`` does.
    """
    item, wanted = data.columns.item, pa.array(sorted({str(each) for each in items}), pa.string())
    found: dict[str, str] = {}
    for file in files:
        opened = _open(data, file)
        ids = pc.field(item).cast(pa.string())
        try:
            table = opened.to_table([item, TITLE], filter=ids.isin(wanted) & pc.field(TITLE).is_valid())
            pairs = table[item].cast(pa.string()).to_pylist(), table[TITLE].cast(pa.string()).to_pylist()
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise unreadable(file, error, _RULE, "Mend the file.") from error
        found |= dict(zip(*pairs, strict=True))
    return found


def _open(data: Data, file: RawFile) -> pads.Dataset:
    item, path = data.columns.item, file.location.path
    # ids in text stay text, or 007 would be 7
    text = pads.CsvFileFormat(
        parse_options=pa.csv.ParseOptions(delimiter="\t" if ".tsv" in path else ","),
        convert_options=pa.csv.ConvertOptions(column_types={item: pa.string(), TITLE: pa.string()}),
    )
    try:
        opened = pads.dataset(
            path,
            filesystem=file.location.filesystem,
            format="parquet" if path.endswith(PARQUET_SUFFIXES) else text,
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(file, error, _RULE, "Mend the file.") from error
    for name in (item, TITLE):
        if name not in opened.schema.names:
            raise InputError(
                file.name,
                f"columns {', '.join(opened.schema.names)}",
                f"a column {name} is needed",
                "Rename one; data.columns.item names the one with ids.",
            )
    return opened
