"""Filesystems for s3 URLs: pyarrow's, or s3fs where credentials have to be assumed, fetched or renewed.

pyarrow reads faster but does not know every kind of profile and does not renew all it knows; s3fs has
botocore's chain. Either way credentials are looked up on the machine that uses them, and none is kept in a
location.
"""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import StorageError
from mmssl_dist.storage.lent_streams import LendingHandler

# botocore's own limits are a minute, times the retries: a wrong endpoint would look like a hang.
CONNECT_SECONDS = 5.0
_READ_SECONDS = 15.0
_BLOCK_BYTES = 1 << 23
# Settings of a profile whose credentials are not simply written down
_RENEWED = (
    "role_arn",
    "credential_process",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
    "login_session",
)


def s3_filesystem(storage: Storage) -> pafs.FileSystem:
    """A filesystem for the buckets that ``storage`` reaches.

    Raises:
        StorageError: AWS_PROFILE names no profile, or the configuration cannot be read.
    """
    return _through_s3fs(storage) if _renewed(storage) else _through_pyarrow(storage)


def require_answer(storage: Storage) -> None:
    """Check that something listens at ``storage.endpoint``, once; a client would try for a minute.

    Raises:
        StorageError: nothing does.
    """
    # Amazon's own endpoints answer; a check would only repeat what the first request does.
    if storage.endpoint is None:
        return
    parts = urlsplit(storage.endpoint)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise StorageError(
            "storage.endpoint",
            storage.endpoint,
            f"a server must answer there ({error})",
            "Check the address, and the network between here and there.",
        ) from error


def _renewed(storage: Storage) -> bool:
    """Whether credentials come from something that only botocore's chain resolves and renews for sure."""
    if storage.anonymous or "AWS_ACCESS_KEY_ID" in os.environ:  # what both chains look at first
        return False
    # Tokens of service accounts last an hour; a training lasts longer.
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        return True
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        profile = Session().get_scoped_config()
    except BotoCoreError as error:
        raise StorageError(
            "AWS_PROFILE",
            os.environ.get("AWS_PROFILE", "default"),
            f"it must name a profile ({error})",
            "Correct it, or the configuration file.",
        ) from error
    return any(name in profile for name in _RENEWED)


def _through_pyarrow(storage: Storage) -> pafs.FileSystem:
    options: dict[str, object] = {
        "anonymous": storage.anonymous,
        "force_virtual_addressing": not storage.path_style and storage.endpoint is not None,
        # Attempts count the first try, and the setting counts what comes after it.
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=storage.retries + 1),
        # A mistyped bucket is an error, not a new bucket.
        # A misspelt bucket must be an error and not a new bucket.
        "allow_bucket_creation": False,
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": _READ_SECONDS,
    }
    if storage.region:
        options["region"] = storage.region
    if storage.endpoint:
        endpoint = urlsplit(storage.endpoint)
        options |= {"scheme": endpoint.scheme, "endpoint_override": endpoint.netloc}
    return pafs.S3FileSystem(**options)


def _through_s3fs(storage: Storage) -> pafs.FileSystem:
    from s3fs import S3FileSystem

    client = {"endpoint_url": storage.endpoint, "region_name": storage.region}
    settings = {
        "retries": {"total_max_attempts": storage.retries + 1, "mode": "standard"},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "s3": {
            "addressing_style": "path" if storage.path_style else "virtual" if storage.endpoint else "auto"
        },
    }
    filesystem = S3FileSystem(
        client_kwargs={name: value for name, value in client.items() if value is not None},
        config_kwargs=settings,
        default_block_size=_BLOCK_BYTES,
        use_listings_cache=False,  # other machines write too
        skip_instance_cache=True,  # the environment may name other credentials by now
    )
    return pafs.PyFileSystem(LendingHandler(filesystem))
