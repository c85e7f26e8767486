"""What stands before the service: a key, a limit on the size of a request and one on their rate."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from mmssl_dist.errors import InputError

API_KEY = "MMSSL_API_KEY"
"""The environment variable with the key."""
_SHORTEST_KEY = 16
_OPEN_PATHS = ("/", "/health", "/docs", "/openapi.json")  # what load balancers and readers ask for
_UNCOUNTED_PATHS = ("/health",)  # a busy service is healthy, and probes use up no rate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Protection:
    """What one replica lets through.

    Attributes:
        key_digest: SHA-256 of the key that requests carry; None: no key is asked for. The key itself is kept
            nowhere.
        max_body: bytes of a request's body.
        max_rate: requests a second, on average, of this replica; None: no limit. After a pause as many may
            come at once.
    """

    key_digest: bytes | None = None
    max_body: int = 1_000_000
    max_rate: float | None = None


def take_key(environment: MutableMapping[str, str]) -> bytes | None:
    """The SHA-256 of the key in ``environment``, which loses it: processes started later do not inherit it.

    Raises:
        InputError: it is short enough to be guessed.
    """
    key = environment.pop(API_KEY, "").strip()  # as of a header: files of secrets end in a line break
    if not key:
        return None
    if len(key) < _SHORTEST_KEY:
        raise InputError(
            API_KEY,
            f"{len(key)} characters",
            f"a key has at least {_SHORTEST_KEY}",
            "Make one with `openssl rand -hex 32`.",
        )
    return hashlib.sha256(key.encode()).digest()


class Guard:
    """ASGI middleware that answers 401, 413 and 429 before ``app`` sees a request.

    Args:
        protection: gives what holds for this replica; asked at each request, as it is known only then.
        clock: seconds.
    """

    def __init__(
        self, app: App, protection: Callable[[], Protection], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.app, self.protection, self.clock = app, protection, clock
        # Full at the start; ``_pause`` cuts it to the size of the bucket, which is known only then.
        self._tokens, self._counted_at = math.inf, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        # The start and the end of the app itself, which carry no key.
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        protection, headers = self.protection(), dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        # The key first: who has none does not use up the rate of those who have.
        if path not in _OPEN_PATHS and not _has_key(headers, protection.key_digest):
            detail = "this service requires a key: send it as `Authorization: Bearer KEY`"
            await _refuse(send, 401, detail, {"www-authenticate": "Bearer"})
            return
        pause = 0.0 if path in _UNCOUNTED_PATHS else self._pause(protection.max_rate)
        if pause:
            seconds = str(math.ceil(pause))
            await _refuse(
                send, 429, "more requests than this service may take; retry later", {"retry-after": seconds}
            )
            return
        body = await _limited(headers, receive, protection.max_body)
        if body is None:
            await _refuse(send, 413, f"a request has at most {protection.max_body:,} bytes")
            return
        await self.app(scope, body, send)

    def _pause(self, rate: float | None) -> float:
        """Seconds until a request may come; 0 where it may come now, and it is counted then."""
        if rate is None:
            return 0.0
        now = self.clock()
        # A bucket that fills at the rate and holds a second of it, at least one request.
        size = max(1.0, rate)
        self._tokens = min(size, self._tokens + (now - self._counted_at) * rate)
        self._counted_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate
        self._tokens -= 1
        return 0.0


def _has_key(headers: Mapping[bytes, bytes], digest: bytes | None) -> bool:
    if digest is None:
        return True
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    given = hashlib.sha256(key.strip()).digest()
    # Digests are of one length, and compared in a time that does not depend on where they differ.
    return hmac.compare_digest(given, digest) and scheme.lower() == b"bearer"


async def _limited(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> Receive | None:
    """``receive`` of a body of at most ``most`` bytes; None where it is larger."""
    if b"content-length" in headers:
        # The server lets no more bytes through than the header says.
        return receive if int(headers[b"content-length"]) <= most else None
    if b"transfer-encoding" not in headers:  # then there is no body
        return receive
    # A body in chunks states no length: it is counted as it comes, and replayed to the app.
    messages, size, more = list[MutableMapping[str, Any]](), 0, True
    while more:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > most:
            return None
        more = message["type"] == "http.request" and bool(message.get("more_body"))

    async def replay() -> MutableMapping[str, Any]:
        return messages.pop(0) if messages else await receive()

    return replay


async def _refuse(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    body = json.dumps({"detail": detail}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
