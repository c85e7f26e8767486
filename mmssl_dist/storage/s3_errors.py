"""What a storage's refusal means: what was refused, the rule, and the remedy."""

from __future__ import annotations

import re
from typing import NamedTuple

_PERMISSIONS = {
    "ListObjects": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
}
_EXPIRED = re.compile(
    r"Expired_?Token|RequestExpired|TokenRefreshRequired|TokenRetrievalError|SSOToken|"
    r"token has expired",
    re.IGNORECASE,
)
_UNKNOWN_KEY = re.compile(
    r"Invalid_?Access_?Key_?Id|Signature_?Does_?Not_?Match|InvalidToken|Unrecognized_?Client|"
    r"Invalid_?Client_?Token_?Id",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"HTTP status 30[17]|PermanentRedirect|AuthorizationHeaderMalformed|Moved Permanently|"
    r"IllegalLocationConstraint"
)
_NO_CREDENTIALS = re.compile(
    r"Unable to locate credentials|NoCredentials|CredentialRetrieval|Error when retrieving "
    r"credentials|credential_process|config profile",
    re.IGNORECASE,
)
_DENIED = re.compile(r"Access_?Denied|Access Denied|Forbidden|HTTP status 403", re.IGNORECASE)
_SILENT = re.compile(r"NETWORK_CONNECTION|Could not connect|timed? ?out|REQUEST_TIMEOUT", re.IGNORECASE)
_UNWELL = re.compile(
    r"HTTP status (?:429|5\d\d)|Slow_?Down|Service_?Unavailable|Internal_?(?:Error|Failure)", re.IGNORECASE
)
_OPERATION = re.compile(r"(?:during|calling the) (\w+) operation")
_REGION = re.compile(r"bucket is located in '([\w-]+)'")
SILENCE, REFUSAL = "no answer", "nothing but refusals"
"""What a problem that may pass begins with."""
_RENEW = "Renew them: sign in again, or fetch a new token."


class StorageProblem(NamedTuple):
    """What was found, the rule, and the remedy of a ``StorageError``."""

    value: str
    rule: str
    remedy: str

    @property
    def wants_region(self) -> bool:
        """Whether the bucket is elsewhere, and the error did not say where."""
        return self.value.endswith("in another region")

    @property
    def may_pass(self) -> bool:
        """Whether nothing is wrong with what was asked, so that it may be answered later."""
        return self.value == SILENCE or self.value.startswith(REFUSAL)


def searched_text(error: BaseException) -> str:
    """The texts of ``error`` and of what caused it: clients bury the cause at different depths, without
    codes, and s3fs wraps botocore's errors, where the cause or the context is what has the code."""
    return " ".join(str(part) for part in (error, error.__cause__, error.__context__) if part is not None)


def explain(error: BaseException, bucket: str) -> StorageProblem | None:
    """What ``error``, of a request about ``bucket``, means; None for one that is not among the usual ones."""
    text = searched_text(error)
    # First, since expired credentials come with a 403 and would pass for a missing permission.
    # The most specific first: texts of expired or unknown credentials also say that access is denied.
    if _EXPIRED.search(text):
        return StorageProblem("expired credentials", "credentials must be valid now", _RENEW)
    if _UNKNOWN_KEY.search(text):
        return StorageProblem(
            "credentials that the storage does not know",
            "the credentials must be valid for its endpoint",
            "Check storage.endpoint, and where credentials come from: environment, profile, machine role.",
        )
    region = _REGION.search(text)
    if region or _ELSEWHERE.search(text):
        name = region[1] if region else None
        return StorageProblem(
            f"bucket {bucket} in {f'the region {name}' if name else 'another region'}",
            "storage.region must be the region of the bucket",
            f"Set storage.region to {name or 'it'}.",
        )
    if "NO_SUCH_BUCKET" in text or "NoSuchBucket" in text:
        return StorageProblem(
            f"no bucket {bucket}",
            "the bucket must exist",
            "Check the URL, the credentials and the `storage` section.",
        )
    if _NO_CREDENTIALS.search(text):
        return StorageProblem(
            f"no credentials ({text.splitlines()[0][:200]})",
            "the standard credential chain must find some",
            "Check the profile, or storage.anonymous for a public bucket.",
        )
    if _DENIED.search(text):
        match = _OPERATION.search(text)
        # ListObjectsV2 and ListObjects need the same permission.
        operation = re.sub(r"V\d$", "", match[1]) if match else ""
        permission = _PERMISSIONS.get(operation, operation or "permission")
        return StorageProblem(
            f"no permission ({permission})",
            f"the credentials in use must have {permission} on bucket {bucket}",
            "Grant it to their identity, or use other credentials.",
        )
    if unwell := _UNWELL.search(text):
        return StorageProblem(
            f"{REFUSAL} ({unwell[0]})",
            "the storage must answer",
            "Re-run the command once the storage works again; storage.retries sets the attempts per request.",
        )
    if _SILENT.search(text):
        return StorageProblem(
            SILENCE,
            "the storage must answer",
            "Check storage.endpoint and the network between here and there.",
        )
    return None
