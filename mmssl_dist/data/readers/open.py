"""Chooses the reader for a job's layout and settles column names, before any row is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from mmssl_dist.config.data_sections import Columns, Data, IdTypes, Modality
from mmssl_dist.data.columns import ITEM_ID, RATING, SPLIT, TIME, USER_ID
from mmssl_dist.data.files import (
    CSV_SUFFIXES,
    JSON_SUFFIXES,
    PARQUET_SUFFIXES,
    TSV_SUFFIXES,
    RawFile,
    RawFiles,
)
from mmssl_dist.data.readers.base import ColumnSummaries, FeatureSource, InteractionSource
from mmssl_dist.data.readers.delimited import header
from mmssl_dist.data.readers.id_types import IdSummary, agreed_type, joined_ids
from mmssl_dist.data.readers.last_block import last_blocks
from mmssl_dist.data.readers.numbered import open_numbered
from mmssl_dist.data.readers.parquet import (
    PIECE_ROWS,
    ParquetInteractions,
    last_groups,
    read_footers,
    require_column,
    require_columns,
    row_group_pieces,
)
from mmssl_dist.data.readers.parquet_columns import summarize_parquet
from mmssl_dist.data.readers.raw_content import open_content
from mmssl_dist.data.readers.release import ReleaseInteractions
from mmssl_dist.data.readers.text import TextInteractions, bare, summarize_text
from mmssl_dist.data.readers.text_vectors import open_text_vectors
from mmssl_dist.data.readers.times import agreed_format
from mmssl_dist.data.readers.vectors import open_vectors
from mmssl_dist.errors import InputError

EMBEDDED = Modality(vector="vector", item=ITEM_ID)
"""The columns of what the stage embed publishes."""
TIME_METHODS = ("leave_last_out", "temporal")
FORMATS = {
    "Parquet": PARQUET_SUFFIXES,
    "CSV": CSV_SUFFIXES,
    "TSV": TSV_SUFFIXES,
    "JSON lines": JSON_SUFFIXES,
}
"""Endings of files by the format of tables; interactions are of one format."""
INTER_NAMES = {
    USER_ID: ("user_id", "userID", "user", "uid"),
    ITEM_ID: ("item_id", "itemID", "item", "iid"),
    TIME: ("timestamp", "time"),
    SPLIT: ("x_label",),
}
"""Names that RecBole and MMRec give their columns."""


@dataclass(frozen=True)
class Sources:
    """The readers of a job: interactions, and features by modality; their item ids have one type."""

    interactions: InteractionSource
    features: dict[str, FeatureSource]


def open_sources(data: Data, files: RawFiles, whole: bool = True) -> Sources:
    """The readers of a job's interactions and features, with types that hold for all files.

    Args:
        data: the job's section.
        files: its raw files.
        whole: all ids and times in delimited text are looked at, as has to be done before rows are used;
            otherwise those with which each file begins and ends.

    Raises:
        InputError: a file cannot be used, columns are missing, or ids or times of two files do not agree.
    """
    # Features first: where interactions are delimited text, the features' types decide those of the ids
    features = open_features(data, files)
    # 7 and "7" are one item or two, depending on the other file: a column of text alone does not show which.
    item_ids = _feature_ids(data, features)
    interactions = open_interactions(data, files.interactions, item_ids, whole)
    item_type = interactions.item_type
    return Sources(
        interactions, {name: source.with_item_type(item_type) for name, source in features.items()}
    )


def open_interactions(
    data: Data, files: tuple[RawFile, ...], feature_ids: IdSummary | None = None, whole: bool = True
) -> InteractionSource:
    """The reader of a job's interactions, whose item ids agree with ``feature_ids``.

    Raises:
        InputError: as ``open_sources``.
    """
    method = data.split.method
    if data.layout == "mmssl":
        assert method not in TIME_METHODS
        release = ReleaseInteractions(files=files, given=method == "given")
        if data.columns.types != IdTypes():
            raise InputError(
                "data.columns.types", "a type", "ids of the layout mmssl are row numbers", "Remove it."
            )
        agreed_type(release.item_ids, None, "", feature_ids)
        return release
    if data.layout == "inter":
        return _open_text(
            data=data, files=files, names=inter_names(data, files[0]), feature_ids=feature_ids, whole=whole
        )
    names = {USER_ID: data.columns.user, ITEM_ID: data.columns.item}
    assert data.columns.time or method not in TIME_METHODS
    if data.columns.time:
        names[TIME] = data.columns.time
    if method == "given":
        assert data.columns.split
        names[SPLIT] = data.columns.split
    if data.columns.rating:
        names[RATING] = data.columns.rating
    if _require_one_format(files, "data.interactions") == "Parquet":
        return _open_parquet(data=data, files=files, names=names, feature_ids=feature_ids, whole=whole)
    return _open_text(data=data, files=files, names=names, feature_ids=feature_ids, whole=whole)


def open_features(data: Data, files: RawFiles) -> dict[str, FeatureSource]:
    """The reader of each modality, with item ids of its own type.

    Raises:
        InputError: a feature file cannot be used, or has too few rows.
    """
    sources: dict[str, FeatureSource] = {}
    for name, modality in data.modalities.items():
        if name in files.content:
            key = f"data.modalities.{name}"
            sources[name] = open_content(
                key=key,
                modality=modality,
                content=files.content[name],
                item_setting=data.columns.types.item,
                null_values=data.columns.null_values,
            )
            continue
        columns = EMBEDDED if modality.has_content else modality
        key = f"data.modalities.{name}.file"
        sources[name] = open_feature_files(key, files.features[name], columns, data.columns.types.item)
    # Here and not by the reader: only all modalities together show that one of them is short.
    _require_rows(sources)
    return sources


def open_feature_files(
    key: str, files: tuple[RawFile, ...], modality: Modality, item_setting: str | None
) -> FeatureSource:
    """The reader of the vectors in ``files``.

    Args:
        key: the YAML path that names the files.
        files: of one modality.
        modality: its settings.
        item_setting: data.columns.types.item.

    Raises:
        InputError: a file cannot be used, or there are files of several formats.
    """
    if is_numbered(modality):
        if len(files) > 1:
            raise InputError(
                key,
                f"{len(files)} files",
                "row-numbered features (.npy) are one file",
                "Join them, or use Parquet with item ids.",
            )
        return open_numbered(files[0])
    of_text = _require_one_format(files, key) != "Parquet"
    return (open_text_vectors if of_text else open_vectors)(files, modality, item_setting)


def is_numbered(modality: Modality) -> bool:
    """Whether the features are rows of a matrix, which belong to items numbered from 0."""
    return modality.file is not None and modality.file.endswith(".npy")


def _require_rows(sources: dict[str, FeatureSource]) -> None:
    """Raise an InputError unless all row-numbered features have the same number of rows."""
    numbered = [source for source in sources.values() if source.rows is not None]
    fullest = max(numbered, key=lambda source: source.rows or 0, default=None)
    for source in numbered:
        if fullest is not None and source.rows != fullest.rows:
            raise InputError(
                source.files[0].name,
                f"{source.rows} rows",
                f"row-numbered features have one row per item, {fullest.rows} as in {fullest.files[0].name}",
                "Write the missing rows, or use Parquet for a modality that some items lack.",
            )


def _feature_ids(data: Data, features: dict[str, FeatureSource]) -> IdSummary | None:
    """What all features show of item ids.

    Raises:
        InputError: two modalities have ids of different types.
    """
    if not features:
        return None
    return joined_ids((source.item_ids for source in features.values()), data.columns.types.item)


def _open_text(
    data: Data,
    files: tuple[RawFile, ...],
    names: dict[str, str],
    feature_ids: IdSummary | None,
    whole: bool,
) -> TextInteractions:
    last = None if whole else last_blocks(files)
    summaries = summarize_text(files, names, data.columns.null_values, last)
    return TextInteractions(
        files=files,
        names=names,
        types=_types(data, summaries, feature_ids),
        times=agreed_format(summaries.times) if TIME in names else None,
        null_values=data.columns.null_values,
        last_pieces=() if last is None else last.pieces,
        left_out=0 if last is None else last.left_out,
    )


def _open_parquet(
    data: Data,
    files: tuple[RawFile, ...],
    names: dict[str, str],
    feature_ids: IdSummary | None,
    whole: bool,
) -> ParquetInteractions:
    footers = read_footers(files)
    for file, footer in zip(files, footers, strict=True):
        require_columns(file, footer.schema, names.values())
        for raw in names.values():
            require_column(file, footer.schema, raw)  # one of that name
    settings = {USER_ID: data.columns.types.user, ITEM_ID: data.columns.types.item}
    summaries = summarize_parquet(files=files, footers=footers, names=names, settings=settings, whole=whole)
    return ParquetInteractions(
        files=files,
        names=names,
        types=_types(data, summaries, feature_ids),
        times=agreed_format(summaries.times) if TIME in names else None,
        pieces=row_group_pieces(footers, PIECE_ROWS),
        last_pieces=last_groups(footers),
    )


def _types(data: Data, summaries: ColumnSummaries, feature_ids: IdSummary | None) -> dict[str, pa.DataType]:
    key, types = "data.columns.types", data.columns.types
    return {
        USER_ID: agreed_type(summaries.ids[USER_ID], types.user, f"{key}.user"),
        ITEM_ID: agreed_type(summaries.ids[ITEM_ID], types.item, f"{key}.item", feature_ids),
    }


def inter_names(data: Data, file: RawFile) -> dict[str, str]:
    """Column names of an ``.inter`` file: those the job changes, else the first customary one that is
    there."""
    method = data.split.method
    settings = {USER_ID: "user", ITEM_ID: "item"}
    if method in TIME_METHODS or data.columns.time is not None or data.window is not None:
        settings[TIME] = "time"
    if method == "given":
        settings[SPLIT] = "split"
    available = [*map(bare, header(file)), *file.keys]
    names = {RATING: data.columns.rating} if data.columns.rating else {}
    for name, field in settings.items():
        chosen = getattr(data.columns, field)
        # RecBole's own name first, then those of other makers; an error then names what is usual.
        customary = next((usual for usual in INTER_NAMES[name] if usual in available), INTER_NAMES[name][0])
        names[name] = customary if chosen == getattr(Columns(), field) else chosen
    return names


def _require_one_format(files: tuple[RawFile, ...], key: str) -> str:
    """The format of all ``files``, a key of ``FORMATS``; ``key`` is the YAML path that names them.

    Raises:
        InputError: there are files of two formats; counts those of each and names one.
    """
    by_format: dict[str, list[RawFile]] = {}
    for file in files:
        name = next(name for name, ends in FORMATS.items() if file.location.path.endswith(ends))
        by_format.setdefault(name, []).append(file)
    if len(by_format) > 1:
        counts = (
            f"{len(some)} of {name}, such as {PurePosixPath(some[0].location.path).name}"
            for name, some in by_format.items()
        )
        raise InputError(
            key,
            f"files of several formats: {'; '.join(counts)}",
            "the files that it names have one format",
            "Name those of one format by a glob such as events/*.parquet, or convert the others.",
        )
    return next(iter(by_format))
