"""The command that estimates what a job will need."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl_dist.app.options import Debug, JobFile, Json, Overrides, load_resolved, parse_widths
from mmssl_dist.app.reporting import reported
from mmssl_dist.errors import InputError

if TYPE_CHECKING:
    from mmssl_dist.config import Job
    from mmssl_dist.planning.sizes import Sizes

app = typer.Typer()


@app.command()
@reported
def plan(
    job_file: JobFile,
    overrides: Overrides = None,
    users: Annotated[
        int | None, typer.Option(help="With --items, --interactions: plan a graph that does not exist yet.")
    ] = None,
    items: Annotated[int | None, typer.Option(help="Number of its items.")] = None,
    interactions: Annotated[int | None, typer.Option(help="Number of its interactions.")] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WIDTH", help="Its modalities and their widths, or those that raw files do not show."
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(help="GB per worker. Default: scaling.memory_gb, else its share of this machine."),
    ] = None,
    bandwidth: Annotated[float, typer.Option(help="GB per second that a worker can send to others.")] = 1.0,
    price: Annotated[
        float | None, typer.Option(help="Price of one worker for an hour, in any currency.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate", help="Time some steps on this machine, for seconds and costs."
        ),
    ] = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Estimate what a job needs before it runs.

    Memory of each worker by purpose, traffic between workers, storage, time and cost, the fewest workers
    that fit, and what would break first. Uses the sizes of the published partitions or dataset, or those
    given. Without either, small raw files are counted, as validate does.
    """
    from mmssl_dist.cluster.local_ray import machine_memory
    from mmssl_dist.planning.breaks import GIGA
    from mmssl_dist.planning.resource_plan import Assumptions, plan_resources
    from mmssl_dist.report.plan_lines import plan_lines

    job = load_resolved(job_file, overrides)
    sizes = _sizes(job, (users, items, interactions), modality)
    gigabytes = memory or job.scaling.memory_gb
    # Without a figure the plan answers for this machine with all workers on it, which is how most begin.
    limit = machine_memory() / job.scaling.fewest if gigabytes is None else gigabytes * GIGA
    assumptions = Assumptions(limit, bandwidth * GIGA, price)
    speed = None
    if calibrate:
        from mmssl_dist.planning.calibrate import calibrate as measure  # only now: it imports torch
        from mmssl_dist.planning.sizes import features_of

        speed = measure(job, features_of(job, sizes), job.scaling.fewest)
    estimate = plan_resources(job, sizes, assumptions, speed)
    typer.echo(
        json.dumps(estimate.facts(), indent=1)
        if as_json
        else "\n".join(plan_lines(estimate, assumptions, speed))
    )


def _sizes(job: Job, numbers: tuple[int | None, int | None, int | None], modality: list[str] | None) -> Sizes:
    # Not the modalities: alone they complete what raw files do not show.
    asked = any(number is not None for number in numbers)
    sizes = _requested_sizes(job, numbers, modality) if asked else _job_sizes(job, modality)
    if job.export.users is None:
        return sizes
    from mmssl_dist.export.chosen_users import chosen_users

    return replace(sizes, named=chosen_users(job).named)


def _requested_sizes(
    job: Job, numbers: tuple[int | None, int | None, int | None], modality: list[str] | None
) -> Sizes:
    from mmssl_dist.planning.sizes import held_out_share, supposed_sizes

    users, items, interactions = numbers
    if users is None or items is None or interactions is None or not modality:
        raise InputError(
            "options",
            "some of --users, --items, --interactions, --modality",
            "a graph that does not exist yet needs all four",
            "Give the others too, or none of them.",
        )
    return supposed_sizes(
        users,
        items,
        interactions=interactions,
        modalities=parse_widths(modality),
        held_out=held_out_share(job),
    )


def _job_sizes(job: Job, modality: list[str] | None) -> Sizes:
    """Of what is published, else of the raw files."""
    from mmssl_dist.launch.raw_sizes import raw_sizes
    from mmssl_dist.pipeline.stages import published
    from mmssl_dist.planning.sizes import sizes_of_dataset, sizes_of_partitions

    if (partitions := published("partition", job)) is not None:
        return sizes_of_partitions(partitions)
    if (dataset := published("prepare", job)) is not None:
        return sizes_of_dataset(dataset)
    return raw_sizes(job, parse_widths(modality or []))
