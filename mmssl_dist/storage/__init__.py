"""Files by URL, and artifacts that are complete exactly when their manifest exists."""

from mmssl_dist.storage.cache import downloads_folder
from mmssl_dist.storage.content import FileRecord
from mmssl_dist.storage.location import Location
from mmssl_dist.storage.manifest import (
    Manifest,
    begin,
    fingerprint,
    in_shares,
    publish,
    read_manifest,
    require_intact,
    require_manifest,
    require_whole,
)
from mmssl_dist.storage.opening import open_location
from mmssl_dist.storage.run_folder import RunFolder, StageFolder
from mmssl_dist.storage.s3 import require_answer

__all__ = [
    "FileRecord",
    "Location",
    "Manifest",
    "RunFolder",
    "StageFolder",
    "begin",
    "downloads_folder",
    "fingerprint",
    "in_shares",
    "open_location",
    "publish",
    "read_manifest",
    "require_answer",
    "require_intact",
    "require_manifest",
    "require_whole",
]
