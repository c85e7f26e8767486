"""The users that get a list: all, or those that the file ``export.users`` names."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import USER_ID
from mmssl_dist.data.ids import concatenated
from mmssl_dist.errors import InputError
from mmssl_dist.serving.id_file import open_id_file
from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.storage import open_location

_SETTING = "export.users"


@dataclass(frozen=True)
class ChosenUsers:
    """Users by their external ids, each once; ``ids`` is None where all are meant."""

    ids: pa.Array | None
    _converted: dict[pa.DataType, pa.Array] = field(default_factory=dict, compare=False)

    @property
    def named(self) -> int:
        """How many the file names; 0 where all users are meant."""
        return 0 if self.ids is None else len(self.ids)

    def positions(self, part_users: pa.Array) -> np.ndarray:
        """int64, ascending: those of ``part_users`` that are chosen."""
        if self.ids is None:
            return np.arange(len(part_users))
        users = Ids(part_users, "user")
        if part_users.type not in self._converted:  # once for all partitions
            self._converted[part_users.type] = users.as_ids(self.ids)
        named = self._converted[part_users.type]
        matches = pc.is_in(concatenated([users.plain]), value_set=named, skip_nulls=True)
        return np.flatnonzero(matches.to_numpy(zero_copy_only=False))


def chosen_users(job: Job) -> ChosenUsers:
    """The users of ``export.users``, read whole: every process that makes lists holds their ids.

    Raises:
        InputError: the file cannot be read, has values that are no ids, or names no user.
    """
    if job.export.users is None:
        return ChosenUsers(None)
    info = open_location(job.export.users, job.storage).info()
    names = (USER_ID, job.data.columns.user)
    return _read(job.export.users, job.storage, names, size=info.size, modified=info.mtime_ns)


@lru_cache(maxsize=1)
def _read(
    url: str, storage: Storage, names: tuple[str, ...], size: int | None, modified: int | None
) -> ChosenUsers:
    """The file in the state that ``size`` and ``modified`` tell apart. It is kept, since a process makes the
    lists of many partitions, and a command checks the file before it begins."""
    file = open_id_file(open_location(url, storage), names, _SETTING)
    ids = file.ids()
    if not len(ids):
        raise InputError(
            file.file.name,
            "no id",
            f"{_SETTING}: a file of users must name at least one",
            "Fill in the column.",
        )
    return ChosenUsers(ids)
