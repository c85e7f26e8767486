"""Writes ``report.html`` of a run, unless the one that is there is known to be made from the same."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from mmssl_dist import __version__
from mmssl_dist.config import read_job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import ITEM_PLACE, find_images, find_titles
from mmssl_dist.data.images import read_images
from mmssl_dist.data.titles import read_titles
from mmssl_dist.report.list_quality import find
from mmssl_dist.report.page import Shown, page, stamp_of
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import fingerprint, open_location, require_manifest

REPORT = "report.html"
_FORMAT = 3  # since 3: images of items
_KINDS = {
    "dataset": "prepare",
    "partitions": "partition",
    "training": "train",
    "evaluation": "evaluate",
    "export": "export",
}
_PACKAGES = ("torch", "ray", "dgl", "deepspeed", "faiss-cpu", "pyarrow", "numpy")


def write_report(url: str, storage: Storage) -> str:
    """Write the report of an evaluated and exported run beside its artifacts; returns its URL.

    Raises:
        InputError: a stage has published nothing, or the titles or images of items that the job names cannot
            be read.
        ArtifactError: a file is not what its manifest says.
    """
    output = open_location(url, storage)
    manifests = {kind: require_manifest(output / kind, kind, command) for kind, command in _KINDS.items()}
    text = (output / "job.yaml").read_bytes().decode()
    job = read_job(text, (output / "job.yaml").url)
    titles, images = find_titles(job), find_images(job)
    stamp = fingerprint(
        "report",
        _FORMAT,
        __version__,
        text,
        {kind: m.fingerprint for kind, m in manifests.items()},
        [(file.name, file.size, file.modified) for file in (*titles, *images)],
    )
    target = output / REPORT
    known = ITEM_PLACE not in (
        job.data.images or ""
    )  # else which images are shown is not known before they are sought
    if known and target.exists() and stamp_of(target.read_bytes().decode(errors="replace")) == stamp:
        return target.url
    facts = {kind: manifest.facts for kind, manifest in manifests.items()}
    findings = find(open_run(url, storage), int(facts["training"]["metric"].split("@")[1]))
    items = [item for sample in findings.samples for item in (*sample.history, *sample.recommended)]
    labels = Shown(read_titles(job.data, titles, items), read_images(job, images, items))
    target.write_bytes(page(output.url, facts, findings, labels, text, _versions(), stamp).encode())
    return target.url


def _versions() -> dict[str, str]:
    found = {"mmssl-dist": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed here"
    return found
