"""The section of the configuration about policy: who decides, from what, and what happens when nobody does.

The rule: a default is the strict choice, and a key that belongs to another engine is an error that names it.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway import config_values as values
from gateway.config_engines import (
    ENGINES,
    AuthzenKeys,
    CerbosKeys,
    EngineBreaker,
    EngineTls,
    authzen_option,
    cerbos_option,
    query_option,
    tls_option,
    token_option,
    url_option,
)
from gateway.config_schema import Choice, ListOf, Of, Text, Whole, option
from gateway.config_values import Secret

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_PERCENT = Text("a share like 10% or 0.5%", values.PERCENT, values.parse_percent)
_PATH = Text("a path on this machine", r"[^\x00]+", Path)
_BUNDLE = Text("a name of lower-case letters, digits and dashes", r"[a-z0-9][a-z0-9-]{0,62}")
_SIGNER = Text("a name of letters, digits, dots, dashes and underscores", values.NAME)


@dataclass(frozen=True, slots=True)
class Shadow:
    """A second engine on the side. What is not said is as in `policy`."""

    engine: str = option(ENGINES, "embedded", "who", shown="embedded")
    bundle: Path | None = option(_PATH, None, "the candidate: a folder, or a signed .tar.gz", example="candidate")
    url: str = url_option()
    query: str = query_option()
    token: Secret | None = token_option()
    tls: EngineTls | None = tls_option()
    cerbos: CerbosKeys | None = cerbos_option()
    authzen: AuthzenKeys | None = authzen_option()
    timeout: float | None = option(_DURATION, None, "a later answer is a fault of its own", example="250ms")
    sample: float = option(_PERCENT, 1.0, "share of exchanges it is asked about, by their id", shown="100%")
    queue: int = option(Whole(1, 100_000), 256, "questions that may wait; more are dropped and counted", shown="256")


def _sampled(found: Shadow) -> str:
    return "sample is 0%: take the section out instead" if found.sample == 0 else ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A candidate for some. What is not said is as in `policy`."""

    percent: float = option(_PERCENT, why="of the subjects, by a stable hash of subject.id", shown="10%")
    salt: str = option(Text("a text", r"[^\x00-\x1f]{0,256}"), "", "another one draws other subjects", example="spring")
    engine: str = option(ENGINES, "embedded", "who", shown="embedded")
    bundle: Path | None = option(_PATH, None, "the candidate: a folder, or a signed .tar.gz", example="candidate")
    url: str = url_option()
    query: str = query_option()
    token: Secret | None = token_option()
    tls: EngineTls | None = tls_option()
    cerbos: CerbosKeys | None = cerbos_option()
    authzen: AuthzenKeys | None = authzen_option()
    timeout: float | None = option(_DURATION, None, "a later answer is a deny", example="250ms")


@dataclass(frozen=True, slots=True)
class Policy:
    engine: str = option(ENGINES, "embedded", "who decides", shown="embedded")
    bundle: Path = option(
        _PATH, Path("policies"), "folder of Rego and data files, or a signed .tar.gz", shown="policies"
    )
    name: str = option(_BUNDLE, "tollgate", "bundles pushed under it are this gateway's policy", shown="tollgate")
    signers: tuple[str, ...] = option(
        ListOf(_SIGNER), (), "who may sign bundles: of trust.signers, with jwks.file; gateway: its own key", shown="[]"
    )
    scope: str = option(
        Text("a text", r"[^\x00-\x1f]{0,256}"), "", "what a bundle must be signed for", example="production"
    )
    roots: tuple[str, ...] = option(
        ListOf(Text("a path below data, like tollgate/roles", r"[^\x00-\x1f]{0,256}"), 1),
        ("",),
        'what bundles may define, paths below data; "" is all of it',
        shown='[""]',
    )
    url: str = url_option()
    query: str = query_option()
    token: Secret | None = token_option()
    tls: EngineTls | None = tls_option()
    cerbos: CerbosKeys | None = cerbos_option()
    authzen: AuthzenKeys | None = authzen_option()
    breaker: EngineBreaker = option(Of(EngineBreaker), EngineBreaker(), "of an engine that is asked over a network")
    timeout: float = option(_DURATION, 0.25, "a later answer is a deny", shown="250ms")
    mode: str = option(
        Choice(("enforce", "report")),
        "enforce",
        "report: what policy denies is recorded and let through; its faults are not",
        shown="enforce",
    )
    shadow: Shadow | None = option(Of(Shadow, _sampled), None, "a second engine: asked, compared, never obeyed")
    rollout: Rollout | None = option(Of(Rollout), None, "a candidate that decides for a share of the subjects")
    headers: tuple[str, ...] = option(
        ListOf(Text("a header name", values.HEADER, str.lower)), (), "request headers policy may read", shown="[]"
    )


POLICY = Of(Policy)
