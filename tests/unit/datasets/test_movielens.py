"""MovieLens' archives become tables that the job of their name reads."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import load_job
from mmssl_dist.datasets.fetch import SETS, PublicSet, fetch
from mmssl_dist.datasets.movielens import YEARS, write_movielens
from mmssl_dist.errors import InputError
from mmssl_dist.launch.input_check import check_values
from mmssl_dist.launch.preflight import check_data, check_headers, resolved
from tests.encoders import packaged_texts
from tests.servers import serving

JOBS = Path(__file__).parents[3] / "jobs"
GENRES = ("unknown", "Action", "Comedy", "Drama")
ITEMS, USERS = 12, 8
ARCHIVES = {"movielens-100k": "ml-100k", "movielens-1m": "ml-1m"}


def title(item: int) -> str:
    return f"Fiancée {item}, The (19{80 + item})" if item > 1 else "Unknown"


def genres(item: int) -> list[str]:
    return [GENRES[1 + item % 3]] if item > 1 else ["unknown"]


def archive(name: str) -> bytes:
    """As GroupLens packs it, in Latin-1."""
    rows = [
        (user, item, 1 + (user + item) % 5, 978300000 + 60 * user + item)
        for user in range(1, USERS + 1)
        for item in range(1, ITEMS + 1)
    ]
    if name == "ml-100k":
        flags = ["|".join(str(int(g in genres(item))) for g in GENRES) for item in range(1, ITEMS + 1)]
        films = [
            f"{item}|{title(item)}|01-Jan-1995||http://x/?{item}|{flags[item - 1]}"
            for item in range(1, ITEMS + 1)
        ]
        files = {
            "u.data": "\n".join("\t".join(map(str, row)) for row in rows) + "\n",
            "u.item": "\n".join(films) + "\n",
            "u.genre": "".join(f"{genre}|{number}\n" for number, genre in enumerate(GENRES)) + "\n",
        }
    else:
        films = [f"{item}::{title(item)}::{'|'.join(genres(item))}" for item in range(1, ITEMS + 1)]
        files = {
            "ratings.dat": "\n".join("::".join(map(str, row)) for row in rows) + "\n",
            "movies.dat": "\n".join(films) + "\n",
        }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for file, text in files.items():
            opened.writestr(f"{name}/{file}", text.encode("latin-1"))
    return stream.getvalue()


@pytest.fixture(params=ARCHIVES)
def fetched(request, tmp_path, monkeypatch) -> tuple[str, Path]:
    """The name of a set, and the folder that it was fetched to from a server on this machine."""
    name = request.param
    content, file = archive(ARCHIVES[name]), f"{ARCHIVES[name]}.zip"
    known = SETS[name]
    assert list(known.files) == [file]
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"  # of this archive, in place of GroupLens' own
    monkeypatch.setitem(
        SETS, name, PublicSet("http://127.0.0.1:1", {file: md5}, known.note, known.write_tables)
    )

    def server(environ, start):
        assert environ["PATH_INFO"] == f"/{file}"
        start("200 OK", [("Content-Length", str(len(content)))])
        return [content]

    folder = tmp_path / "data" / name
    with serving(server) as url:
        fetch(name, folder, url)
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
        fetch(name, folder, url)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")} == before
    return name, folder


@pytest.mark.processes
def test_the_tables_hold_ratings_titles_genres_and_years(fetched):
    _, folder = fetched
    ratings = pq.read_table(folder / "interactions.parquet")
    assert ratings.column_names == ["user_id", "item_id", "rating", "timestamp"]
    assert ratings.num_rows == USERS * ITEMS
    assert ratings.slice(0, 1).to_pylist() == [
        {"user_id": 1, "item_id": 1, "rating": 3, "timestamp": 978300061}
    ]
    items = pq.read_table(folder / "items.parquet").to_pylist()
    assert items[1] == {"item_id": 2, "title": "Fiancée 2, The (1982)"}
    genre = np.stack(pq.read_table(folder / "genre.parquet")["vector"].to_pylist())
    assert genre.tolist() == [[float(g in genres(item)) for g in GENRES[1:]] for item in range(1, ITEMS + 1)]
    year = np.stack(pq.read_table(folder / "year.parquet")["vector"].to_pylist())
    assert year.shape == (ITEMS, YEARS)
    assert not year[0].any()  # a title without a year
    assert year[-1].argmax() == 0  # the newest


@pytest.mark.processes
def test_the_job_of_its_name_accepts_them(fetched, tmp_path, monkeypatch):
    name, folder = fetched
    monkeypatch.chdir(tmp_path)
    encoder = f"data.modalities.text.encoder={packaged_texts()}"  # nothing is downloaded here
    job = load_job(JOBS / f"{name}.yaml", [encoder])
    assert (tmp_path / job.data.path) == folder
    job = resolved(job)
    files = check_data(job)
    check_headers(job, files)
    overview = check_values(job, files)
    assert overview.features.keys() == {"text", "genre", "year"}
    liked = sum(1 + (user + item) % 5 >= 4 for user in range(1, USERS + 1) for item in range(1, ITEMS + 1))
    assert overview.facts["interactions"]["train"] < liked


def test_every_set_has_a_job_and_a_checksum():
    for name, known in SETS.items():
        assert load_job(JOBS / f"{name}.yaml").data.path == f"data/{name}"
        assert f"mmssl-dist fetch {name} data/{name}" in (JOBS / f"{name}.yaml").read_text()
        assert all(known.files.values())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ratings.dat", "1::2::5\n", r"ratings\.dat, line 1: found 3 values"),
        ("ratings.dat", "1::2::5::x\n", r"ratings\.dat, line 1: found timestamp 'x'"),
        (
            "movies.dat",
            "1::A (1990)::Drama\nB::C (1991)::Drama\n",
            r"movies\.dat, line 2: found the item 'B'",
        ),
        ("movies.dat", None, r"movies\.dat: found No such file"),
    ],
)
def test_an_archive_of_something_else(tmp_path, file, text, message):
    with zipfile.ZipFile(io.BytesIO(archive("ml-1m"))) as opened:
        opened.extractall(tmp_path)
    (tmp_path / "ml-1m" / file).unlink()
    if text is not None:
        (tmp_path / "ml-1m" / file).write_text(text)
    with pytest.raises(InputError, match=message):
        write_movielens(tmp_path)
