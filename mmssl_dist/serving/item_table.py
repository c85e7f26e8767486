"""A table of items beside a run: titles for people, and columns to filter by, in the order of the run's
items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config import Job
from mmssl_dist.config.data_sections import Columns
from mmssl_dist.data.files import RawFile, find_titles
from mmssl_dist.data.ids import id_texts, is_text, is_uuid, storage_type
from mmssl_dist.data.item_blocks import column_names, is_list, item_blocks, usable_columns
from mmssl_dist.data.titles import titles_of
from mmssl_dist.errors import InputError
from mmssl_dist.serving.column_bounds import numbers_of, within
from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.serving.item_tags import separators, with_tags
from mmssl_dist.storage import Location
from mmssl_dist.storage.run_job import read_run_job

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_UUID_TEXT = ""  # an example of ids that are compared as text


class ItemTable:
    """Columns by name, each an Arrow array [I] by place, null where an item has no value.

    Args:
        title: name of the column with titles.
    """

    def __init__(self, columns: Mapping[str, pa.Array], title: str = Columns().title) -> None:
        self.columns, self._title = dict(columns), title
        self._numbers: dict[str, pa.Array] = {}

    @property
    def names(self) -> list[str]:
        """Of the columns that items can be filtered by, sorted."""
        return sorted(self.columns)

    def titles(self, positions: np.ndarray) -> list[str | None] | None:
        """Titles of the items at ``positions``; None where the table has no titles."""
        if not self.has_titles:
            return None
        titles: list[str | None] = self.columns[self._title].take(pa.array(positions, pa.int64())).to_pylist()
        return titles

    @property
    def has_titles(self) -> bool:
        """Whether there is a column of titles."""
        return self._title in self.columns

    def has(self, column: str, value: object) -> np.ndarray:
        """bool [I]: items whose value in ``column`` is ``value``, or one of several, or a number within the
        bounds of a mapping; in a column of lists, items that have it in their list. A value of another type
        may be given as text.

        Raises:
            InputError: no such column, or a value that its type cannot hold.
        """
        if column not in self.columns:
            raise InputError(
                "where",
                f"a column {column}",
                f"items can be filtered by {', '.join(self.names) or 'no column'}",
                "Name one of these, or serve a table of items that has it.",
            )
        values = self.columns[column]
        if isinstance(value, Mapping):
            if column not in self._numbers:
                self._numbers[column] = numbers_of(values, column)
            return within(self._numbers[column], value, column)
        several = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        if not is_list(values.type):
            return _is_in(values, several, column)
        # A list matches where one of its values does.
        matching = _is_in(values.flatten(), several, column)
        owners = pc.list_parent_indices(values).to_numpy()
        return np.bincount(owners[matching], minlength=len(values)) > 0


class JobTable(ItemTable):
    """The titles in the files that a job names, and the other columns of these: each is read when items are
    first filtered by it. Where that fails a warning says why, and there is no such column.

    Args:
        titles: column of titles.
        files: with titles.
        items: of the run.
        settings: names of the files' columns with external ids and with titles.
        tags: as of ``read_item_table``.
    """

    def __init__(
        self,
        titles: Mapping[str, pa.Array],
        files: Sequence[RawFile],
        items: Ids,
        settings: Columns,
        tags: Mapping[str, str],
    ) -> None:
        super().__init__(titles, settings.title)
        self._files, self._items, self._settings, self._tags = files, items, settings, tags
        # Items are not filtered by their id: that is what ``allow`` and ``block`` are for.
        self._unreadable = {settings.item_of_titles}

    @property
    def names(self) -> list[str]:
        """As of ``ItemTable``."""
        return sorted({*self.columns, *self._of_files} - self._unreadable)

    def has(self, column: str, value: object) -> np.ndarray:
        """As of ``ItemTable``."""
        if column not in self.columns and column in self.names:
            read_table = partial(read_item_table, self._files, self._items, self._settings, lenient=True)
            read = _or_warning(partial(read_table, only=[column], tags=self._tags))
            # Warned of once: from here on the table has no such column.
            if read is None:
                self._unreadable.add(column)
            else:
                self.columns |= read.columns
        return super().has(column, value)

    @cached_property
    def _of_files(self) -> list[str]:
        names = _or_warning(lambda: [usable_columns(file, self._settings.title) for file in self._files])
        return list(chain.from_iterable(names or []))


class UnreadTable(ItemTable):
    """A table of which no more is read than is asked for: the titles of the items shown, and all columns
    only for a filter by one.

    Args:
        items: of the run.
        read_titles: the titles of those with the given ids.
        read_columns: the whole table.
    """

    def __init__(
        self,
        items: Ids,
        read_titles: Callable[[pa.Array], list[str | None] | None],
        read_columns: Callable[[], ItemTable],
    ) -> None:
        self._items, self._read_titles, self._read_columns = items, read_titles, read_columns

    @cached_property
    def table(self) -> ItemTable:
        """The whole table."""
        return self._read_columns()

    @property
    def columns(self) -> dict[str, pa.Array]:  # type: ignore[override]
        """As of ``ItemTable``."""
        return self.table.columns

    @property
    def names(self) -> list[str]:
        """As of ``ItemTable``."""
        return self.table.names

    def has(self, column: str, value: object) -> np.ndarray:
        """As of ``ItemTable``."""
        return self.table.has(column, value)

    @property
    def has_titles(self) -> bool:
        """As of ``ItemTable``."""
        return self.table.has_titles

    def titles(self, positions: np.ndarray) -> list[str | None] | None:
        """As of ``ItemTable``."""
        if "table" in self.__dict__:  # read already, so titles cost nothing more
            return self.table.titles(positions)
        return self._read_titles(self._items.take(positions))


def read_some_titles(files: Sequence[RawFile], items: pa.Array, settings: Columns) -> list[str | None] | None:
    """The titles of ``items``, ids of a run; None where a file has no column of titles.

    Raises:
        InputError: as ``read_item_table`` does.
    """
    if not files or not all(settings.title in column_names(file) for file in files):
        return None
    like = _example(items)
    texts = id_texts(pa.chunked_array([items]), like).to_pylist()
    titles = titles_of(files, settings, set(texts), like)
    return [titles.get(text) for text in texts]


def read_item_table(
    files: Iterable[RawFile],
    items: Ids,
    settings: Columns = Columns(),  # noqa: B008  # it is frozen
    only: Iterable[str] | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
    lenient: bool = False,
) -> ItemTable:
    """The columns of tables of items, in the order of ``items``; of rows with one id the last.

    Types are those of Parquet: texts, numbers, booleans, and lists of texts or whole numbers; other columns,
    such as feature vectors, are left out. Outside of Parquet every value is a text. Ids that the run does not
    know are left out.

    Args:
        settings: names of the columns with external ids and with titles.
        only: columns to read; all by default.
        tags: what stands between the tags of columns with several in a text; these become lists.
        lenient: in files without one of these, items have no value in it.

    Raises:
        InputError: a file cannot be read, or lacks a column, or two have one of types that do not agree.
    """
    columns = None if only is None else list(only)
    tables = [
        with_tags(table, tags)
        for file in files
        for table in item_blocks(file, settings, _present(file, settings, columns) if lenient else columns)
    ]
    if not tables:
        return ItemTable({}, settings.title)
    id_column = settings.item_of_titles
    run_ids, like = pa.chunked_array([items.array]), _example(items.array)
    # As texts, since a table may keep ids in another type than the run, or than another table.
    table = _joined([_with_texts(table, id_column, like) for table in tables])
    positions = pc.index_in(table[id_column], value_set=id_texts(run_ids, like))
    has_position = positions.is_valid().to_numpy(zero_copy_only=False)
    row_of = np.full(len(items), -1, np.int64)
    row_of[positions.drop_null().to_numpy()] = np.flatnonzero(has_position)
    rows = pa.array(row_of, mask=row_of < 0)
    names = [name for name in table.column_names if name != id_column]
    return ItemTable({name: table[name].combine_chunks().take(rows) for name in names}, settings.title)


def _present(file: RawFile, settings: Columns, columns: Sequence[str] | None) -> list[str] | None:
    """Those of ``columns`` that ``file`` has."""
    if columns is None:
        return None
    return [name for name in usable_columns(file, settings.title) if name in columns]


def _with_texts(table: pa.Table, id_column: str, like: object) -> pa.Table:
    index = table.schema.get_field_index(id_column)
    return table.set_column(index, id_column, id_texts(table[id_column], like))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        types: dict[str, list[pa.DataType]] = {}
        for field in chain.from_iterable(table.schema for table in tables):
            types.setdefault(field.name, []).append(field.type)
        name = next(name for name, of_column in types.items() if not _agree(of_column))
        shown = " and ".join(dict.fromkeys(str(of_file) for of_file in types[name]))
        raise InputError(
            f"items, column {name}",
            f"types {shown}",
            "a column has one type in all files of items",
            "Write all files with the same types.",
        ) from error


def _agree(types: Iterable[pa.DataType]) -> bool:
    # Asked of Arrow, so that this names the column for which ``concat_tables`` has failed.
    schemas = [pa.schema([("", of_file)]) for of_file in types]
    try:
        pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True


def job_titles(run: Location, items: Ids) -> ItemTable:
    """The titles that the job of a run names in data.titles, with the other columns of their files to filter
    by; no column where it names none.

    Where the raw files are out of reach a warning says so, and items go by their ids.
    """

    def read(job: Job, files: Sequence[RawFile]) -> ItemTable:
        settings = job.data.columns
        titles = read_item_table(files, items, settings, only=[settings.title])
        return JobTable(
            titles=titles.columns, files=files, items=items, settings=settings, tags=separators(job)
        )

    return _of_job(run, read) or ItemTable({})


def some_job_titles(run: Location, items: pa.Array) -> list[str | None] | None:
    """The titles of ``items``, ids of the run, as ``job_titles`` finds them."""
    return _of_job(run, lambda job, files: read_some_titles(files, items, job.data.columns))


def _of_job(run: Location, read: Callable[[Job, Sequence[RawFile]], _Result]) -> _Result | None:
    """What ``read`` makes of a run's job and of the files of titles that it names."""
    if not (run / "job.yaml").exists():
        return None

    def read_job() -> _Result:
        job = read_run_job(run)
        return read(job, find_titles(job))

    return _or_warning(read_job)


