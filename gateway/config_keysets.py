"""Where a set of public keys is (in a file or behind a URL, exactly one of the two), and who is trusted to sign what
agents and tools say of themselves."""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway import config_values as values
from gateway.config_schema import ListOf, Of, Text, option


@dataclass(frozen=True, slots=True)
class Jwks:
    url: str | None = option(
        Text("an http or https URL", parse=values.parse_url),
        None,
        "fetched, cached, refreshed",
        example="https://idp.example/jwks.json",
    )
    file: Path | None = option(
        Text("a path on this machine", r"[^\x00]+", Path), None, "read again on reload", shown="config/idp.jwks.json"
    )


def _wrong(found: Jwks) -> str:
    return "exactly one of url, file is needed here" if (found.url is None) == (found.file is None) else ""


JWKS = Of(Jwks, _wrong)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who may sign agent cards, tool manifests and callers' descriptors."""

    name: str = option(
        Text("a name of letters, digits, dots, dashes and underscores", values.NAME),
        why="what records and policy call it",
        shown="acme",
    )
    jwks: Jwks | None = option(JWKS, None, "its keys: exactly one of url and file")
    jku: tuple[str, ...] = option(
        ListOf(Text("an origin like https://agent.example", parse=values.parse_origin)),
        (),
        "origins where a card's own jku may lead to more of its keys",
        shown="[]",
    )


def _nowhere(found: Signer) -> str:
    return "jwks, jku or both are needed here" if found.jwks is None and not found.jku else ""


SIGNERS = ListOf(Of(Signer, _nowhere))
