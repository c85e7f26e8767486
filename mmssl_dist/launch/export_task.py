"""What completes an export once the workers have written it: the index of all items, lists made through it,
and the manifest."""

from __future__ import annotations

from collections.abc import Mapping

from mmssl_dist.cluster.tasks import RunTasks
from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, downloads_folder, publish
from mmssl_dist.storage.export_names import INDEX


def publish_export(
    job: Job,
    inputs: str,
    written: Mapping[str, FileRecord],
    listed: Mapping[str, int],
    run_tasks: RunTasks,
    length_exponent: float,
) -> Manifest:
    """Publish the files that the workers have ``written``, by name below export/, the index of the items, and
    lists made through it.

    Args:
        inputs: the export's fingerprint, taken before anything was read.
        listed: of lists that the workers wrote, the number of users, and of users that are not in the run.
        run_tasks: runs what needs memory for the index, side by side where there are machines for it.
        length_exponent: of the items' lengths in the item embeddings, which rows of new items get too.
    """
    folder = RunFolder.of(job)
    (built,) = run_tasks(index_task, [(job, written)])
    record, index, searched = built
    files = {**written, INDEX: record}
    partitions = folder.partitions.require()
    book = partitions.facts["book"]
    lists: dict[str, object] = {"made": job.export.recommendations, "exclude": job.export.exclude, **listed}
    if job.export.recommendations == "index":
        from mmssl_dist.export.index_lists import write_part_lists

        made = run_tasks(
            write_part_lists, [(job, files, searched, part) for part in range(len(book["users"]))]
        )
        for part_lists in made:
            files |= part_lists.files
        users = sum(part_lists.users for part_lists in made)
        lists |= {**searched, "users": users, "unknown_users": made[0].named - users if made[0].named else 0}
    if job.export.users is not None and not lists["users"]:
        raise InputError(
            "export.users",
            f"{job.export.users}, with {lists['unknown_users']:,} users, none of which is in the run",
            "its users must be users of data.interactions",
            "Check its column of users.",
        )
    facts = {
        "users": sum(book["users"]),
        "items": sum(book["items"]),
        "k": job.export.k,
        "bytes": sum(record.bytes for record in files.values()),
        "index": index,
        "lists": lists,
        # Lookups read both, and refuse an export whose partitions have been made again.
        "partitions": partitions.fingerprint,
        "dimension": job.model.dimension,
        "fold_in": _fold_in_facts(job, length_exponent),
    }
    manifest = Manifest("export", inputs, facts, files)
    publish(folder.export.location, manifest)
    return manifest


def _fold_in_facts(job: Job, length_exponent: float) -> dict[str, float]:
    """What rows of new users and items are summed with."""
    return {
        "modality_weight": job.model.modality_weight,
        "similar_weight": job.model.item_graph.weight,
        "feature_columns": job.model.feature_columns,
        "length_exponent": length_exponent,
    }


def index_task(
    job: Job, written: Mapping[str, FileRecord]
) -> tuple[FileRecord, dict[str, object], dict[str, object]]:
    """``build_index`` of the job's export."""
    from mmssl_dist.export.index import ListSample, build_index
    from mmssl_dist.serving.artifact import Artifact
    from mmssl_dist.serving.seen import read_known

    folder = RunFolder.of(job)
    sample = None
    if job.export.recommendations == "index":
        partitions = Artifact(folder.partitions.location, folder.partitions.require(), downloads_folder())
        sample = ListSample(read_known(partitions, job.export.exclude).of_users, job.export.k)
    return build_index(folder.export.location, written, job.export.index, sample)
