"""Commands that run a job's stages: validate, the stages one by one, run, tune."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from mmssl_dist.app.options import Address, Debug, Force, From, JobFile, Overrides, load_resolved, with_start
from mmssl_dist.app.reporting import reported, reported_resumable

app = typer.Typer()


@app.command()
@reported
def validate(job_file: JobFile, overrides: Overrides = None, debug: Debug = False) -> None:
    """Check the YAML and the raw files, and show what they hold.

    Shows all problems of the YAML at once, and where it has none all problems of the files. Small inputs are
    read whole, of large ones the first and last block of each file.
    """
    from mmssl_dist.launch.validate import validated
    from mmssl_dist.report.job_summary import description, input_lines

    job, overview, files = validated(job_file, overrides or ())
    typer.echo(description(job))
    typer.echo("\n".join(input_lines(overview)))
    typer.echo(f"valid; {files} raw files found")


# ``--help`` lists the commands as they are defined here: in the order of the pipeline.
def _add_stage(stage: str, help_text: str) -> None:
    """Add the command that runs one stage on what the stages before it published."""

    @app.command(stage, help=help_text)
    @reported_resumable
    def run_one(
        job_file: JobFile,
        overrides: Overrides = None,
        address: Address = None,
        force: Force = False,
        debug: Debug = False,
    ) -> None:
        _run_stage(stage, job_file, overrides, address=address, force=force, debug=debug)


_add_stage(
    "embed",
    """Publish embeddings/ from raw texts, pictures and columns.

    For jobs whose modalities name an encoder, which embeds only new and changed items again, or features.
    """,
)
_add_stage(
    "prepare",
    """Publish dataset/ from the raw files.

    Reads interactions and features, numbers users and items, splits, checks features.
    """,
)
_add_stage(
    "partition",
    """Publish partitions/ from the dataset.

    Cuts the graph of training interactions and propagates features over it.
    """,
)


@app.command()
@reported_resumable
def train(
    job_file: JobFile,
    overrides: Overrides = None,
    start_from: From = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Train, publish the best checkpoint in training/.

    With --from, training starts from the rows and weights of an earlier run. An interrupted training of the
    same job resumes from its last checkpoint; --force starts over.
    """
    _run_stage(
        "train", job_file, with_start(overrides, start_from), address=address, force=force, debug=debug
    )


_add_stage(
    "evaluate",
    """Publish metrics in evaluation/, and show them.

    Ranks the whole catalogue for every user, beside the ranking by popularity.
    """,
)
_add_stage(
    "export",
    """Publish embeddings and lists in export/.

    User and item embeddings and each user's best items as Parquet, in your own ids.
    """,
)


@app.command()
@reported_resumable
def run(
    job_file: JobFile,
    overrides: Overrides = None,
    start_from: From = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run all stages in order, show the metrics, write report.html.

    A stage whose published output matches its inputs is skipped, unless --force is given. With --from,
    training starts from the rows and weights of an earlier run.
    """
    from mmssl_dist.config.model_name import model_name
    from mmssl_dist.pipeline.whole_run import run_whole
    from mmssl_dist.report.tables import show_metrics

    job = load_resolved(job_file, with_start(overrides, start_from))
    done = run_whole(job, address, force=force, debug=debug)
    show_metrics(done.metrics, model_name(job), sys.stdout)
    # On stderr: stdout has the metrics alone, for a pipe.
    typer.echo(f"report: {done.report}", err=True)


@app.command()
@reported_resumable
def tune(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Try settings, choose by validation.

    Trials of the job's `search` section: trainings on the same partitions, proposed by Optuna, stopped early
    by ASHA. Ends with tuning/best.yaml, a job for `run`, and tuning/trials.csv and .json. An interrupted
    search resumes with the same command; --force starts over.
    """
    from functools import partial

    from mmssl_dist.launch.lazy_cluster import lazy_cluster
    from mmssl_dist.pipeline.setting_search import search
    from mmssl_dist.report.trial_table import show_trials

    job = load_resolved(job_file, overrides)
    result = search(job, partial(lazy_cluster, address=address, debug=debug), force)
    show_trials(result.trials, job.evaluation.metric, sys.stdout)
    # On stderr: stdout has the table alone, for a pipe.
    typer.echo(f"best: {result.best}", err=True)


def _run_stage(
    command: str,
    job_file: Path,
    overrides: list[str] | None,
    *,
    address: str | None,
    force: bool,
    debug: bool,
) -> None:
    from mmssl_dist.config.model_name import model_name
    from mmssl_dist.launch.lazy_cluster import lazy_cluster
    from mmssl_dist.pipeline.stages import run_stage
    from mmssl_dist.report.tables import show_metrics

    job = load_resolved(job_file, overrides)
    with lazy_cluster(job, address, debug) as cluster:
        manifest = run_stage(command, job, cluster, force)
    if command == "evaluate":
        show_metrics(manifest.facts, model_name(job), sys.stdout)
