"""MovieLens as tables that a job reads: ratings, films with their titles, and genres and years as vectors."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.errors import InputError

YEARS = 16
"""Radial basis functions over the years of release (see ``year_features``)."""
_ENCODING = "latin-1"  # of GroupLens' files
_TITLED_YEAR = re.compile(r"\((\d{4})\)\s*$")


@dataclass(frozen=True)
class Film:
    """One item.

    Attributes:
        title: as GroupLens writes it, the year in brackets at its end.
    """

    item: int
    title: str
    genres: tuple[str, ...]

    @property
    def year(self) -> str:
        """Of release; empty where the title has none."""
        match = _TITLED_YEAR.search(self.title)
        return match[1] if match else ""


def write_movielens(folder: Path) -> None:
    """Write `interactions.parquet` (user_id, item_id, rating, timestamp in seconds), `items.parquet`
    (item_id, title), `genre.parquet` and `year.parquet` (item_id, vector) below ``folder``, from what the
    archive of MovieLens 100K or 1M has there. A file that has this content already is left as it is.

    Raises:
        InputError: the folder has none of them, or a line is not as GroupLens describes it.
    """
    small = (folder / "ml-100k").is_dir()
    source = folder / ("ml-100k" if small else "ml-1m")
    ratings, separator = (source / "u.data", "\t") if small else (source / "ratings.dat", "::")
    films = list(_films_of_100k(source) if small else _films_of_1m(source))
    _write(folder / "interactions.parquet", _ratings(ratings, separator))
    ids = pa.array([film.item for film in films], pa.int64())
    titles = pa.array([film.title for film in films], pa.string())
    _write(folder / "items.parquet", pa.table({"item_id": ids, "title": titles}))
    genres = genre_features([film.genres for film in films])
    years = year_features([film.year for film in films])
    for name, vectors in (("genre", genres), ("year", years)):
        _write(folder / f"{name}.parquet", feature_table(ids, vectors))


def genre_features(genres: Sequence[Sequence[str]]) -> np.ndarray:
    """[n, genres] float32: 1 for each genre of a film, in alphabetical order; all 0 where none is known."""
    names = sorted({name for item_genres in genres for name in item_genres} - {"unknown"})
    return np.array([[float(name in item_genres) for name in names] for item_genres in genres], np.float32)


def year_features(years: Sequence[str]) -> np.ndarray:
    """[n, YEARS] float32: radial basis functions of the year; all 0 where it is not known.

    Most films are of the last years, so the centres are evenly spread over the square root of age, one width
    apart.
    """
    known = np.array([year.strip().isdigit() for year in years])
    value = np.array([float(year) if is_known else 0.0 for year, is_known in zip(years, known, strict=True)])
    # Unknown years, 0 until here, take any known age: their rows are set to zero below.
    age = np.sqrt(value[known].max() - value.clip(min=value[known].min()))
    centres = np.linspace(0.0, age[known].max(), YEARS)
    near = np.exp(-0.5 * ((age[:, None] - centres) / (centres[1] - centres[0])) ** 2)
    vectors: np.ndarray = near * known[:, None]
    return vectors.astype(np.float32)


def feature_table(ids: pa.Array, vectors: np.ndarray) -> pa.Table:
    """item_id and vector, of float32."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"item_id": ids, "vector": lists})


def _ratings(file: Path, separator: str) -> pa.Table:
    columns: Mapping[str, list[int]] = {"user_id": [], "item_id": [], "rating": [], "timestamp": []}
    for number, values in _rows(file, separator, len(columns)):
        for name, value in zip(columns, values, strict=True):
            if not value.isdecimal():
                raise _unexpected(file, number, f"{name} {value!r}")
            columns[name].append(int(value))
    return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def _films_of_100k(source: Path) -> Iterator[Film]:
    names = [name for _, (name, _) in _rows(source / "u.genre", "|", 2)]
    file = source / "u.item"
    for number, (item, title, *others) in _rows(file, "|", 5 + len(names)):
        if not item.isdecimal():
            raise _unexpected(file, number, f"the item {item!r}")
        flags = others[3:]  # behind two dates and an address
        genres = tuple(name for name, flag in zip(names, flags, strict=True) if flag == "1")
        yield Film(int(item), title, genres)


def _films_of_1m(source: Path) -> Iterator[Film]:
    file = source / "movies.dat"
    for number, (item, title, genres) in _rows(file, "::", 3):
        if not item.isdecimal():
            raise _unexpected(file, number, f"the item {item!r}")
        yield Film(int(item), title, tuple(genres.split("|")))


def _rows(file: Path, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Numbered lines, as their values."""
    try:
        text = file.read_text(encoding=_ENCODING)
    except OSError as error:
        raise InputError(
            str(file), error.strerror or error, "MovieLens' archive has this file", "Fetch it again."
        ) from error
    for number, line in enumerate(text.splitlines(), 1):
        values = line.split(separator)
        if line and len(values) != width:
            raise _unexpected(file, number, f"{len(values)} values")
        if line:
            yield number, values


def _unexpected(file: Path, line: int, value: str) -> InputError:
    return InputError(
        f"{file}, line {line}", value, "a line is as MovieLens' README describes it", "Fetch it again."
    )


def _write(path: Path, table: pa.Table) -> None:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    # What is the same keeps its time, by which stages know a file.
    if not path.exists() or path.read_bytes() != stream.getvalue():
        partial = path.with_name(f"{path.name}.part")
        partial.write_bytes(stream.getvalue())
        partial.replace(path)
