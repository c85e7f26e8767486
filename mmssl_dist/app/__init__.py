"""The commands. Loading them imports neither torch nor ray nor dgl: each command imports what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmssl_dist import __version__
from mmssl_dist.app import data_commands, plan, run_commands
from mmssl_dist.app.options import Address, Debug, JobFile, Overrides, loaded, widths
from mmssl_dist.app.reporting import reporting
from mmssl_dist.errors import EXIT_SYSTEM_FAILURE

app = typer.Typer(
    name="mmssl-dist",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train multi-modal recommenders (MMSSL) on one machine or a Ray cluster, from one YAML.",
)

Force = Annotated[
    bool, typer.Option("--force", help="Do the work again, though what is published matches the job.")
]


def main() -> None:
    """Entry point of ``mmssl-dist`` and ``cli.py``."""
    app()


def _version(given: bool) -> None:
    if given:
        typer.echo(f"mmssl-dist {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the command; their callbacks do the work."""


@app.command()
def validate(job_file: JobFile, overrides: Overrides = None, debug: Debug = False) -> None:
    """Check the YAML, and that the raw files are what it says.

    Shows all problems of the YAML at once, each with its path.
    """
    with reporting(debug):
        from mmssl_dist.config.candidates import check_search
        from mmssl_dist.data.files import find_files
        from mmssl_dist.launch.preflight import check_data, check_headers
        from mmssl_dist.report.job import description

        job = loaded(job_file, overrides)
        check_data(job)
        check_headers(job)
        if job.search.space:
            check_search(job)
        files = find_files(job).all()
        typer.echo(description(job))
        typer.echo(f"valid; {len(files)} raw files found")


@app.command()
def prepare(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Publish dataset/ from the raw files.

    Reads interactions and features, numbers users and items, splits, checks features.
    """
    _stage("prepare", job_file, overrides, address, force, debug)


@app.command()
def partition(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Publish partitions/ from the dataset.

    Cuts the graph of training interactions and propagates features over it.
    """
    _stage("partition", job_file, overrides, address, force, debug)


@app.command()
def train(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Train, publish the best checkpoint in training/.

    An interrupted training of the same job goes on from its last checkpoint; --force starts it anew.
    """
    _stage("train", job_file, overrides, address, force, debug)


@app.command()
def evaluate(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Publish metrics in evaluation/, and show them.

    Ranks the whole catalogue for every user, beside the ranking by popularity.
    """
    _stage("evaluate", job_file, overrides, address, force, debug)


@app.command()
def export(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Publish embeddings and lists in export/.

    User and item embeddings and each user's best items as Parquet, in your own ids.
    """
    _stage("export", job_file, overrides, address, force, debug)


@app.command()
def run(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run all stages in order, show the metrics, write report.html.

    A stage whose published output matches its inputs is skipped, unless --force is given.
    """
    with reporting(debug):
        from mmssl_dist.config.model_name import model_name
        from mmssl_dist.launch.fingerprints import run_name
        from mmssl_dist.pipeline import cluster_on_demand, run_all
        from mmssl_dist.report.html import write_report
        from mmssl_dist.report.tables import show_metrics
        from mmssl_dist.tracking.mlflow import end_mlflow

        job = loaded(job_file, overrides)
        with cluster_on_demand(job, address, debug) as cluster:
            manifests = run_all(job, cluster, force)
        show_metrics(manifests["evaluate"].facts, model_name(job), sys.stdout)
        typer.echo(f"report: {write_report(job.output, job.storage)}", err=True)
        end_mlflow(job, run_name(job, manifests["partition"]), manifests["evaluate"].facts)


@app.command()
def tune(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Try settings, choose by validation.

    Trials of the job's `search` section: trainings on the same partitions, proposed by Optuna, stopped early
    by ASHA. Ends with tuning/best.yaml, a job for `run`, and tuning/trials.csv and .json. The same command
    goes on where it was interrupted; --force starts the search anew.
    """
    with reporting(debug):
        from functools import partial

        from mmssl_dist.pipeline import cluster_on_demand
        from mmssl_dist.pipeline import tune as tune_job
        from mmssl_dist.report.trials import show_trials

        job = loaded(job_file, overrides)
        tuned = tune_job(job, partial(cluster_on_demand, address=address, debug=debug), force)
        show_trials(tuned.trials, job.evaluation.metric, sys.stdout)
        typer.echo(f"best: {tuned.best}", err=True)


@app.command()
def submit(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(help="The cluster's dashboard. Default: RAY_ADDRESS, else http://127.0.0.1:8265."),
    ] = None,
    image: Annotated[
        bool,
        typer.Option("--image", help="The cluster's image has mmssl-dist installed: send the YAML alone."),
    ] = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the job on a Ray cluster.

    Follows the job's log and ends with its exit status; Ctrl-C detaches and the job runs on. `ray start
    --head` starts a cluster on this machine. Relative paths in the YAML are taken from here.
    """
    with reporting(debug):
        from mmssl_dist.cluster.submit import Submission, submit

        flags = tuple(name for name, given in (("--force", force), ("--debug", debug)) if given)
        status = submit(Submission(job_file, tuple(overrides or ()), flags, image), address, typer.echo)
        raise typer.Exit(status)


jobs = typer.Typer(no_args_is_help=True, help="Jobs sent to a cluster: list, status, logs, stop.")
app.add_typer(jobs, name="jobs")
app.add_typer(run_commands.app)
app.add_typer(plan.app)
app.add_typer(data_commands.app)
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="As `submit` and `jobs list` show it.")]
Dashboard = Annotated[
    str | None,
    typer.Option("--address", help="The cluster's dashboard. Default: RAY_ADDRESS, else 127.0.0.1:8265."),
]


@jobs.command("list")
def list_jobs(address: Dashboard = None, debug: Debug = False) -> None:
    """Show every job, the latest first."""
    with reporting(debug):
        from mmssl_dist.cluster.jobs import job_lines

        for line in job_lines(address):
            typer.echo(line)


@jobs.command("status")
def show_status(job_id: JobId, address: Dashboard = None, debug: Debug = False) -> None:
    """Show how a job stands."""
    with reporting(debug):
        from mmssl_dist.cluster.jobs import job_status

        typer.echo(job_status(address, job_id))


@jobs.command("logs")
def show_logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option(help="Go on until the job ends, and end with its exit status.")
    ] = True,
    address: Dashboard = None,
    debug: Debug = False,
) -> None:
    """Show a job's log, and follow it."""
    with reporting(debug):
        from mmssl_dist.cluster.jobs import job_logs

        raise typer.Exit(job_logs(address, job_id, typer.echo, follow))


