"""What a refusal of Google's and Azure's stores, of HDFS, the hub or a web server means.

Amazon's are in ``s3_errors``. Clients bury codes in long texts, so all of it is searched.
"""

from __future__ import annotations

import re

from mmssl_dist.errors import without_secrets
from mmssl_dist.storage.s3_errors import REFUSAL, SILENCE, StorageProblem, searched_text

_GCS_PERMISSIONS = {
    "GetBucketMetadata": "storage.buckets.get",
    "ListObjects": "storage.objects.list",
    "GetObjectMetadata": "storage.objects.get",
    "ReadObject": "storage.objects.get",
    "InsertObjectMedia": "storage.objects.create",
    "CreateResumableUpload": "storage.objects.create",
    "UploadChunk": "storage.objects.create",
    "DeleteObject": "storage.objects.delete",
}
_SOURCES = {
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or run where a service account is attached; storage.anonymous "
    "for a public bucket.",
    "abfs": "Set AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or the variables of an identity, or run "
    "where one is attached.",
    "hf": "Set HF_TOKEN, or sign in with `hf auth login`.",
}
_CLIENTS = ("botocore.", "aiohttp.", "httpx.", "httpx2.", "huggingface_hub.")
_EXPIRED = re.compile(r"invalid_grant|ExpiredAuthenticationToken|[Tt]oken (?:has |is )?expired")
_NO_CREDENTIALS = re.compile(
    r"OAuth2 access token|DefaultAzureCredential|Failed to get token|LocalTokenNotFound|"
    r"Cannot open credentials|AuthenticationException"
)
_UNKNOWN = re.compile(
    r"UNAUTHENTICATED|(?:status code:?|HTTP Error|error '?)\s?401|401 Unauthorized|AuthenticationFailed|"
    r"InvalidAuthenticationInfo|\b401, message|Unauthorized"
)
_DENIED = re.compile(
    r"PERMISSION_DENIED|(?:status code:?|HTTP Error)\s?403|403 Forbidden|Forbidden|AuthorizationFailure|"
    r"AuthorizationPermissionMismatch|PublicAccessNotPermitted"
)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist")
_UNWELL = re.compile(
    r"(?:status code:?|HTTP Error)\s?(?:429|5\d\d)|ServerBusy|Too Many Requests|Service Unavailable|"
    r"Internal Server Error"
)
_SILENT = re.compile(
    r"Could not connect|Couldn't connect|Could not resolve|Couldn't resolve|timed? ?out|Connection refused|"
    r"Cannot connect to host|CURL error|Name or service not known|name resolution|UNAVAILABLE",
    re.IGNORECASE,
)
_NO_HADOOP = re.compile(r"libjvm|libhdfs")
_FUNCTION = re.compile(r"gcloud-cpp\.retry\.function=(\w+)")


def shown_text(error: BaseException) -> str:
    """The first line of an error that nothing explains, without secrets."""
    return without_secrets(str(error).split("\n")[0])


def of_client(error: BaseException) -> bool:
    """Whether it is an error of a client library that is no OSError: no answer, a refusal, no credentials."""
    return any(f"{base.__module__}.".startswith(_CLIENTS) for base in type(error).__mro__)


def explain_remote(error: BaseException, scheme: str, bucket: str) -> StorageProblem | None:
    """What ``error``, of a request to a store of ``scheme`` about ``bucket``, means; None for one that is not
    among the usual ones."""
    text = searched_text(error)
    source = _SOURCES.get(scheme.removesuffix("s") if scheme == "abfss" else scheme, "")
    if _NO_HADOOP.search(text):
        return StorageProblem(
            "no Hadoop client",
            "hdfs:// needs Java and libhdfs on every machine",
            "Set JAVA_HOME, HADOOP_HOME and CLASSPATH (`hadoop classpath --glob`).",
        )
    if _EXPIRED.search(text):
        return StorageProblem(
            "expired credentials", "credentials must be valid now", "Renew them: sign in again."
        )
    if _NO_CREDENTIALS.search(text):
        return StorageProblem("no credentials", "the standard credential chain must find some", source)
    if _NO_BUCKET.search(text):
        return StorageProblem(
            f"no bucket {bucket}", "the bucket must exist", "Check the URL and the credentials."
        )
    if _UNKNOWN.search(text):
        return StorageProblem(
            "credentials that the storage does not know",
            "the credentials must be valid for the storage",
            source or "Use a storage that signs its requests: a web server is asked without credentials.",
        )
    if _DENIED.search(text):
        function = _FUNCTION.search(text)
        permission = _GCS_PERMISSIONS.get(function[1], function[1]) if function else "permission to do this"
        return StorageProblem(
            f"no permission ({permission})" if function else "no permission",
            f"the credentials in use must have {permission} on {bucket}",
            "Grant it to their identity, or use other credentials.",
        )
    if unwell := _UNWELL.search(text):
        return StorageProblem(
            f"{REFUSAL} ({unwell[0]})",
            "the storage must answer",
            "Re-run the command once the storage works again.",
        )
    if _SILENT.search(text):
        return StorageProblem(
            SILENCE,
            "the storage must answer",
            "Check the URL, storage.endpoint and the network between here and there.",
        )
    return None
