"""Commands that bring data in and take it out: fetch, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmssl_dist.app.options import Debug
from mmssl_dist.app.reporting import reporting

app = typer.Typer()
StorageSets = Annotated[
    list[str] | None, typer.Option("--set", metavar="storage.A=B", help="How s3:// is reached, as in a job.")
]


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Output of a prepared job, or a folder of .inter.")
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="New folder or URL to write to.")],
    to: Annotated[Literal["mmrec", "table"], typer.Option(help="Layout to write.")],
    name: Annotated[str, typer.Option(help="mmrec: name of the .inter file.")] = "dataset",
    sets: StorageSets = None,
    debug: Debug = False,
) -> None:
    """Convert from and to RecBole's and MMRec's layout.

    --to mmrec writes a prepared job's dataset as NAME.inter with its split, a .npy matrix per modality and
    the mapping of ids. --to table writes such files as Parquet, with a job.yaml that reads them.
    """
    with reporting(debug):
        from mmssl_dist.config.load import parse_storage
        from mmssl_dist.datasets.interchange import read_mmrec, write_mmrec
        from mmssl_dist.storage import open_location
        from mmssl_dist.storage.paths import absolute

        storage = parse_storage({}, sets or ())
        where, target = (open_location(absolute(url), storage) for url in (source, folder))
        done = write_mmrec(where, target, name) if to == "mmrec" else read_mmrec(where, target)
        typer.echo(
            f"{folder}: {done.users:,} users, {done.items:,} items, {done.interactions:,} interactions"
        )
        for modality, count in done.lacking.items():
            if count:
                typer.echo(
                    f"{modality}: {count:,} items lack it and have zeros, which the layout can't tell apart"
                )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="tiktok, baby or ml-1m.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the files are. Default: at their makers'.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Download a public data set.

    Compares checksums, shows the licence, and goes on where it was interrupted. fetched.json is there when
    all is.
    """
    with reporting(debug):
        from mmssl_dist.datasets.fetch import LOCK, SETS
        from mmssl_dist.datasets.fetch import fetch as fetch_set

        for file in fetch_set(name, folder, base_url):
            known = (
                "checksum right"
                if file.verified
                else f"not verified: no checksum is known; {LOCK} has its SHA-256"
            )
            typer.echo(f"{file.name}: {file.bytes:,} bytes, {known}")
        typer.echo(SETS[name].note)
