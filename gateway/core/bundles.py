"""A policy bundle in OPA's format, as it is once it was read, and the ports through which it is checked and kept.

The rule: a `Bundle` exists only because every rule of its verification held (trust/bundle.py lists them), and it never
changes: it is named by the digest of the very bytes that were verified. What is refused says by which rule's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Port

from gateway.core.canonical import Json

NAME = r"[a-z0-9][a-z0-9-]{0,62}"  # under which a bundle is pushed, kept and served
OWN_SIGNER = "gateway"  # among who may sign bundles: this gateway's own keys for that
CONFIGURED = ""  # in place of a digest: the policy that the configuration names


class BundleRefused(Exception):
    """`rule` is the number in trust/bundle.py's list; `text` says what is wrong, which member, what to do."""

    def __init__(self, rule: int, text: str) -> None:
        super().__init__(f"the bundle is refused by rule {rule}: {text}")
        self.rule = rule
        self.text = text


@dataclass(frozen=True, slots=True)
class Bundle:
    """`modules` are served, `tests` never; both by path, slashes between, none in front. `data` is rooted as in OPA.

    `revision` is its author's word for it, `digest` that of the tarball's bytes (`sha256:<hex>`), `number` what orders
    the bundles of one name, `not_before` and `expires` epoch seconds (None: no such end). `signer` is the name of who
    signed (trust.signers), `kid` its key, `scope` what the signature says it is for.
    """

    revision: str
    digest: str
    roots: tuple[str, ...]
    modules: Mapping[str, str]
    tests: Mapping[str, str]
    data: Mapping[str, Json]
    number: int
    not_before: float | None
    expires: float | None
    signer: str
    kid: str
    scope: str

    def facts(self) -> dict[str, Json]:
        """What records and people are told of it."""
        found: dict[str, Json] = {
            "revision": self.revision,
            "digest": self.digest,
            "number": self.number,
            "roots": list(self.roots),
            "signer": self.signer,
            "kid": self.kid,
        }
        if self.scope:
            found["scope"] = self.scope
        return found


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bundle is held against besides its signature. `after`: its number must be above this one (the highest that
    was ever accepted), -1 where none was. `now`: epoch seconds that must be within its validity window; None where it
    was accepted before and is only taken up again. `tests`: whether its own tests are run."""

    after: int = -1
    now: float | None = None
    tests: bool = True


class BundleVerifier(Port):
    """All that has to hold before a bundle may decide anything (trust/bundle.py)."""

    def verify(self, tarball: bytes, terms: Terms) -> Bundle:
        """Takes seconds: not for an event loop's thread. Raises BundleRefused, and nothing else for any input."""
        ...


@dataclass(frozen=True, slots=True)
class LabFinding:
    """`problem`: why the policy would not be served, "" if it would. `failed`: its tests that failed, each with what
    it said. `ran` counts tests; `coverage` is the share of the policy's lines that they evaluated."""

    problem: str
    failed: tuple[str, ...] = ()
    ran: int = 0
    coverage: float = 0.0


class PolicyLab(Port):
    """Compiles a policy as it would be served and runs its tests, apart from the gateway, with a deadline (pdp/)."""

    def examine(
        self, modules: Mapping[str, str], tests: Mapping[str, str], data: Mapping[str, Json], *, run: bool
    ) -> LabFinding:
        """Blocks for as long as that takes. `run`: the tests too. Never raises for what a policy does."""
        ...


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """What a store knows of one bundle. `pushed` is epoch seconds, `by` who pushed it."""

    name: str
    digest: str
    revision: str
    number: int
    signer: str
    not_before: float | None
    expires: float | None
    size_bytes: int
    pushed: float
    by: str


@dataclass(frozen=True, slots=True)
class BundleState:
    """What holds for one name. `active` and `previous` are digests, CONFIGURED for what the configuration names;
    `previous` is None where there is nothing to go back to. `highest` is the highest number ever accepted, -1 for none;
    `latest` the latest moment at which one was: the clock that windows are judged by does not go back behind it."""

    active: str = CONFIGURED
    previous: str | None = None
    highest: int = -1
    latest: float = 0.0
    since: float = 0.0  # when `active` came into force


@dataclass(frozen=True, slots=True)
class BundleEvent:
    """One line of a name's history: `act` is push, load (the file that the configuration names), activate or
    rollback."""

    name: str
    act: str
    digest: str
    number: int
    by: str
    time: float


class BundleMoved(Exception):
    """Something else is active by now than the caller looked at; `args[0]` is what."""


class BundleStore(Port):
    """Bundles and which of them is active, by name, durable (stores/). Its calls block: not for an event loop's thread.
    Each raises StoreFailed."""

    def accept(self, bundle: KeptBundle, tarball: bytes, act: str = "push") -> None:
        """Keeps it and its number. The same bytes twice are kept once."""
        ...

    def activate(self, name: str, digest: str, *, expected: str, act: str, by: str, time: float) -> None:
        """From `expected` to `digest`, in one step. Raises BundleMoved where another one is active."""
        ...

    def state(self, name: str) -> BundleState: ...

    def found(self, name: str, digest: str) -> KeptBundle | None: ...

    def tarball(self, digest: str) -> bytes | None:
        """The very bytes, checked against their digest."""
        ...

    def kept(self, name: str | None = None) -> Sequence[KeptBundle]:
        """The newest number first."""
        ...

    def names(self) -> Sequence[str]: ...

    def history(self, name: str, limit: int = 100) -> Sequence[BundleEvent]:
        """The newest first."""
        ...


class BundleUnknown(Exception):
    """There is no such bundle, or nothing to go back to; `args[0]` says which and what to do."""


class BundleBackwards(Exception):
    """An older bundle is not activated but rolled back to; `args[0]` says so."""


class BundleDesk(Port):
    """What administrators do with bundles (assembly_bundles.py). All raise LogUnavailable, StoreFailed."""

    @property
    def store(self) -> BundleStore:
        """For looking: nothing is changed past the desk."""
        ...

    @property
    def own(self) -> str:
        """The name under which this gateway's policy is pushed; "" while another engine decides."""
        ...

    async def push(self, name: str, tarball: bytes, by: str) -> KeptBundle:
        """Verified, kept, recorded; a refusal is recorded too. Raises BundleRefused."""
        ...

    async def activate(self, name: str, digest: str, expected: str, by: str) -> BundleState:
        """In force when it returns, recorded before. `expected` is what the caller takes to be active. Raises
        BundleRefused, BundleMoved, BundleUnknown, BundleBackwards."""
        ...

    async def rollback(self, name: str, digest: str | None, expected: str, by: str) -> BundleState:
        """Back to the one before (None), or to the one that is named, whatever its number. As `activate`."""
        ...

    async def changed(self, name: str, digest: str, within_s: float) -> BundleState:
        """Returns when another bundle than `digest` is active, or when the time is over."""
        ...
