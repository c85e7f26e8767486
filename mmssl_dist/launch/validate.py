"""The checks of `validate`: the YAML, and the raw files in spite of its problems; all problems at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from mmssl_dist.config import Job
from mmssl_dist.config.candidates import check_search
from mmssl_dist.config.load import examine_job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.split_labels import with_labelled_split
from mmssl_dist.errors import ConfigError, Problems
from mmssl_dist.export.chosen_users import chosen_users
from mmssl_dist.graph.installed_dgl import check_dgl
from mmssl_dist.launch.earlier_run import check_inputs, check_start, warn_of_overlap
from mmssl_dist.launch.input_check import InputOverview, check_values
from mmssl_dist.launch.list_table import LIST_TABLE, check_list_table
from mmssl_dist.launch.preflight import (
    check_data,
    check_headers,
    check_local_folder,
    check_output_folder,
    resolved,
)


def validated(path: Path, overrides: Iterable[str]) -> tuple[Job, InputOverview, int]:
    """The job in the file ``path``, what was seen of its raw files, and how many there are.

    Raises:
        InputError: the YAML or the raw files have problems; names all that can be seen.
    """
    examined = examine_job(path, overrides)
    problems = Problems()
    if examined.problems:
        problems.errors.append(ConfigError(examined.problems, str(path)))
    # Nothing is known of the files then, and the YAML's problems alone are worth showing.
    if examined.job is None:
        problems.raise_all(str(path))
    assert examined.job is not None
    job = resolved(examined.job)
    files, overview = None, None
    if examined.data_agrees:
        files = problems.attempt(lambda: check_data(job))
    else:  # headers and values say nothing while the settings that read them contradict each other
        problems.attempt(lambda: find_files(job))
    if files is not None:
        # A file without a header is named by ``check_headers``
        job = Problems().attempt(partial(with_labelled_split, job, files.interactions)) or job
        # Values are read by columns and types: with a wrong header their problems would all be the header's.
        headers_hold = problems.passes(partial(check_headers, job, files))
        if headers_hold and not examined.problems:
            overview = problems.attempt(partial(check_values, job, files))
    if not examined.problems:
        problems.attempt(lambda: check_output_folder(job))
        if problems.passes(lambda: check_start(job)) and overview is not None and overview.whole:
            problems.attempt(partial(_check_inputs, job, overview))
        problems.attempt(lambda: check_dgl(job))
        problems.attempt(lambda: chosen_users(job))
        problems.attempt(lambda: check_list_table(job))
        table = job.export.table
        if table is not None:
            problems.attempt(partial(check_local_folder, table.path, job.storage, LIST_TABLE))
        if job.search.space:
            problems.attempt(lambda: check_search(job))
    problems.raise_all(str(path))
    warn_of_overlap(job)
    assert files is not None
    assert overview is not None
    return job, overview, len(files.all())


def _check_inputs(job: Job, overview: InputOverview) -> None:
    # Columns of features are encoded as the earlier run has encoded them, so their width is its
    widths = {
        name: width for name, width in overview.widths.items() if not job.data.modalities[name].features
    }
    check_inputs(job, (overview.user_id_type, overview.item_id_type), widths)
