"""Commands that use an exported run: recommend, similar, serve, report."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mmssl_dist.app.options import Address, Debug, Json, StorageSettings, parse_storage_settings
from mmssl_dist.app.reporting import reported
from mmssl_dist.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmssl_dist.config.resource_sections import Storage
    from mmssl_dist.serving.answers import Ranked
    from mmssl_dist.serving.bulk import BulkResult, ListOptions
    from mmssl_dist.serving.bulk_output import BulkOutput
    from mmssl_dist.serving.titled_run import ItemChoice

app = typer.Typer()

RunUrl = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Output of an exported job: a folder, or a URL such as s3://bucket/run or gs://bucket/run.",
    ),
]
Length = Annotated[int, typer.Option("--k", help="Length of a list.")]
Unknown = Annotated[
    str,
    typer.Option(
        metavar="error|skip|popular",
        help="With --users, users that the run does not know: refuse the file, leave them out, or give them "
        "the most popular items.",
    ),
]
Users = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Parquet, CSV, TSV or JSON lines, with user_id, or the job's column."),
]
To = Annotated[str | None, typer.Option(metavar="FOLDER", help="With --users: where Parquet goes.")]
Table = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="With --users: a table by day that rows are written to instead."),
]
TableFormat = Annotated[
    str | None,
    typer.Option(metavar="parquet|delta", help="Of --table: folders of Parquet (default), or Delta Lake."),
]
Date = Annotated[
    str | None,
    typer.Option(metavar="DAY", help="Of --table: the day whose rows are replaced; default: today, UTC."),
]
Items = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Parquet, CSV, TSV or JSON lines with the items' ids, titles, and columns to filter by; the "
        "run's job names the first two (data.columns). Default: the table of titles that the job names.",
    ),
]
_COMPARISONS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_CONDITION = re.compile(r"([^<>=]+)(=|[<>]=?)(.*)", re.DOTALL)
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Only items with a value in a column of theirs: COLUMN=VALUE, or of numbers COLUMN>=VALUE, >, "
        "<= or <, in quotes. Several times: any of a column's values, all bounds, and all columns.",
    ),
]
AllowFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Only items of this file: Parquet, CSV, TSV or JSON lines with ids."),
]
BlockFile = Annotated[str | None, typer.Option(metavar="FILE", help="No items of this file.")]
Exact = Annotated[bool, typer.Option("--exact", help="Score every item instead of asking the index.")]


@app.command()
@reported
def recommend(
    url: RunUrl,
    user: Annotated[str | None, typer.Option(metavar="ID", help="A user of the data.")] = None,
    item: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="For a new user: items they chose.")
    ] = None,
    users: Users = None,
    to: To = None,
    table: Table = None,
    table_format: TableFormat = None,
    date: Date = None,
    k: Length = 20,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--include-seen", help="Leave out items that the user has, or not.")
    ] = True,
    exact: Exact = False,
    items: Items = None,
    where: Where = None,
    allow: AllowFile = None,
    block: BlockFile = None,
    titles: Annotated[bool, typer.Option("--titles", help="With --users, write titles too.")] = False,
    unknown: Unknown = "error",
    as_json: Json = False,
    settings: StorageSettings = None,
    address: Address = None,
    debug: Debug = False,
) -> None:
    """Show a user's best items.

    Give --user, or --item (several times) for a user who is not in the data, or --users and --to for many
    at once. For many, Ray Data writes Parquet with user_id, items and scores. With --table in place of --to
    it writes a row for each user and rank, with the day. What a user has: see export.exclude of the job.
    """
    from mmssl_dist.serving.titled_run import open_titled_run, require_listed

    _require_one_question(user=user, item=item, users=users, to=(to, table), titles=titles)
    storage, choice = parse_storage_settings(settings), _choice(items, where, allow=allow, block=block)
    if users is not None:
        from mmssl_dist.serving.bulk import ListOptions, UnknownPolicy, recommend_file

        output = _bulk_output(url, storage, to, table, table_format=table_format, day=date)
        # ``recommend_file`` refuses other words.
        policy = cast(UnknownPolicy, unknown)
        options = ListOptions(
            k=k, exclude_seen=exclude_seen, exact=exact, unknown=policy, titles=titles, choice=choice
        )
        written = recommend_file(
            url=url, storage=storage, users=users, to=output, options=options, address=address, debug=debug
        )
        typer.echo(_summary(output.name, options, written))
        return
    run, candidates = open_titled_run(url, storage, items, few_lists=True), choice.candidates(url, storage)
    if candidates is not None:
        require_listed(run, candidates)
    if item is not None:
        ranked = run.recommend_new(item, k, exclude_seen, exact=exact, candidates=candidates)
    else:
        # One user has one list; several would have a list of them.
        ranked = cast("Ranked", run.recommend(user, k, exclude_seen, exact=exact, candidates=candidates))
    _show(ranked, {"user": user} if item is None else {"items_known": item}, "score", as_json)


@app.command()
@reported
def similar(
    url: RunUrl,
    item: Annotated[str, typer.Option(metavar="ID", help="An item of the data.")],
    k: Length = 20,
    items: Items = None,
    where: Where = None,
    allow: AllowFile = None,
    block: BlockFile = None,
    as_json: Json = False,
    settings: StorageSettings = None,
    debug: Debug = False,
) -> None:
    """Show the items most like an item.

    By the cosine of their embeddings, which combine who chose them with what they look, read or sound like.
    """
    from mmssl_dist.serving.titled_run import open_titled_run, require_listed

    storage, choice = parse_storage_settings(settings), _choice(items, where, allow=allow, block=block)
    run, candidates = open_titled_run(url, storage, items, few_lists=True), choice.candidates(url, storage)
    if candidates is not None:
        require_listed(run, candidates)
    ranked = cast("Ranked", run.similar(item, k, candidates))
    _show(ranked, {"item": item}, "cosine", as_json)


@app.command()
@reported
def serve(
    url: RunUrl,
    # Not 0.0.0.0 by default: without a key, whoever reaches the port may ask.
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of the machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that answer; each holds the run.")] = 1,
    items: Items = None,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request's body.")] = 1_000_000,
    max_rate: Annotated[
        float | None, typer.Option(min=0.01, help="Requests a second, of all replicas together.")
    ] = None,
    settings: StorageSettings = None,
    address: Address = None,
    debug: Debug = False,
) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C.

    GET and POST /recommend and /similar, POST /users, GET /health; /docs has the OpenAPI description. A Ray
    Serve deployment, which answers open requests before it ends. With MMSSL_API_KEY in the environment
    requests need that key.
    """
    from mmssl_dist.serving.serve import ServiceEndpoint, serve_until_stopped

    listening = ServiceEndpoint(host=host, port=port, replicas=replicas, max_body=max_body, max_rate=max_rate)
    storage = parse_storage_settings(settings)
    serve_until_stopped(url, storage, listening, items=items, address=address, debug=debug, echo=typer.echo)


