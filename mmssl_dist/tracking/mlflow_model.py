"""The exported run as a version of a model in MLflow's registry, which ``mlflow.pyfunc`` loads and asks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mmssl_dist import __version__
from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.config.training_sections import Excluded
from mmssl_dist.data.columns import HELD_OUT, USER_ID
from mmssl_dist.graph import names
from mmssl_dist.serving import pyfunc as loader
from mmssl_dist.serving.run import Run, open_run
from mmssl_dist.serving.run_facts import excluded_by
from mmssl_dist.storage import Location, Manifest, RunFolder, downloads_folder, open_location, publish
from mmssl_dist.storage.export_names import ITEMS, NEW_ITEMS, RECOMMENDATIONS, SCORES

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

_EXPORT = "mmssl.export"  # tag of a version: fingerprint of the export that it holds
_DATA = "run"


def register_model(client: MlflowClient, job: Job, run_id: str) -> None:
    """Make the export a version of ``tracking.registered_model``, unless one holds it already.

    Args:
        run_id: of MLflow's run, which the version belongs to.
    """
    name = job.tracking.registered_model
    assert name is not None, "a job that names no model registers none"
    from mlflow.exceptions import MlflowException

    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name)
    fingerprint = RunFolder.of(job).export.require().fingerprint
    # A job that is run again with nothing to do makes no version.
    versions = client.search_model_versions(f"name = '{name}'")
    if any(version.tags.get(_EXPORT) == fingerprint for version in versions):
        return
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name=_safe(name), source_run_id=run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="mmssl-mlflow-") as folder:
            _save(job, Path(folder), run_id=run_id, model_id=model.model_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        client.finalize_logged_model(model.model_id, "READY")
        client.create_model_version(
            name, model.artifact_location, run_id, tags={_EXPORT: fingerprint}, model_id=model.model_id
        )
    except BaseException:
        # Or every attempt would leave one behind.
        with suppress(MlflowException):  # of a server that is gone, too: what went wrong first is raised
            client.delete_logged_model(model.model_id)
        raise


def _save(job: Job, folder: Path, *, run_id: str, model_id: str) -> None:
    """Write the model's files to ``folder``/model."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    data = folder / _DATA
    run = RunFolder.of(job)
    export = run.export.require()
    _copy(run.export.location, export, data / "export", _of_lists)
    of_known = partial(_of_known, exclude=excluded_by(export.facts))
    _copy(run.partitions.location, run.partitions.require(), data / "partitions", of_known)
    opened = open_run(str(data))
    pyfunc.save_model(
        str(folder / "model"),
        loader_module=loader.__name__,
        data_path=str(data),
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        # Given, as MLflow would find them by loading the model in another process.
        pip_requirements=[f"mmssl-dist=={__version__}"],
        signature=_signature(opened),
        input_example=pd.DataFrame(
            {USER_ID: [loader.plain_id(user) for user in opened.users.at(np.arange(1))]}
        ),
    )


def _copy(source: Location, manifest: Manifest, target: Path, is_needed: Callable[[str], bool]) -> None:
    """Publish links to the needed files of an artifact; what reads them finds the same facts."""
    files = {name: record for name, record in manifest.files.items() if is_needed(name)}
    cache = downloads_folder()
    for name, record in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        # MLflow copies what a link leads to: one copy less of a large file.
        (target / name).symlink_to((source / name).localize(cache, record).absolute())
    publish(
        open_location(str(target), Storage()),
        Manifest(manifest.kind, manifest.fingerprint, manifest.facts, files),
    )


def _of_lists(name: str) -> bool:
    """Whether lists are made with a file of the export."""
    return not name.startswith(f"{RECOMMENDATIONS}/") and name != NEW_ITEMS


def _of_known(name: str, exclude: Excluded) -> bool:
    """Whether a file of the partitions holds interactions that lists leave out."""
    held_out = [file for split in HELD_OUT for file in names.held_out(split)] if exclude == "known" else []
    return Path(name).name in (names.INDPTR, names.NEIGHBOURS, *held_out)


def _signature(run: Run) -> ModelSignature:
    """What the model takes and answers. Ids that are no numbers are taken as text."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    def type_of(ids: pa.Array) -> DataType:
        return DataType.long if pa.types.is_int64(ids.type) else DataType.string

    user = ColSpec(type_of(run.users.array), USER_ID)
    lists = [
        ColSpec(Array(type_of(run.items.array)), ITEMS),
        ColSpec(Array(DataType.float), SCORES),
    ]
    types = {loader.LENGTH: DataType.long, loader.EXCLUDE_SEEN: DataType.boolean}
    params = [ParamSpec(name, types[name], value) for name, value in loader.DEFAULTS.items()]
    return ModelSignature(Schema([user]), Schema([user, *lists]), ParamSchema(params))


def _safe(name: str) -> str:
    """``name`` without what MLflow refuses in that of a logged model."""
    return "".join("-" if letter in "/:.%\"'" else letter for letter in name)
