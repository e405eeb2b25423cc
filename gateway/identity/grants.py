"""What is said to a token endpoint and what is believed of its answer: client credentials (RFC 6749 section 4.4) and
token exchange (RFC 8693). Sans-I/O; who calls the endpoint is upstream_tokens.py.

An answer is read in this order:
1. Status 200, JSON, one object. Of a refusal only its error code is repeated, if it is a word: descriptions may quote.
2. `access_token` is what a header may carry (RFC 6750 section 2.1), and no credential that was sent along: a server
   that hands the caller's own token back would make the gateway pass it through.
3. `token_type` is Bearer: a token that wants a proof of possession cannot be presented here.
4. An exchange says that it issued an access token. 5. `expires_in` is a positive number; without it a token is short.
There is no redirect and no authorization response in either grant, so there is no `iss` to compare (RFC 9207): the
token endpoint is the one of the configuration. Refresh tokens are not kept.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlencode

from gateway.core.canonical import Json, parse
from gateway.core.fetching import Fetched
from gateway.core.reasons import Malformed

FORM = "application/x-www-form-urlencoded"
ANSWER_LIMIT_BYTES = 64 * 1024
TOKEN_LIMIT = 16 * 1024  # characters: as much as a header of ours may be asked to carry
UNSAID_SECONDS = 60.0  # how long a token is used whose server does not say how long it lives
LONGEST_SECONDS = 24 * 3600.0  # no longer, whatever a server says: a revoked client must be noticed

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ERROR = re.compile(r"[a-z_]{1,64}")


class GrantFailed(Exception):
    """There is no token; `args[0]` says why, in words that quote nothing of the answer but its error code. `detail` is
    for a log line instead, `kept` False where it is certain that nothing is kept for this caller."""

    def __init__(self, why: str, *, detail: str = "", kept: bool = True) -> None:
        super().__init__(why)
        self.detail = detail or why
        self.kept = kept


@dataclass(frozen=True, slots=True)
class Client:
    """The gateway as one authorization server knows it, and what it asks for."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    post: bool = False  # the secret in the form instead of Authorization: Basic
    scope: str = ""
    audience: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One POST to `url`."""

    url: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Granted:
    """`seconds` is how long the token lives from now on."""

    token: str = field(repr=False)
    seconds: float


def client_credentials(client: Client) -> Request:
    return _request(client, {"grant_type": "client_credentials"})


def token_exchange(client: Client, subject: str, actor: str | None) -> Request:
    """`subject` is the caller's own token; `actor` says that somebody else acts for it."""
    form = {"grant_type": _EXCHANGE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN}
    form["requested_token_type"] = ACCESS_TOKEN
    if actor is not None:
        form |= {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}
    return _request(client, form)


def _request(client: Client, form: dict[str, str]) -> Request:
    for name in ("scope", "audience", "resource"):
        if value := getattr(client, name):
            form[name] = value
    headers = [("accept", "application/json")]
    if client.post:
        form |= {"client_id": client.client_id, "client_secret": client.client_secret}
    else:  # RFC 6749 section 2.3.1: both are form-encoded before they are joined
        joined = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
        headers.append(("authorization", "Basic " + base64.b64encode(joined.encode()).decode()))
    return Request(client.token_url, urlencode(form).encode(), tuple(headers))


def read_grant(answer: Fetched, sent: tuple[str, ...] = (), *, exchanged: bool = False) -> Granted:
    """`sent` are the tokens that went along. Raises GrantFailed."""
    said = _object(answer)  # 1
    token = said.get("access_token")
    if not isinstance(token, str) or len(token) > TOKEN_LIMIT or _TOKEN.fullmatch(token) is None:  # 2
        raise GrantFailed("the authorization server sent no access token that a header may carry")
    if any(hmac.compare_digest(token.encode(), one.encode()) for one in sent):  # 2
        raise GrantFailed("the authorization server sent back a token that was given to it")
    kind = said.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":  # 3
        raise GrantFailed("the authorization server's token is not a bearer token")
    if exchanged and said.get("issued_token_type") not in (ACCESS_TOKEN, _JWT):  # 4
        raise GrantFailed("the authorization server does not say that it issued an access token")
    return Granted(token, _lifetime(said.get("expires_in")))


def _lifetime(value: Json) -> float:
    if value is None:
        return UNSAID_SECONDS
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:  # 5
        raise GrantFailed("the authorization server's expires_in is not a number of seconds")
    return min(float(value), LONGEST_SECONDS)


def _object(answer: Fetched) -> dict[str, Json]:
    kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    try:
        said = parse(answer.body) if kind == "application/json" else None
    except Malformed:
        said = None
    found = said if isinstance(said, dict) else {}
    if answer.status != 200:
        error = found.get("error")
        word = f" {error}" if isinstance(error, str) and _ERROR.fullmatch(error) is not None else ""
        raise GrantFailed(f"the authorization server answered {answer.status}{word}")
    if not found:
        raise GrantFailed("the authorization server's answer is not a JSON object")
    return found
