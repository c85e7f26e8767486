"""What the first rows of a raw table say beside its types: values of a column, and how tags are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Columns
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.ids import plain_values
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.delimited import text_blocks
from mmssl_dist.data.readers.parquet import BATCH_ROWS, batches, read_footers
from mmssl_dist.data.readers.tabular import is_comma_number, is_listed, listed_tags
from mmssl_dist.data.readers.text import raw_names
from mmssl_dist.datasets.inventory import RawTable

_SEPARATORS = "|;,"
"""Between tags, rarest in other text first: where several are as frequent, the first is meant."""

_ROWS = 100_000  # and up to the end of a block
_CATEGORIES = 200  # at most, of a column
_ROWS_OF_CATEGORY = 3  # at least, on average
_CATEGORY_LETTERS = 60  # at most: longer texts describe an item
_NO_CATEGORY = re.compile(r".*[|;].*|\W*\d+([.,]\d+)*\W*", re.DOTALL)  # tags, or a number such as 19,99


def first_values(table: RawTable, file: RawFile, column: str) -> Iterator[pa.Array]:
    """Values of ``column`` in the first rows of a file of ``table``; of text files all are texts.

    Raises:
        InputError: they cannot be read.
    """
    if table.is_parquet:
        (footer,) = read_footers([file])
        if footer.group_rows:
            yield from (batch[column] for batch in batches(file, Piece(0, 0, 1), [column], BATCH_ROWS))
        return
    written = raw_names(file, {column: column})[column]
    block = next(text_blocks(file, [written], Columns().null_values), {})
    if written in block:
        yield block[written]


def tag_separator(table: RawTable, column: str) -> str | None:
    """What stands between the tags of a column of texts: the character that most of the first rows have, ""
    where none has one; None where a text is a list that cannot be read as tags.

    Raises:
        InputError: the column cannot be read.
    """
    rows: Counter[str] = Counter()
    for values in first_values(table, table.files[0], column):
        for text in pc.unique(values.cast(pa.large_string())).drop_null().to_pylist():
            if is_listed(text):
                try:
                    listed_tags(text)
                except ValueError:
                    return None
            else:
                rows.update(separator for separator in _SEPARATORS if separator in text)
    return max(_SEPARATORS, key=lambda separator: rows[separator]) if rows else ""


@dataclass(frozen=True)
class FirstValues:
    """Values of a column in the first rows, as texts.

    Attributes:
        rows: that have a value.
        distinct: the values.
    """

    rows: int
    distinct: tuple[str, ...]

    @classmethod
    def of(cls, table: RawTable, column: str) -> FirstValues:
        """Those of the first file of ``table``.

        Raises:
            InputError: the column cannot be read.
        """
        rows, distinct = 0, dict[str, None]()
        for values in first_values(table, table.files[0], column):
            some = plain_values(pa.chunked_array([values])).drop_null()
            rows += len(some)
            distinct |= dict.fromkeys(map(str, pc.unique(some).to_pylist()))
            if rows >= _ROWS:
                break
        return cls(rows, tuple(distinct))

    @property
    def are_unique(self) -> bool:
        """Whether every row has another value."""
        return self.rows == len(self.distinct)

    @property
    def have_decimal_commas(self) -> bool:
        """Whether they are different numbers written with decimal commas. Where each comma stands before
        three digits, it may as well separate thousands."""
        texts = [text.strip() for text in self.distinct]
        fractions = {len(text.partition(",")[2]) for text in texts if "," in text}
        return len(texts) > 1 and bool(fractions - {3}) and all(map(is_comma_number, texts))

    @property
    def are_tags(self) -> bool:
        """Whether most are several short texts each, of which there are few and which repeat."""
        mark = max(_SEPARATORS, key=lambda mark: sum(mark in text for text in self.distinct))
        several = [text.split(mark) for text in self.distinct if mark in text]
        tags = Counter(tag.strip() for texts in several for tag in texts)
        rows_of_text = self.rows / max(1, len(self.distinct))  # on average
        return 2 * len(several) > len(self.distinct) and self._repeat(tags, sum(tags.values()) * rows_of_text)

    @property
    def are_categories(self) -> bool:
        """Whether they are few short texts that repeat, and neither tags nor written numbers."""
        return self._repeat(self.distinct, self.rows)

    @staticmethod
    def _repeat(texts: Collection[str], rows: float) -> bool:
        """Whether ``texts``, the different ones of so many, are few and those of categories."""
        few = 2 <= len(texts) <= min(_CATEGORIES, rows / _ROWS_OF_CATEGORY)
        return few and not any(
            len(text) > _CATEGORY_LETTERS or is_listed(text) or _NO_CATEGORY.fullmatch(text) for text in texts
        )