@jobs.command("stop")
def end_job(job_id: JobId, address: Dashboard = None, debug: Debug = False) -> None:
    """End a job; what it published stays."""
    with reporting(debug):
        from mmssl_dist.cluster.jobs import stop_job

        typer.echo(stop_job(address, job_id))


@app.command()
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
    with reporting(debug):
        from mmssl_dist.cluster.connection import connect
        from mmssl_dist.config.resource_sections import Scaling, Storage
        from mmssl_dist.datasets.synthesize import synthesize
        from mmssl_dist.storage import open_location
        from mmssl_dist.storage.paths import absolute

        of_modality = widths(modality or ["image=64", "text=32"])
        target = open_location(absolute(folder), Storage())
        with connect(Scaling(), Storage(), address, debug):
            facts = synthesize(
                target, users=users, items=items, interactions=interactions, modalities=of_modality, seed=seed
            )
        features = ", ".join(f"{name} {width} wide" for name, width in of_modality.items())
        typer.echo(
            f"{folder}: {users} users, {items} items, {facts['interactions']} interactions, "
            f"features {features}"
        )


@app.command()
def summarize(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Outputs of evaluated jobs, as a rule by seed.")
    ],
    debug: Debug = False,
) -> None:
    """Show the mean and standard error of several runs' metrics.

    A Markdown table of every metric that all the runs have.
    """
    with reporting(debug):
        from mmssl_dist.config.resource_sections import Storage
        from mmssl_dist.report.runs import read_metrics, summary_lines
        from mmssl_dist.report.same_model import require_same_models
        from mmssl_dist.storage import open_location

        outputs = [open_location(run, Storage()) for run in runs]
        metrics = [read_metrics(output) for output in outputs]
        require_same_models(outputs)
        typer.echo("\n".join(summary_lines(metrics)))


@app.command()
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
    with reporting(debug):
        from mmssl_dist.config.resource_sections import Storage
        from mmssl_dist.report.compare import compare, comparison_lines, parse_contenders, read_contenders
        from mmssl_dist.storage import open_location

        contenders = parse_contenders(runs, baseline)
        values = read_contenders(
            contenders, lambda run: open_location(run, Storage()), metric, split, popularity
        )
        typer.echo("\n".join(comparison_lines(compare(values), metric, len(values[0].users), split)))


@app.command()
def doctor(
    job_file: Annotated[
        Path | None, typer.Option("--job", help="Try this job's data and output too.")
    ] = None,
    overrides: Overrides = None,
    address: Address = None,
    debug: Debug = False,
) -> None:
    """Check versions, DGL, devices, Ray, storage.

    Exit status 1 when something is missing.
    """
    with reporting(debug):
        from mmssl_dist.launch.doctor import examine

        job = None if job_file is None else loaded(job_file, overrides)
        failed = False
        for check in examine(address, job):
            failed |= not check.passed
            typer.echo(f"{'ok' if check.passed else 'FAIL':<5} {check.name:<12} {check.found}")
        if failed:
            raise typer.Exit(EXIT_SYSTEM_FAILURE)


def _stage(
    name: str, job_file: Path, overrides: list[str] | None, address: str | None, force: bool, debug: bool
) -> None:
    with reporting(debug):
        from mmssl_dist.config.model_name import model_name
        from mmssl_dist.pipeline import cluster_on_demand, run_stage
        from mmssl_dist.report.tables import show_metrics

        job = loaded(job_file, overrides)
        with cluster_on_demand(job, address, debug) as cluster:
            manifest = run_stage(name, job, cluster, force)
        if name == "evaluate":
            show_metrics(manifest.facts, model_name(job), sys.stdout)