@app.command()
@reported
def report(url: RunUrl, settings: StorageSettings = None, debug: Debug = False) -> None:
    """Write report.html, as `run` does at its end.

    One self-contained file: curves, metrics, the graph, list quality by user group, examples, the job.
    """
    from mmssl_dist.report.html import write_report

    typer.echo(write_report(url, parse_storage_settings(settings)))


def _show(ranked: Ranked, question: dict[str, object], measure: str, as_json: bool) -> None:
    from mmssl_dist.report.ranked import ranked_json, show_ranked

    if as_json:
        typer.echo(ranked_json(ranked, question, measure))
    else:
        show_ranked(ranked, measure, sys.stdout)


def _require_one_question(
    *,
    user: str | None,
    item: list[str] | None,
    users: str | None,
    to: tuple[str | None, ...],
    titles: bool,
) -> None:
    """``to``: where the lists of many users may go."""
    questions = sum(option is not None for option in (user, item, users))
    if questions != 1 or sum(option is not None for option in to) != (users is not None):
        raise InputError(
            "options",
            "another combination of --user, --item, --users, --to and --table",
            "the command needs --user ID, or --item ID ..., or --users FILE with --to or --table FOLDER",
            "Give exactly one of these.",
        )
    if titles and users is None:
        raise InputError(
            "options",
            "--titles without --users",
            "a list on the screen has titles wherever they are known",
            "Leave it out.",
        )


def _bulk_output(
    url: str,
    storage: Storage,
    to: str | None,
    table: str | None,
    *,
    table_format: str | None,
    day: str | None,
) -> BulkOutput:
    """Where the lists of many users go; one of ``to`` and ``table`` is given."""
    from mmssl_dist.serving.bulk_output import FolderOutput, TableOutput
    from mmssl_dist.serving.dated.dated_table import checked_day, today
    from mmssl_dist.serving.dated.day_writing import open_dated_table
    from mmssl_dist.storage import open_location
    from mmssl_dist.storage.paths import absolute

    if to is not None and (table_format is not None or day is not None):
        raise InputError(
            "options",
            "--table-format or --date with --to",
            "--table-format and --date apply only to --table",
            "Leave them out, or give --table in place of --to.",
        )
    if to is not None:
        return FolderOutput(open_location(absolute(to), storage), to)
    assert table is not None
    opened = open_dated_table(
        absolute(table),
        storage,
        table_format=table_format or "parquet",
        day=today() if day is None else checked_day(day, "--date"),
        option="--table",
    )
    opened.require_apart(open_location(absolute(url), storage))
    return TableOutput(opened, table)


def _choice(
    items: str | None, conditions: list[str] | None, *, allow: str | None, block: str | None
) -> ItemChoice:
    """What the options name; ``conditions`` are those of ``--where``."""
    from mmssl_dist.serving.titled_run import ItemChoice

    where = _conditions(conditions or ())
    return ItemChoice(items=items, allow=allow, block=block, where=where)


def _conditions(written: Iterable[str]) -> dict[str, list[str] | dict[str, str]]:
    """By column, its values or its bounds."""
    values: dict[str, list[str]] = {}
    bounds: dict[str, dict[str, str]] = {}
    for condition in written:
        if (match := _CONDITION.fullmatch(condition)) is None:
            raise InputError(
                "--where",
                condition,
                "a condition has the form COLUMN=VALUE, or COLUMN>=VALUE, >, <= or <",
                "Write, for example, category=shoes or 'price<=50'.",
            )
        column, comparison, value = match.groups()
        if comparison == "=":
            values.setdefault(column, []).append(value)
        elif _COMPARISONS[comparison] not in (of_column := bounds.setdefault(column, {})):
            of_column[_COMPARISONS[comparison]] = value
        else:
            raise InputError(
                "--where", condition, "a column has one bound of each kind", "Remove the other condition."
            )
    if both := sorted(values.keys() & bounds.keys()):
        raise InputError(
            "--where",
            f"values and bounds of {', '.join(both)}",
            "a column has either values or bounds",
            "Remove some of the conditions.",
        )
    return {**values, **bounds}


def _summary(to: str, options: ListOptions, written: BulkResult) -> str:
    line = f"{to}: top {options.k} for {written.users:,} users"
    if options.choice.filters:
        line += f", of {written.items:,} items"
    if not written.unknown:
        return line
    fate = "left out" if options.unknown == "skip" else "among them with the most popular items"
    return f"{line}; {written.unknown:,} unknown users {fate}"
