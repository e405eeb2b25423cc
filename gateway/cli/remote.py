"""Asking a running gateway's admin plane: its address, the token's file, GET and POST, and errors that say what to do.

Secrets are never arguments: the token is read from a file. Redirects are not followed: the token would go along.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from gateway.cli.output import UNVERIFIED, Stop
from gateway.core.canonical import Json, parse_object
from gateway.core.reasons import Malformed

SECONDS = 10.0
UPLOAD_SECONDS = 120.0  # a bundle's own tests are run before it is answered
ANSWER_BYTES = 64 * 1024 * 1024
_Command = TypeVar("_Command", bound=Callable[..., Any])


def admin_options(command: _Command) -> _Command:
    """`--admin` and `--token-file` on a command."""
    command = click.option(
        "--token-file",
        envvar="TOLLGATE_TOKEN_FILE",
        default="var/admin.token",
        show_default=True,
        type=click.Path(path_type=Path),
        help="File with the admin token (or TOLLGATE_TOKEN_FILE).",
    )(command)
    return click.option(
        "--admin",
        envvar="TOLLGATE_ADMIN",
        default="http://127.0.0.1:8081",
        show_default=True,
        metavar="URL",
        help="The admin plane of a running gateway (or TOLLGATE_ADMIN).",
    )(command)


def get(admin: str, token_file: Path, path: str) -> dict[str, Any]:
    """The JSON document at `path`. Raises Stop."""
    return _asked(admin, token_file, "GET", path, {}, None)


def post(
    admin: str, token_file: Path, path: str, document: Json, *, etag: str = "", seconds: float = SECONDS
) -> dict[str, Any]:
    """What the admin plane says to `document`; `etag` of what was looked at before. Raises Stop."""
    headers = {"content-type": "application/json", **({"if-match": etag} if etag else {})}
    return _asked(admin, token_file, "POST", path, headers, json.dumps(document).encode(), seconds=seconds)


def send(
    admin: str, token_file: Path, method: str, path: str, body: bytes | None, kind: str, *, etag: str = ""
) -> dict[str, Any]:
    """What the admin plane says to bytes of the media type `kind`. Raises Stop."""
    headers = {**({"content-type": kind} if kind else {}), **({"if-match": etag} if etag else {})}
    return _asked(admin, token_file, method, path, headers, body)


def upload(admin: str, token_file: Path, path: str, body: bytes, *, etag: str = "") -> dict[str, Any]:
    """What the admin plane says to a file. Raises Stop."""
    headers = {"content-type": "application/gzip", **({"if-match": etag} if etag else {})}
    return _asked(admin, token_file, "POST", path, headers, body, seconds=UPLOAD_SECONDS)


def fetched(admin: str, token_file: Path, path: str) -> bytes | None:
    """A file of the admin plane's, as it is; None where there is none. Raises Stop."""
    status, found = _answered(admin, token_file, "GET", path, {}, None, SECONDS)
    if status == 404:
        return None
    if status != 200 or len(found) > ANSWER_BYTES:
        _document(admin, status, found)
        raise Stop(f"{admin} answered {status} to {path}")
    return found


def _asked(
    admin: str,
    token_file: Path,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | None,
    *,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    return _document(admin, *_answered(admin, token_file, method, path, headers, body, seconds))


def _answered(
    admin: str,
    token_file: Path,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | None,
    seconds: float,
) -> tuple[int, bytes]:
    parts = urlsplit(admin)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Stop(f"{admin} is no http or https URL", 2)
    try:
        token = token_file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise Stop(f"the admin token {token_file} cannot be read: {reason}; name it with --token-file") from None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    try:
        target = parts.path.rstrip("/") + path
        connection.request(method, target, body, {"authorization": f"Bearer {token}", **headers})
        answer = connection.getresponse()
        found = answer.read(ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        what = f"no gateway answers at {admin} ({error})"
        raise Stop(f"{what}; start it, name it with --admin, or read its files with --data-dir") from None
    finally:
        connection.close()
    return answer.status, found


def _document(admin: str, status: int, body: bytes) -> dict[str, Any]:
    if len(body) > ANSWER_BYTES:
        raise Stop(f"{admin} answered with more than {ANSWER_BYTES} bytes")
    try:
        document: dict[str, Any] = dict(parse_object(body))
    except Malformed:
        raise Stop(f"{admin} answered {status} without JSON: is it the admin plane?") from None
    if status in (200, 202):
        return document
    if status == 401:
        raise Stop(f"{admin} does not take this token; name the right file with --token-file")
    if status == 422:  # what was sent does not keep a rule
        raise Stop(str(document.get("detail", f"{admin} answered {status}")), UNVERIFIED)
    if status in (404, 409, 412):
        raise Stop(str(document.get("detail", f"{admin} answered {status}")))
    raise Stop(f"{admin} answered {status}: {document.get('detail', 'no reason given')}")