def _or_warning(read: Callable[[], _Result]) -> _Result | None:
    """What is read of the titles that a job names; None, with a warning, where they are out of reach."""
    try:
        return read()
    except InputError as error:
        _logger.warning("titles cannot be read, so items are shown by id: %s", error)
        return None


def job_columns(run: Location) -> Columns:
    """The names of columns in the tables of a run's job; the defaults where the run has none."""
    return read_run_job(run).data.columns if (run / "job.yaml").exists() else Columns()


def job_tags(run: Location) -> dict[str, str]:
    """What stands between the tags of each column that a run's job declares as tags."""
    return separators(read_run_job(run)) if (run / "job.yaml").exists() else {}


def _example(ids: pa.Array) -> object:
    """The id that ``id_texts`` compares others with."""
    if is_uuid(storage_type(ids.type)):
        return _UUID_TEXT
    return ids[0].as_py() if len(ids) else None


def _is_in(values: pa.Array, chosen: list[object], column: str) -> np.ndarray:
    """bool [n]: the values that are among ``chosen``."""
    if is_text(values.type):
        return _is_text_in(values, chosen)
    try:
        # Arrow makes 1 of True and of 1.5; neither is what a column of numbers has.
        boolean = pa.types.is_boolean(values.type)
        if any(isinstance(value, bool) != boolean for value in chosen if not isinstance(value, str)):
            raise TypeError("booleans and numbers differ")
        chosen = [pa.scalar(v).cast(values.type).as_py() if isinstance(v, str) else v for v in chosen]
        among = pa.array(chosen, values.type)
        if among.to_pylist() != chosen and not pa.types.is_floating(values.type):
            raise ValueError("a fraction")
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"where.{column}",
            repr(chosen),
            f"the column has values of type {values.type}",
            "Give values of that type.",
        ) from error
    return _matching(values, among)


def _is_text_in(texts: pa.Array, chosen: list[object]) -> np.ndarray:
    """``_is_in`` of a column of texts."""
    written = [str(value) for value in chosen if not isinstance(value, bool)]
    matching = _matching(texts, pa.array(written, texts.type))
    booleans = [str(value).lower() for value in chosen if isinstance(value, bool)]
    if booleans:
        # Tables in text have no booleans, but what some tool wrote for them: true, True or TRUE.
        matching = matching | _matching(pc.utf8_lower(texts), pa.array(booleans, texts.type))
    return matching


def _matching(values: pa.Array, among: pa.Array) -> np.ndarray:
    result: np.ndarray = pc.is_in(values, value_set=among).to_numpy(zero_copy_only=False)
    return result
