"""Chooses the reader for a job's layout and settles column names, before any row is read."""

from __future__ import annotations

from mmssl_dist.config.data_sections import Columns, Data
from mmssl_dist.data.columns import ITEM_ID, SPLIT, TIME, USER_ID
from mmssl_dist.data.files import PARQUET_SUFFIXES, RawFile, RawFiles
from mmssl_dist.data.readers.base import FeatureSource, InteractionSource
from mmssl_dist.data.readers.numbered import open_numbered
from mmssl_dist.data.readers.parquet import open_parquet
from mmssl_dist.data.readers.release import ReleaseInteractions
from mmssl_dist.data.readers.text import bare, header, open_text
from mmssl_dist.data.readers.vectors import open_vectors
from mmssl_dist.errors import InputError

TIME_METHODS = ("leave_last_out", "temporal")
_INTER_NAMES = {
    USER_ID: ("user_id", "userID", "user", "uid"),
    ITEM_ID: ("item_id", "itemID", "item", "iid"),
    TIME: ("timestamp", "time"),
    SPLIT: ("x_label",),
}
"""Names that RecBole and MMRec give their columns."""


def open_interactions(data: Data, files: tuple[RawFile, ...]) -> InteractionSource:
    """The reader of a job's interactions.

    Raises:
        InputError: a header cannot be used.
    """
    method = data.split.method
    if data.layout == "mmssl":
        assert method not in TIME_METHODS
        return ReleaseInteractions(files, given=method == "given")
    if data.layout == "inter":
        return open_text(files, _inter_names(data, files[0], method), "\t")
    names = {USER_ID: data.columns.user, ITEM_ID: data.columns.item}
    assert data.columns.time or method not in TIME_METHODS
    if data.columns.time:
        names[TIME] = data.columns.time
    if method == "given":
        assert data.columns.split
        names[SPLIT] = data.columns.split
    if files[0].location.path.endswith(PARQUET_SUFFIXES):
        _require_alike(files, PARQUET_SUFFIXES)
        return open_parquet(files, names)
    tabs = (".tsv", ".tsv.gz")
    delimited = tabs if files[0].location.path.endswith(tabs) else (".csv", ".csv.gz")
    _require_alike(files, delimited)
    return open_text(files, names, "\t" if delimited == tabs else ",")


def open_features(data: Data, files: RawFiles, item_type: object) -> dict[str, FeatureSource]:
    """The reader of each modality; their item ids agree with ``item_type``, that of the interactions.

    Raises:
        InputError: a feature file cannot be used, has too few rows, or has ids of another type.
    """
    sources: dict[str, FeatureSource] = {}
    for name, modality in data.modalities.items():
        numbered = modality.file.endswith(".npy")
        if numbered and len(files.features[name]) > 1:
            raise InputError(
                f"data.modalities.{name}.file",
                f"{len(files.features[name])} files",
                "row-numbered features (.npy) are one file",
                "Join them, or use Parquet with item ids.",
            )
        sources[name] = (
            open_numbered(files.features[name][0])
            if numbered
            else open_vectors(files.features[name], modality)
        )
        if sources[name].item_type != item_type:
            means = "row numbers of a .npy are" if numbered else "its item ids are"
            raise InputError(
                f"data.modalities.{name}.file",
                f"{modality.file}: {means} {sources[name].item_type}",
                f"item ids have one type; the interactions' are {item_type}",
                "Write both with the same type" + (", or use Parquet with item ids." if numbered else "."),
            )
    counted = [source for source in sources.values() if source.rows is not None]
    if counted:
        fullest = max(counted, key=lambda source: source.rows or 0)
        for source in counted:
            if source.rows != fullest.rows:
                raise InputError(
                    source.files[0].name,
                    f"{source.rows} rows",
                    "row-numbered features have one row per "
                    f"item, {fullest.rows} as in {fullest.files[0].name}",
                    "Write the missing rows, or use Parquet for a modality that some items lack.",
                )
    return sources


def _inter_names(data: Data, file: RawFile, method: str) -> dict[str, str]:
    """Column names of an ``.inter`` file: those the job changes, else the first customary one that is
    there."""
    wanted = {USER_ID: "user", ITEM_ID: "item"}
    if method in TIME_METHODS or data.columns.time is not None:
        wanted[TIME] = "time"
    if method == "given":
        wanted[SPLIT] = "split"
    there = [bare(name) for name in header(file, "\t")]
    names = {}
    for name, field in wanted.items():
        chosen = getattr(data.columns, field)
        customary = next((known for known in _INTER_NAMES[name] if known in there), _INTER_NAMES[name][0])
        names[name] = customary if chosen == getattr(Columns(), field) else chosen
    return names


def _require_alike(files: tuple[RawFile, ...], suffixes: tuple[str, ...]) -> None:
    for file in files:
        if not file.location.path.endswith(suffixes):
            raise InputError(
                file.name,
                "another format",
                f"interaction files are all alike, here {suffixes[0]}",
                "Convert it, or name the files in data.interactions.",
            )
