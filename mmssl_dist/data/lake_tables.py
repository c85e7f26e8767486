"""Delta Lake and Iceberg tables: the Parquet files of their current version, which the usual reader reads.

A folder of such a table also holds files that were replaced or deleted from; only its log says which count.
"""

from __future__ import annotations

from mmssl_dist.data.delta_tables import delta_files, is_delta
from mmssl_dist.data.iceberg_tables import current_metadata, iceberg_files
from mmssl_dist.data.table_log import TableFile
from mmssl_dist.storage import Location


def table_files(folder: Location) -> list[TableFile] | None:
    """The files of the current version of the Delta Lake or Iceberg table in ``folder``, sorted by path; None
    where it is another folder.

    Raises:
        InputError: the package that reads the log is missing, or the log cannot be read, or it says of rows
            that they are deleted without their files having been rewritten.
    """
    if is_delta(folder):
        files = delta_files(folder)
    elif (metadata := current_metadata(folder)) is not None:
        files = iceberg_files(folder, metadata)
    else:
        return None
    return sorted(files, key=lambda file: file.below)
