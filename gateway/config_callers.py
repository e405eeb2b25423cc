"""The sections of the configuration about what callers prove and say of themselves: message signatures, proofs of
possession, descriptors. The rule: a default is the strict choice."""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway import config_values as values
from gateway.config_keysets import JWKS, Jwks
from gateway.config_schema import Choice, ListOf, Of, Text, option

_NAME = Text("a name of letters, digits, dots, dashes and underscores", values.NAME)
_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_WORD = Text("a text", r"[^\x00-\x1f]{1,256}")
_ORIGIN = Text("an origin like https://agent.example", parse=values.parse_origin)

LONGEST_SIGNATURE_SECONDS = 24 * 3600.0
LONGEST_PROOF_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Signature:
    """Callers who sign their requests (RFC 9421). `jwks` or `directories`, not both."""

    name: str = option(_NAME, why="its part of subject.id; an issuer's name is not free", shown="partners")
    jwks: Jwks | None = option(JWKS, None, "their keys; keyid is the key's thumbprint (RFC 7638)")
    directories: tuple[str, ...] = option(
        ListOf(_ORIGIN), (), "Web Bot Auth instead: origins whose directories are believed", shown="[]"
    )
    subject: str | None = option(
        _WORD, None, "who all of them are; default the key's thumbprint, the directory's host", example="planner"
    )
    org: str | None = option(_WORD, None, "their organisation", example="acme")
    roles: tuple[str, ...] = option(ListOf(_WORD), (), "their roles", shown="[]")
    covers: str = option(
        Choice(("request", "authority")),
        "request",
        "authority: a signature may say who calls and not what, and is then good for any request",
        shown="request",
    )
    nonce: str = option(Choice(("required", "optional")), "required", "what has one counts once", shown="required")
    max_age: float = option(_DURATION, 60.0, "since created; at most 24h", shown="60s")
    tag: str = option(_WORD, "", "theirs; with directories it is web-bot-auth", example="partner-api")


def signature_wrong(found: Signature) -> str:
    if (found.jwks is None) == (not found.directories):
        return "exactly one of jwks, directories is needed here"
    if found.directories and found.tag:
        return "with directories the tag is web-bot-auth"
    if found.max_age > LONGEST_SIGNATURE_SECONDS:
        return "max_age is more than 24h"
    return ""


@dataclass(frozen=True, slots=True)
class Dpop:
    """Proofs of possession for tokens that are bound to a key (RFC 9449)."""

    nonce: str = option(
        Choice(("none", "required")), "none", "required: a proof has a nonce that the gateway gave", shown="none"
    )
    max_age: float = option(_DURATION, 60.0, "since it was made; at most 10m", shown="60s")


def dpop_wrong(found: Dpop) -> str:
    return "max_age is more than 10m" if found.max_age > LONGEST_PROOF_SECONDS else ""


@dataclass(frozen=True, slots=True)
class CallerDescriptor:
    """A descriptor that callers may name instead of sending it; it must be verified and theirs all the same."""

    name: str = option(_NAME, why="presented as `Agent-Descriptor: id:<name>`", shown="planner")
    file: Path = option(
        Text("a path on this machine", r"[^\x00]+", Path),
        why="a compact JWS or a signed card, read again on reload",
        shown="config/planner.jws",
    )


SIGNATURES = ListOf(Of(Signature, signature_wrong))
DPOP = Of(Dpop, dpop_wrong)
DESCRIPTORS = ListOf(Of(CallerDescriptor))
