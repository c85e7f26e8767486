"""Commands that bring data in and take it out: synthesize, fetch, convert."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmssl_dist.app.options import Address, Debug, StorageSettings, parse_storage_settings, parse_widths
from mmssl_dist.app.reporting import reported, reported_resumable

app = typer.Typer()


@app.command()
@reported
def synthesize(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder or URL to write to.")],
    users: Annotated[int, typer.Option(help="Number of users.")] = 2000,
    items: Annotated[int, typer.Option(help="Number of items.")] = 800,
    interactions: Annotated[
        int, typer.Option(help="Number of interactions, met within some percent.")
    ] = 40_000,
    modality: Annotated[
        list[str] | None, typer.Option(metavar="NAME=WIDTH", help="A modality; default image=64 and text=32.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    address: Address = None,
    debug: Debug = False,
) -> None:
    """Write a data set with planted structure.

    Interactions follow communities that the features reveal.
    """
    from mmssl_dist.config.resource_sections import Scaling, Storage
    from mmssl_dist.datasets.synthesize import shard_count
    from mmssl_dist.datasets.synthesize import synthesize as synthesize_set
    from mmssl_dist.storage import open_location
    from mmssl_dist.storage.paths import absolute

    widths = parse_widths(modality or ["image=64", "text=32"])
    target = open_location(absolute(folder), Storage())
    if shard_count(items, interactions, widths) == 1 and address is None:
        cluster: AbstractContextManager[object] = nullcontext()  # what is quickly written needs no Ray
    else:
        from mmssl_dist.cluster.connection import connect

        cluster = connect(Scaling(), Storage(), address, debug)
    with cluster:
        facts = synthesize_set(
            target, users=users, items=items, interactions=interactions, modalities=widths, seed=seed
        )
    features = ", ".join(f"{name} {width} wide" for name, width in widths.items())
    typer.echo(
        f"{folder}: {users} users, {items} items, {facts['interactions']} interactions, features {features}"
    )


@app.command()
@reported
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Output of a prepared job, or a folder of .inter.")
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="New folder or URL to write to.")],
    to: Annotated[Literal["mmrec", "table"], typer.Option(help="Layout to write.")],
    name: Annotated[str, typer.Option(help="mmrec: name of the .inter file.")] = "dataset",
    settings: StorageSettings = None,
    debug: Debug = False,
) -> None:
    """Convert from and to RecBole's and MMRec's layout.

    --to mmrec writes a prepared job's dataset as NAME.inter with its split, a .npy matrix per modality and
    the mapping of ids. --to table writes such files as Parquet, with a job.yaml that reads them.
    """
    from mmssl_dist.datasets.interchange import read_mmrec, write_mmrec
    from mmssl_dist.storage import open_location
    from mmssl_dist.storage.paths import absolute

    storage = parse_storage_settings(settings)
    origin, target = (open_location(absolute(url), storage) for url in (source, folder))
    converted = write_mmrec(origin, target, name) if to == "mmrec" else read_mmrec(origin, target)
    typer.echo(
        f"{folder}: {converted.users:,} users, {converted.items:,} items, "
        f"{converted.interactions:,} interactions"
    )
    if converted.left_out:
        typer.echo(f"columns left out: {', '.join(converted.left_out)}")
    if converted.skipped:
        typer.echo(f"files skipped, which are not features: {', '.join(converted.skipped)}")
    for modality, count in converted.lacking.items():
        if count:
            typer.echo(
                f"{modality}: {count:,} items lack it and have zeros, which the layout can't tell apart"
            )


@app.command()
@reported_resumable
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="movielens-100k or movielens-1m.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the files are. Default: their publishers' sites.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Download a public data set, ready to train.

    Verifies checksums, shows the licence, and resumes an interrupted download. fetched.json exists once the
    set is complete. `mmssl-dist run jobs/NAME.yaml` trains on data/NAME.
    """
    from mmssl_dist.datasets.fetch import FETCH_RECORD, SETS
    from mmssl_dist.datasets.fetch import fetch as fetch_set

    for file in fetch_set(name, folder, base_url):
        verdict = (
            "checksum verified"
            if file.verified
            else f"not verified: no checksum is known; {FETCH_RECORD} records its SHA-256"
        )
        typer.echo(f"{file.name}: {file.bytes:,} bytes, {verdict}")
    typer.echo(SETS[name].note)
