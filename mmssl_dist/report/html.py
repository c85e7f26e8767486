"""Writes ``report.html`` of a run, unless the one that is there was made from the same."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from mmssl_dist import __version__
from mmssl_dist.config import read_job
from mmssl_dist.config.tree import Storage
from mmssl_dist.data.files import find_titles
from mmssl_dist.data.titles import read_titles
from mmssl_dist.report.findings import find
from mmssl_dist.report.page import page, stamp_of
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import fingerprint, open_location, require_manifest

REPORT = "report.html"
_FORMAT = 2  # since 2: contributions of modalities, titles of items
_KINDS = {"dataset": "prepare", "partitions": "partition", "training": "train", "evaluation": "evaluate",
          "export": "export"}  # fmt: skip
_PACKAGES = ("torch", "ray", "dgl", "deepspeed", "faiss-cpu", "pyarrow", "numpy")


def write_report(url: str, storage: Storage) -> str:
    """Write the report of an evaluated and exported run beside its artifacts; returns its URL.

    Raises:
        InputError: a stage has published nothing, or the titles of items that the job names cannot be read.
        ArtifactError: a file is not what its manifest says.
    """
    output = open_location(url, storage)
    manifests = {kind: require_manifest(output / kind, kind, command) for kind, command in _KINDS.items()}
    text = (output / "job.yaml").read_bytes().decode()
    job = read_job(text, (output / "job.yaml").url)
    titles = find_titles(job)
    stamp = fingerprint("report", _FORMAT, __version__, text, {kind: m.fingerprint for kind, m in manifests.items()},
                        [(file.name, file.size, file.modified) for file in titles])  # fmt: skip
    target = output / REPORT
    if target.exists() and stamp_of(target.read_bytes().decode(errors="replace")) == stamp:
        return target.url
    facts = {kind: manifest.facts for kind, manifest in manifests.items()}
    findings = find(open_run(url, storage), int(facts["training"]["metric"].split("@")[1]))
    shown = [item for sample in findings.samples for item in (*sample.history, *sample.recommended)]
    named = read_titles(job.data, titles, shown)
    target.write_bytes(page(output.url, facts, findings, named, text, _versions(), stamp).encode())
    return target.url


def _versions() -> dict[str, str]:
    found = {"mmssl-dist": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed here"
    return found
