"""Sizes of a graph that is not prepared yet, counted in its raw files as `validate` counts them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mmssl_dist.config import Job
from mmssl_dist.data.files import PARQUET_SUFFIXES, RawFile, RawFiles
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.parquet import read_footers
from mmssl_dist.data.split_labels import with_labelled_split
from mmssl_dist.embedding.inputs import fits_of_start
from mmssl_dist.errors import InputError, Problems
from mmssl_dist.launch import input_check
from mmssl_dist.launch.preflight import check_data
from mmssl_dist.planning.sizes import Sizes, sizes_of_facts

_SOURCE = "counted in the raw files"


def raw_sizes(job: Job, widths: Mapping[str, int]) -> Sizes:
    """What prepare would count, by its own passes in this process.

    Args:
        widths: of modalities, for those whose width the raw files do not show.

    Raises:
        InputError: the raw files cannot be read, are more than are read whole, or do not show the width of a
            modality; names what is known, and the options to give.
    """
    unknown = [name for name in widths if name not in job.data.modalities]
    if unknown:
        raise InputError(
            "--modality",
            ", ".join(unknown),
            f"the job's modalities are {', '.join(job.data.modalities)}",
            "Give these, or all of --users, --items, --interactions and --modality.",
        )
    problems = Problems()
    files = problems.attempt(partial(check_data, job))
    if files is None:
        raise _without_sizes(job, _reason(problems), {}, widths)
    job = problems.attempt(partial(with_labelled_split, job, files.interactions)) or job
    if not input_check.read_whole(files):
        raise _too_large(job, files, widths)
    overview = problems.attempt(partial(input_check.check_values, job, files))
    fits = problems.attempt(partial(fits_of_start, job))
    if overview is None or fits is None:
        raise _without_sizes(job, _reason(problems), {}, widths)
    of_start = {name: fit.dimension for name, fit in fits.items()}
    known = {**overview.widths, **of_start, **widths}
    lacking = [name for name in job.data.modalities if name not in known]
    if lacking:
        raise InputError(
            "--modality",
            f"no width of {', '.join(lacking)}",
            "the encoder of a modality knows how many values its vectors have, the raw files do not",
            f"Give {' '.join(f'--modality {name}=WIDTH' for name in lacking)}, set the modality's dimension, "
            "or run `mmssl-dist prepare` first.",
        )
    in_order = {name: known[name] for name in job.data.modalities}
    return sizes_of_facts(overview.facts, in_order, _SOURCE)


def _too_large(job: Job, files: RawFiles, widths: Mapping[str, int]) -> InputError:
    """The error for files that are not counted here, with what their headers show."""
    problems = Problems()
    sources = problems.attempt(partial(open_sources, job.data, files, whole=False))
    if sources is None:
        return _without_sizes(job, _reason(problems), {}, widths)
    counts = {}
    rows = [source.rows for source in sources.features.values() if source.rows is not None]
    if rows:  # the ids are their numbers
        counts["items"] = max(rows)
    if (interactions := _parquet_rows(files.interactions)) is not None:
        counts["interactions"] = interactions
    of_files = input_check.known_widths(job, files, sources, fits={})
    shown = [
        f"{number:,} {'rows of ' if name == 'interactions' else ''}{name}" for name, number in counts.items()
    ]
    shown += [f"{name} {width} wide" for name, width in of_files.items()]
    most = input_check.WHOLE_BYTES
    total = sum(file.size for file in files.of_dataset())
    why = f"its raw files have {total:,} bytes, of which at most {most:,} are counted here"
    headers = f"; their headers show {', '.join(shown)}" if shown else ""
    return _without_sizes(job, why + headers, counts, {**of_files, **widths})


def _without_sizes(job: Job, reason: str, counts: Mapping[str, int], widths: Mapping[str, int]) -> InputError:
    """The error that asks for sizes, with those that are known filled in."""
    numbers = [f"--{name} {counts.get(name, 'N')}" for name in ("users", "items", "interactions")]
    modalities = [f"--modality {name}={widths.get(name, 'WIDTH')}" for name in job.data.modalities]
    return InputError(
        "options",
        "no sizes",
        f"nothing of this job is published in {job.output} yet, and {reason}",
        f"Give {' '.join((*numbers, *modalities))}, or run `mmssl-dist prepare` first.",
    )


def _reason(problems: Problems) -> str:
    first, *others = problems.lines()
    more = f" (and {len(others)} more)" if others else ""
    return f"its raw files cannot be counted: {first.rstrip('.')}{more}"


def _parquet_rows(files: tuple[RawFile, ...]) -> int | None:
    """Rows of files of interactions that say how many they have."""
    if not all(file.location.path.endswith(PARQUET_SUFFIXES) for file in files):
        return None
    return sum(sum(footer.group_rows) for footer in read_footers(list(files)))
