"""Commands about several runs: summarize, compare."""

from __future__ import annotations

from typing import Annotated

import typer

from mmssl_dist.app.options import Debug
from mmssl_dist.app.reporting import reported

app = typer.Typer()


@app.command()
@reported
def summarize(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Outputs of evaluated jobs, usually one per seed.")
    ],
    debug: Debug = False,
) -> None:
    """Show the mean and standard error of several runs' metrics.

    A Markdown table of every metric that all the runs have.
    """
    from mmssl_dist.config.resource_sections import Storage
    from mmssl_dist.report.runs import read_metrics, summary_lines
    from mmssl_dist.report.same_model import require_same_models
    from mmssl_dist.storage import open_location

    outputs = [open_location(run, Storage()) for run in runs]
    metrics = [read_metrics(output) for output in outputs]
    require_same_models(outputs)
    typer.echo("\n".join(summary_lines(metrics)))


@app.command()
@reported
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Outputs of evaluated jobs; NAME=RUN,RUN,... joins seeds."),
    ],
    metric: Annotated[str, typer.Option(help="Metric to compare.")] = "recall@20",
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    baseline: Annotated[
        str | None, typer.Option(metavar="RUN", help="Run or name to compare with. Default: the first.")
    ] = None,
    popularity: Annotated[
        bool, typer.Option("--popularity", help="Compare the ranking by popularity too.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Compare runs user by user, with intervals and tests.

    A Markdown table: means with bootstrap intervals over users, differences to the baseline with a paired
    test.
    """
    from mmssl_dist.config.resource_sections import Storage
    from mmssl_dist.report.compare import compare, comparison_lines, parse_contenders, read_contenders
    from mmssl_dist.storage import open_location

    contenders = parse_contenders(runs, baseline)
    values = read_contenders(
        contenders,
        lambda run: open_location(run, Storage()),
        metric=metric,
        split=split,
        popularity=popularity,
    )
    typer.echo("\n".join(comparison_lines(compare(values), metric, len(values[0].users), split)))
