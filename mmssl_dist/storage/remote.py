"""What each scheme of a URL is reached with.

pyarrow's own filesystems where it has one; fsspec's for web servers and the Hugging Face hub. Credentials
come from the standard chain of each cloud, on the machine that uses them: no setting takes a key, and no
location keeps one.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import StorageError
from mmssl_dist.storage.lent_streams import LendingHandler
from mmssl_dist.storage.s3 import s3_filesystem

_BUCKETS = ("s3", "gs", "abfs", "abfss")
_WEB = ("https", "http")
_READ_ONLY = ("hdfs", "hf", *_WEB)
SCHEMES = (*_BUCKETS, *_READ_ONLY)
"""Beside file://; the order is that of messages."""
_FORMS = {
    "s3": ("bucket", "s3://bucket/key"),
    "gs": ("bucket", "gs://bucket/key"),
    "abfs": ("container", "abfs://container@account.dfs.core.windows.net/key"),
    "abfss": ("container", "abfss://container@account.dfs.core.windows.net/key"),
    "hdfs": ("name node", "hdfs://host:8020/path"),
    "hf": ("repository", "hf://datasets/owner/name/path"),
    "https": ("server", "https://server/path"),
    "http": ("server", "http://server/path"),
}
_RETRY_SECONDS = 5.0  # of gs, for each of storage.retries


def scheme_of(url: str) -> str:
    """Such as "s3"."""
    return url.partition("://")[0]


def has_buckets(scheme: str) -> bool:
    """Whether the first part of a path is a bucket or container, which has to exist."""
    return scheme in _BUCKETS


def is_read_only(scheme: str) -> bool:
    """Whether nothing can be written there."""
    return scheme in _READ_ONLY


def is_web(scheme: str) -> bool:
    """Whether it is a web server, which lists no folders."""
    return scheme in _WEB


def path_of(url: str) -> str:
    """The path of a remote ``url`` in its filesystem.

    Raises:
        StorageError: it names no bucket, container or server, or holds what a path cannot.
    """
    scheme, _, rest = url.partition("://")
    name, form = _FORMS[scheme]
    path = rest.rstrip("/")
    # A signed URL is a secret: it would stand in messages, manifests and job.yaml.
    if "?" in path:
        raise StorageError(
            url.partition("?")[0],
            "a query",
            f"such a URL has the form {form}",
            "Use the `storage` section for settings.",
        )
    first = path.partition("/")[0]
    if not first:
        raise StorageError(url, f"no {name}", f"an {scheme} URL must name a {name}", f"Write {form}.")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise StorageError(url, path, "a key must not have empty, . or .. parts", "Write the key out.")
    if scheme in _WEB and "@" in first:
        raise StorageError(
            f"{scheme}://{first.rpartition('@')[2]}",
            "a user before the server's name",
            "URLs must not contain credentials",
            "Use a storage that signs its requests.",
        )
    if scheme in _WEB:
        return f"{scheme}://{path}"
    if scheme == "hdfs":
        return f"/{path.partition('/')[2]}"
    if scheme in ("abfs", "abfss"):
        return "/".join((first.partition("@")[0], *path.split("/")[1:]))
    return path


def filesystem_of(url: str, storage: Storage) -> pafs.FileSystem:
    """The filesystem of a remote ``url``.

    Raises:
        StorageError: a package is missing, or a setting that the filesystem needs.
        OSError, pa.ArrowException: what the filesystem says.
    """
    return _filesystem(scheme_of(url), _authority(url), storage)


def same_filesystem_of(url: str, storage: Storage) -> pafs.FileSystem:
    """As ``filesystem_of``, opened once in a process for equal settings; credentials stay those of then."""
    return _once(scheme_of(url), _authority(url), storage)


def _authority(url: str) -> str:
    """What of a URL chooses the filesystem, beside its scheme: buckets share theirs."""
    scheme, _, rest = url.partition("://")
    return rest.partition("/")[0].rpartition("@")[2] if scheme in ("abfs", "abfss", "hdfs") else ""


def _filesystem(scheme: str, authority: str, storage: Storage) -> pafs.FileSystem:
    if scheme == "s3":
        return s3_filesystem(storage)
    if scheme == "gs":
        return _gcs(storage)
    if scheme in ("abfs", "abfss"):
        return _azure(authority, storage)
    if scheme == "hdfs":
        parts = urlsplit(f"//{authority}")
        return pafs.HadoopFileSystem(parts.hostname or "default", parts.port or 8020)
    return _hub() if scheme == "hf" else _web()


_once = cache(_filesystem)


def _gcs(storage: Storage) -> pafs.FileSystem:
    options: dict[str, object] = {"anonymous": storage.anonymous}
    if storage.endpoint:
        endpoint = urlsplit(storage.endpoint)
        options |= {"scheme": endpoint.scheme, "endpoint_override": endpoint.netloc}
    limit = timedelta(seconds=_RETRY_SECONDS * (storage.retries + 1))
    return pafs.GcsFileSystem(retry_time_limit=limit, **options)


def _azure(authority: str, storage: Storage) -> pafs.FileSystem:
    account = authority.partition(".")[0] if "." in authority else ""
    account = account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not account:
        raise StorageError(
            "abfs://",
            "no storage account",
            "it must be in the URL, abfs://container@account.dfs.core.windows.net/key, or in the variable "
            "AZURE_STORAGE_ACCOUNT_NAME",
            "Name the account.",
        )
    options: dict[str, str] = {}
    if storage.endpoint:
        endpoint = urlsplit(storage.endpoint)
        for service in ("blob", "dfs"):
            options |= {
                f"{service}_storage_authority": endpoint.netloc,
                f"{service}_storage_scheme": endpoint.scheme,
            }
    # Else Azure's default chain: variables of an identity, workload and managed identities, the command az.
    if key := os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        options["account_key"] = key
    elif token := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        options["sas_token"] = token
    return pafs.AzureFileSystem(account, **options)


def delete_folder(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a folder with all below it.

    Raises:
        FileNotFoundError: there is none; of Google's store, three attempts each met something that was listed
            and gone.
    """
    if not isinstance(filesystem, pafs.GcsFileSystem):
        filesystem.delete_dir(path)
        return
    for is_last in (False, False, True):
        try:
            # A folder that has no object of its own cannot be deleted there; without content it is gone.
            filesystem.delete_dir_contents(path, missing_dir_ok=True)
            return
        except FileNotFoundError:  # deleted by another process, or by a request that was sent again
            if is_last:
                raise


def _hub() -> pafs.FileSystem:
    try:
        from huggingface_hub import HfFileSystem
    except ImportError as error:
        raise StorageError(
            "hf://",
            "no package huggingface_hub",
            "it is needed to read the Hugging Face hub",
            "Install it: pip install 'mmssl-dist[hf]'.",
        ) from error
    filesystem = HfFileSystem(use_listings_cache=False, skip_instance_cache=True)
    return pafs.PyFileSystem(LendingHandler(filesystem))


def _web() -> pafs.FileSystem:
    from fsspec.implementations.http import HTTPFileSystem

    # A proxy of the environment is honoured, as by other programs.
    filesystem = HTTPFileSystem(client_kwargs={"trust_env": True}, skip_instance_cache=True)
    return pafs.PyFileSystem(LendingHandler(filesystem))
