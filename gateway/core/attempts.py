"""The words of attempts: where a call is sent when its upstream has several addresses, and when it is sent again.

1. A call is sent again, or elsewhere, only before a byte of an answer reached its caller; where a byte of it may have
   arrived, only if sending it twice does the same as sending it once.
2. What a session or a task is known to at one address goes there and nowhere else.
3. Calls that are sent again are a bounded share of all calls.
Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from typing import Protocol as Port

from gateway.core.exchange import Handle

if TYPE_CHECKING:
    from gateway.core.breaking import Hold, Standing
    from gateway.core.snapshot import Upstream

_KIND: Final = "address-"


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`attempts` of one call altogether. `budget` is per mille of the calls of the last `window_s` seconds, at least
    `least` of them; `pause_s` is waited before the second attempt, twice that before the third, and so on."""

    attempts: int = 2
    budget: int = 100
    least: int = 1
    window_s: float = 10.0
    pause_s: float = 0.025


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """An address is asked for `path` every `every_s`; `failures` answers in a row that are none or not below 400 take
    it out, one that is brings it back."""

    path: str
    every_s: float = 10.0
    timeout_s: float = 2.0
    failures: int = 2


@dataclass(frozen=True, slots=True)
class BalanceSettings:
    """`by` least_loaded or round_robin. An address with `failures` failed calls in a row is left out for `eject_s`,
    twice that the next time, up to `eject_most_s`; never the last one."""

    by: str = "least_loaded"
    failures: int = 5
    eject_s: float = 30.0
    eject_most_s: float = 300.0
    health: HealthSettings | None = None


@dataclass(frozen=True, slots=True)
class Shift:
    """An address of an upstream is left out from now on, or is one of those that are asked again."""

    upstream: str
    address: str
    out: bool
    why: str


@dataclass(frozen=True, slots=True)
class AddressStanding:
    """`wait` is seconds until an ejected one is asked again."""

    upstream: str
    address: str
    state: str  # in | ejected | unhealthy
    in_flight: int
    why: str
    wait: float


class Chosen(Port):
    """An address that a call goes to; it counts there until it is released."""

    upstream: Upstream

    def ended(self, failed: bool) -> None:
        """An attempt there is over; once, and before `release`."""
        ...

    def release(self) -> None: ...


class Addresses(Port):
    """Which of an upstream's addresses is asked (ledger/addresses.py)."""

    def choose(self, upstream: Upstream, tried: Collection[str]) -> Chosen:
        """One of its members, rather none of those whose authority was tried."""
        ...

    def known(self, upstream: Upstream, authority: str) -> Chosen | None:
        """That one, however it stands; None where the upstream has it no more."""
        ...


class Again(Port):
    """How often calls may be sent again (ledger/retrying.py)."""

    def called(self, upstream: Upstream) -> None:
        """A call begins."""
        ...

    def allowed(self, upstream: Upstream) -> bool:
        """Whether one more may be sent again now; it counts as sent then."""
        ...

    def pause(self, upstream: Upstream, attempt: int) -> float:
        """Seconds to wait before that attempt (the second is 2), drawn at random."""
        ...


class UpstreamDesk(Port):
    """How upstreams do, and what an administrator does about it."""

    def breakers(self) -> Sequence[Standing]: ...

    def addresses(self) -> Sequence[AddressStanding]: ...

    async def hold(self, upstream: str, wanted: Hold) -> None:
        """Holds all breakers of one that has some, or lets them go, over restarts. Raises StoreFailed: nothing has
        changed."""
        ...


def lives_at(handle: Handle) -> Handle:
    """The handle under which it is written down at which address another one lives."""
    return Handle(_KIND + handle.kind, handle.id)


def place(authority: str, subject: str) -> str:
    """Whose that is: the address and the caller, so that nobody's sessions push out another's."""
    return f"{authority} {subject}"


def authority_of(owner: str) -> str:
    return owner.partition(" ")[0]
