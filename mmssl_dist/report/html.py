"""Writes ``report.html`` of a run, unless the one that is there is known to be made from the same."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from mmssl_dist import __version__
from mmssl_dist.config.model_name import model_name
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import ITEM_PLACE, find_images, find_titles
from mmssl_dist.data.images import read_images
from mmssl_dist.data.titles import read_titles
from mmssl_dist.errors import InputError
from mmssl_dist.report.list_quality import measure_lists
from mmssl_dist.report.page import ItemLabels, ReportContent, cutoff, page, stamp_of
from mmssl_dist.report.same_model import read_run_job
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import RunFolder, fingerprint, open_location

REPORT = "report.html"
_FORMAT = 4  # since 4: the model's name, and reports of runs that are not finished
_LISTS = {"partitions", "export"}  # what the exported lists are read with
_PACKAGES = ("torch", "ray", "dgl", "deepspeed", "faiss-cpu", "pyarrow", "numpy")


def write_report(url: str, storage: Storage) -> str:
    """Write a report of what a run has published beside its artifacts; returns its URL.

    Raises:
        InputError: the run has published nothing, or the titles or images of items that the job names cannot
            be read.
        ArtifactError: a file is not what its manifest says.
    """
    output = open_location(url, storage)
    stages = tuple(RunFolder(output).stages())
    published = {stage.kind: stage.read() for stage in stages}
    manifests = {artifact: manifest for artifact, manifest in published.items() if manifest is not None}
    if not manifests:
        raise InputError(
            output.url,
            "no published artifact",
            "a report shows what a run has published",
            "Name the output of a job, or run `mmssl-dist run` on it.",
        )
    job = read_run_job(output)
    titles, images = find_titles(job), find_images(job)
    text = (output / "job.yaml").read_bytes().decode()
    stamp = fingerprint(
        "report",
        _FORMAT,
        __version__,
        text,
        {artifact: m.fingerprint for artifact, m in manifests.items()},
        [(file.name, file.size, file.modified) for file in (*titles, *images)],
    )
    target = output / REPORT
    # Images named one by one are looked up for the items shown only, so whether they changed is not known
    images_known = ITEM_PLACE not in (job.data.images or "")
    if images_known and target.exists() and stamp_of(target.read_bytes().decode(errors="replace")) == stamp:
        return target.url
    facts = {artifact: manifest.facts for artifact, manifest in manifests.items()}
    metric = facts.get("training", {}).get("metric", job.evaluation.metric)
    lists, items = None, []
    if _LISTS <= manifests.keys():
        lists = measure_lists(open_run(url, storage), cutoff(metric))
        items = [item for example in lists.examples for item in (*example.history, *example.recommended)]
    content = ReportContent(
        title=output.url,
        model=model_name(job),
        facts=facts,
        missing=[stage.command for stage in stages if stage.kind not in manifests],
        lists=lists,
        labels=ItemLabels(read_titles(job.data, titles, items), read_images(job, images, items)),
        job=text,
        versions=_versions(),
        stamp=stamp,
    )
    target.write_bytes(page(content).encode())
    return target.url


def _versions() -> dict[str, str]:
    versions = {"mmssl-dist": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed here"
    return versions
