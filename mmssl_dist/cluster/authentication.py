"""Ray's token: whether a cluster asks for one, and which one this machine has.

A Ray that starts on its own (``ray.init``) creates a token in the home folder and asks for it; ``ray start``
asks for a token where it finds one; a client sends one only where RAY_AUTH_MODE says so. What the variable
does not say is therefore taken from the cluster itself: a driver has to match its cluster, as workers call
the driver too.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.environment import temporary_environment
from mmssl_dist.errors import InputError

MODE = "RAY_AUTH_MODE"
_PROBE_SECONDS = 10.0
_REMEDY = (
    "Use the token of the machine that started the cluster: copy its ~/.ray/auth_token here, "
    "or set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN."
)


@contextmanager
def matching(where: str, target: str, gcs: str) -> Iterator[None]:
    """Until its end this process uses a token exactly if the GCS at ``gcs`` (host:port) asks for one.

    Args:
        where: the setting that ``target``, the user's name of the cluster, comes from; both for messages.

    Raises:
        InputError: the cluster asks for a token, and there is none or another one here; or RAY_AUTH_MODE
            says otherwise.
    """
    asks = _asks(gcs, ())
    if asks is None:  # no answer that says so: joining finds out why
        yield
        return
    configured = os.environ.get(MODE)
    # A contradiction is reported instead of overruled: the variable may be there for another cluster.
    if configured is not None and (configured.lower() == "token") != asks:
        raise _contradiction(configured, target, "a token" if asks else "no token")
    with _mode("token" if asks else "disabled"):
        # Asked once with the token: Ray itself would hang for minutes on one that is refused.
        if asks and _asks(gcs, tuple(_headers(where, target).items())):
            raise token_refused(where, target, "another token")
        yield


@contextmanager
def accepted_token(where: str, target: str) -> Iterator[None]:
    """Until its end this process sends its token to the dashboard at ``target``.

    Raises:
        InputError: there is none, or RAY_AUTH_MODE forbids it.
    """
    configured = os.environ.get(MODE, "token")
    if configured.lower() != "token":
        raise _contradiction(configured, target, "a token")
    with _mode("token"):
        _headers(where, target)
        yield


@contextmanager
def own_token() -> Iterator[None]:
    """Until its end a Ray that this process starts asks for a token: the one of the home folder, created
    where it is missing, as Ray does; for this process alone where the home folder cannot be written.

    RAY_AUTH_MODE=disabled switches it off.

    Raises:
        InputError: RAY_AUTH_TOKEN_PATH names no readable token.
    """
    from ray.exceptions import AuthenticationError

    if os.environ.get(MODE, "token").lower() != "token":
        yield
        return
    with _mode("token"):
        try:
            has_token = _loader().has_token(ignore_auth_mode=True)
        except AuthenticationError as error:
            raise _unreadable() from error
        if has_token or _create_token():
            _loader().reset_cache()
            yield
            return
    # Without a home folder a token of this process alone still keeps other users of the machine out.
    with _variables({MODE: "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}):
        yield


def token_refused(where: str, target: str, value: str) -> InputError:
    """The error to raise when the cluster at ``target`` does not accept the token; ``value``: what there is
    instead of it."""
    return InputError(where, f"{target} and {value}", "the cluster asks for its token", _REMEDY)


def _contradiction(configured: str, target: str, asked: str) -> InputError:
    return InputError(MODE, configured, f"the cluster at {target} asks for {asked}", f"Unset {MODE}.")


def _asks(target: str, metadata: tuple[tuple[str, str], ...]) -> bool | None:
    """Whether the GCS refuses a call with this metadata for want of its token; None where it does not
    answer."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    with _mode("disabled"):  # else Ray adds its token
        channel = init_grpc_channel(target, [("grpc.enable_http_proxy", 0)])
    try:
        # The cheapest call there is, without a driver: joining first would end this process on a refusal.
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        request = gcs_service_pb2.CheckAliveRequest()
        stub.CheckAlive(request, timeout=_PROBE_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        return True if error.code() is grpc.StatusCode.UNAUTHENTICATED else None
    finally:
        channel.close()
    return False


def _headers(where: str, target: str) -> dict[str, str]:
    from ray.exceptions import AuthenticationError

    try:
        headers: dict[str, str] = _loader().get_token_for_http_header()
    except AuthenticationError as error:
        if os.environ.get("RAY_AUTH_TOKEN_PATH") and not os.environ.get("RAY_AUTH_TOKEN"):
            raise _unreadable() from error
        raise token_refused(where, target, "no token here") from error
    return headers


def _unreadable() -> InputError:
    return InputError(
        "RAY_AUTH_TOKEN_PATH",
        os.environ.get("RAY_AUTH_TOKEN_PATH", ""),
        "it names a readable file that holds the token",
        "Correct it, or unset it to use ~/.ray/auth_token.",
    )


def _create_token() -> bool:
    """Create the token of the home folder; False where that is not possible.

    Ray writes the file in place, readable by everybody; two commands at the same time would each start with
    another token.
    """
    home = os.environ.get("HOME")
    if not home:
        return False
    path = Path(home, ".ray", "auth_token")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as stream:  # mode 0600
            stream.write(secrets.token_hex(32))
            stream.flush()
            # An empty file, as an interrupted start leaves it, would lock everybody out for good.
            if path.exists() and not path.read_text().strip():
                path.unlink()
            try:
                # A link and no rename: it fails where the file exists, so the first of two commands wins.
                os.link(stream.name, path)
            except FileExistsError:  # another command was first
                pass
        # What is there now, ours or the other command's: both then use the same.
        return bool(path.read_text().strip())
    except OSError:
        return False


@contextmanager
def _mode(mode: str) -> Iterator[None]:
    with _variables({MODE: mode}):
        yield


@contextmanager
def _variables(variables: dict[str, str]) -> Iterator[None]:
    """The environment with ``variables``, also as Ray sees it, as long as the body runs."""
    try:
        with temporary_environment(variables):
            _read_again()
            yield
    finally:
        _read_again()


def _read_again() -> None:
    """Have Ray read its variables, which it does once by itself."""
    _loader().reset_cache()
    _raylet().Config.initialize("")


def _loader() -> Any:
    return _raylet().AuthenticationTokenLoader.instance()


def _raylet() -> Any:
    import ray._raylet  # compiled, and without type stubs for what is used here

    return ray._raylet
