"""The part of the configuration that says how the gateway is admitted at an upstream: `upstreams.*.credentials`.

Exactly one way stands there: a secret of its own, a token of its own, one exchanged for the caller's, or one that is
kept for each caller. The rule: whatever the way, what the caller brought never reaches the upstream, and no secret
stands in the file itself.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from gateway import config_values as values
from gateway.config_schema import Choice, Of, OrWord, Text, option
from gateway.config_secrets import SecretRef
from gateway.config_values import Secret

OWN = "own"
_URL = Text("an http or https URL", parse=values.parse_url)
_WORD = Text("a text", r"[^\x00-\x1f]{1,1024}")
_ID = Text("visible ASCII characters", r"[\x21-\x7e]{1,1024}")
_SCOPE = Text("scopes with one space between", r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
_WAYS = ("value", "client_credentials", "token_exchange", "per_caller")

_STEP = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
VAULTED_AT: Final = rf"(?:{_STEP}/)*\{{subject\}}(?:/{_STEP})*#[A-Za-z0-9_.-]+"


@dataclass(frozen=True, slots=True)
class VaultedAt:
    """`path` has `{subject}` as one segment."""

    path: str
    field: str


def parse_vaulted_at(text: str) -> VaultedAt:
    path, _, field = text.partition("#")
    return VaultedAt(path, field)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """RFC 6749 section 4.4: a token for the gateway itself."""

    token_url: str = option(_URL, why="the token endpoint, https", shown="https://idp.example/token")
    client_id: str = option(_ID, why="the gateway as that server knows it", shown="tollgate")
    client_secret: Secret = option(SecretRef(), why="{env: NAME} or {file: PATH}", shown="{env: CLIENT_SECRET}")
    client_auth: str = option(Choice(("basic", "post")), "basic", "how the secret is sent", shown="basic")
    scope: str = option(_SCOPE, "", "what is asked for", example="weather.read weather.write")
    audience: str = option(_WORD, "", "whom the token is for, by name", example="weather")
    resource: str = option(_URL, "", "the same by address (RFC 8707)", example="https://weather.example/mcp")


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """RFC 8693: a token for the caller, in exchange for the caller's own, which goes to the token endpoint alone."""

    token_url: str = option(_URL, why="the token endpoint, https", shown="https://idp.example/token")
    client_id: str = option(_ID, why="the gateway as that server knows it", shown="tollgate")
    client_secret: Secret = option(SecretRef(), why="{env: NAME} or {file: PATH}", shown="{env: CLIENT_SECRET}")
    client_auth: str = option(Choice(("basic", "post")), "basic", "how the secret is sent", shown="basic")
    scope: str = option(_SCOPE, "", "what is asked for", example="weather.read")
    audience: str = option(_WORD, "", "whom the token is for, by name", example="weather")
    resource: str = option(_URL, "", "the same by address (RFC 8707)", example="https://weather.example/mcp")
    actor: Secret | str | None = option(
        OrWord(OWN, SecretRef()), None, "who acts: a token as a secret, or own: one it gets itself", example="own"
    )


@dataclass(frozen=True, slots=True)
class PerCaller:
    file: Path | None = option(
        Text("a path on this machine", r"[^\x00]+", Path),
        None,
        "YAML: subject.id to token, 0600, read again on change",
        example="config/tokens.yaml",
    )
    vault: VaultedAt | None = option(
        Text("a path in a vault with {subject} as one segment, and a field", VAULTED_AT, parse_vaulted_at),
        None,
        "or a secret each: agent:idp/ann is agent_3aidp_2fann",
        example='"tollgate/callers/{subject}#token"',
    )
    refresh: float = option(
        Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration),
        300.0,
        "vault: how long one that was read is used",
        shown="5m",
    )


def per_caller_wrong(found: PerCaller) -> str:
    return "exactly one of file, vault is needed here" if (found.file is None) == (found.vault is None) else ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`scheme` is put before a value or a kept token; fetched tokens are always sent as Bearer."""

    header: str = option(
        Text("a header name", values.HEADER), "Authorization", "set on each forwarded request", shown="Authorization"
    )
    value: Secret | None = option(SecretRef(), None, "{env: NAME} or {file: PATH}", example="{env: WEATHER_TOKEN}")
    scheme: str = option(Text("an authentication scheme", values.HEADER), "", "put before the value", example="Bearer")
    client_credentials: ClientCredentials | None = option(Of(ClientCredentials), None, "or a token of its own")
    token_exchange: TokenExchange | None = option(Of(TokenExchange), None, "or one exchanged for the caller's")
    per_caller: PerCaller | None = option(Of(PerCaller, per_caller_wrong), None, "or one that is kept for each caller")

    @property
    def fetched(self) -> ClientCredentials | TokenExchange | None:
        return self.client_credentials or self.token_exchange

    @property
    def about_callers(self) -> bool:
        """Whether it takes to know who calls."""
        return self.token_exchange is not None or self.per_caller is not None

    def secrets(self) -> Iterator[Secret]:
        if self.value is not None:
            yield self.value
        if self.fetched is not None:
            yield self.fetched.client_secret
        if self.token_exchange is not None and isinstance(self.token_exchange.actor, Secret):
            yield self.token_exchange.actor


Fetched: TypeAlias = "ClientCredentials | TokenExchange"


def credentials_wrong(found: Credentials) -> str:
    given = [name for name in _WAYS if getattr(found, name) is not None]
    if len(given) != 1:
        return f"exactly one of {', '.join(_WAYS)} is needed here"
    return (
        "scheme is for value and per_caller: a fetched token is sent as Bearer"
        if found.scheme and found.fetched
        else ""
    )
