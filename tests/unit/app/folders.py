"""Folders of raw files as people have them, and the command that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import Result
from typer.testing import CliRunner

from mmssl_dist.app import app


def call(*arguments: object, answers: str = "") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=answers)


def write_vectors(
    path: Path, item: str, ids: list[object], column: str = "embedding", width: int = 4
) -> None:
    values = np.random.default_rng(1).normal(size=(len(ids), width)).astype(np.float32)
    vectors = pa.array(values.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({item: ids, column: vectors}), path)


def write_movielens(folder: Path, rated: int = 30) -> None:
    """Files under the names of MovieLens, with embedded titles beside them."""
    rng = np.random.default_rng(0)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(1, 21):
        for step, movie in enumerate(rng.choice(np.arange(1, rated + 1), 12, replace=False)):
            lines.append(f"{user},{movie},4.0,{964982703 + 60 * step}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,2,fun,1445714994\n")
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n1,0114709,862\n")
    titles = [f'{movie},"Film {movie}, The (1995)",Drama' for movie in range(1, 31)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles]) + "\n")
    (folder / "README.txt").write_text("Summary\n")
    write_vectors(folder / "title_embeddings.parquet", "movieId", list(range(1, 31)))
