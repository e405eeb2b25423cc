"""What the policy section says of an engine that is asked over a network: where it is, who we are to it, its dialect.

The rule: what belongs to one engine is an error beside another (config_engine_checks.py), and a secret is never
inherited by an engine at another address.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import config_values as values
from gateway.config_schema import Choice, Flag, Of, Text, Whole, option
from gateway.config_secrets import SecretRef

ENGINES = Choice(("embedded", "opa", "cerbos", "authzen"))
DEFAULT_QUERY = "tollgate/decision"

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_PATH = Text("a path on this machine", r"[^\x00]+", Path)
_HOST = Text("a host name without port", parse=values.parse_host)


def parse_engine_url(text: str) -> str:
    """An http or https URL, or `unix:` and an absolute path; of the latter the one spelling `unix:/path`."""
    if not text.startswith("unix:"):
        return values.parse_base_url(text)
    path = text.removeprefix("unix:").removeprefix("//")
    if re.fullmatch(r"/[^\x00-\x20]{1,100}", path) is None:
        raise ValueError("unix: without an absolute path of at most 100 characters")
    return f"unix:{path}"


_URL = Text("an http or https URL, or unix:/path", parse=parse_engine_url)
# A path into OPA's data: names, so that no character of it could lead elsewhere.
_QUERY = Text("a path of names below data, like tollgate/decision", r"[A-Za-z0-9_.-]*[A-Za-z0-9_-](/[A-Za-z0-9_-]+)*")
_SCOPE = Text("a scope like acme.oslo", r"[A-Za-z0-9_.-]{1,256}")
_VERSION = Text("a policy version like default", r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class EngineTls:
    ca: Path | None = option(_PATH, None, "PEM of its CA; default the system's", example="/etc/tollgate/ca.pem")
    cert: Path | None = option(_PATH, None, "our client certificate", example="/etc/tollgate/client.crt")
    key: Path | None = option(_PATH, None, "its private key", example="/etc/tollgate/client.key")
    server_name: str | None = option(_HOST, None, "name its certificate must carry", example="pdp.internal")


@dataclass(frozen=True, slots=True)
class EngineBreaker:
    failures: int = option(Whole(1, 10_000), 5, "failures in a row, then it is not asked", shown="5")
    open: float = option(_DURATION, 1.0, "for so long; then one question tries", shown="1s")


@dataclass(frozen=True, slots=True)
class Jwt:
    """Makes the caller's token Cerbos's auxiliary data."""

    key_set: str = option(Text("a name", values.NAME), "", "Cerbos's own name of the keys", example="idp")


@dataclass(frozen=True, slots=True)
class CerbosKeys:
    policy_version: str = option(_VERSION, "", "default Cerbos's own default", example="default")
    scope: str = option(_SCOPE, "", "of principal and resource policies", example="acme.oslo")
    jwt: Jwt | None = option(Of(Jwt), None, "the caller's own token goes along: request.auxData.jwt")


@dataclass(frozen=True, slots=True)
class AuthzenKeys:
    discovery: bool = option(Flag(), False, "its endpoints are read from its metadata", shown="false")
    dialect: str = option(
        Choice(("standard", "cerbos")),
        "standard",
        "cerbos: roles and context go where Cerbos looks for them",
        shown="standard",
    )


def url_option() -> Any:
    return option(_URL, "", "opa, cerbos (gRPC), authzen", example="http://127.0.0.1:8181")


def query_option() -> Any:
    return option(_QUERY, DEFAULT_QUERY, "opa: path below data; this one", example=DEFAULT_QUERY)


def token_option() -> Any:
    return option(SecretRef(), None, "opa, authzen: bearer token", example="{file: /run/secrets/opa}")


def tls_option() -> Any:
    return option(Of(EngineTls), None, "for an https url")


def cerbos_option() -> Any:
    return option(Of(CerbosKeys), None, "cerbos: what it is asked with")


def authzen_option() -> Any:
    return option(Of(AuthzenKeys), None, "authzen: how it is asked")
