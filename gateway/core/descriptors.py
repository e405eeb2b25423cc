"""What upstreams say of themselves (agent cards, tools, prompts), as the registry keeps it, and what callers say.

The words: a *descriptor* is such a description; its digest is over canonical JSON; a *pin* is the approved digest. An
item is `verified` when its digest is the approved one (signed by somebody trusted, approved by an administrator, or
the first that was seen, as the upstream's configuration says), `unverified` before that, `quarantined` when what was
seen is not what was approved, and `blocked` when an administrator said so. Anything but `verified` is not reached
where the configuration requires descriptors; `blocked` is never reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from typing import Protocol as Port

from gateway.core.canonical import Json

if TYPE_CHECKING:
    from gateway.core.exchange import Exchange
    from gateway.core.pipeline import Verdict


CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json")  # of A2A v1.0, and of v0.2
ORIGINAL_CARD_PATH = "/.well-known/agent-card.original.json"  # ours: `?digest=` names one, else the newest


class Standing(StrEnum):
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    QUARANTINED = "quarantined"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Described:
    """One descriptor. `kind` is agent, tool, prompt, resource or resource_template; `name` its own (an agent's: the
    upstream's). Besides there is `list` (its name tools, prompts, ...): that this list was pinned whole; and `caller`
    (no upstream, the name a subject's id), of which the registry knows only whether it is blocked. `digest` is of what
    was seen last ("" before anything was), `approved` the pin ("" for none), `by` who approved or signed it.
    `document` and `approved_document` are the two texts a reader compares. `seen` and `changed` are epoch seconds."""

    kind: str
    upstream: str
    name: str
    standing: Standing
    digest: str = ""
    approved: str = ""
    by: str = ""
    why: str = ""
    document: Json = None
    approved_document: Json = None
    seen: float = 0.0
    changed: float = 0.0


class Registry(Port):
    """Every descriptor that was ever seen, and what is thought of it (stores/agents.py). Read from memory, written
    durably. A store that cannot be read or is damaged refuses to open: nothing is verified by accident."""

    def find(self, kind: str, upstream: str, name: str) -> Described | None:
        """From memory. What is blocked has the standing `blocked`, whatever was saved."""
        ...

    def items(self, kind: str | None = None, upstream: str | None = None) -> Sequence[Described]:
        """In order of kind, upstream, name."""
        ...

    async def save(self, items: Sequence[Described]) -> None:
        """Durable, and seen by `find`, when it returns: all of them or none. A block is not touched by it: saved as
        `blocked`, an item keeps the standing it had below."""
        ...

    def subscribe(self, told: Callable[[Sequence[Described]], None]) -> None:
        """Whoever keeps something derived is told, in the event loop, of each change right after it is durable."""
        ...


class Blocks(Port):
    """The kill switch's memory, kept by the same store: what an administrator blocked stays so until it is lifted,
    whatever is seen, fetched or approved meanwhile."""

    async def block(self, kind: str, upstream: str, name: str, why: str, by: str) -> None:
        """Durable, and seen by `find`, when it returns. The item need not have been seen before."""
        ...

    async def unblock(self, kind: str, upstream: str, name: str) -> None: ...

    def blocked(self, kind: str) -> frozenset[tuple[str, str]]:
        """(upstream, name) of all that is blocked of that kind."""
        ...


class Unapprovable(Exception):
    """`args[0]` says why; `stale` where somebody looked at what is no longer what is there."""

    def __init__(self, text: str, *, stale: bool) -> None:
        super().__init__(text)
        self.stale = stale


class Approvals(Port):
    """What an administrator may say of pins (trust/pins.py)."""

    async def approve(
        self,
        wanted: Sequence[tuple[str, str, str, str]],
        by: str,
        recorded: Callable[[Sequence[Described]], Awaitable[None]],
    ) -> Sequence[Described]:
        """(kind, upstream, name, digest) each, all or none. The digest is of what was seen last, or of what was
        approved before: then the pin holds, and what was seen instead stays refused. `recorded` is awaited before
        anything is stored; what it raises ends it. Raises Unapprovable."""
        ...

    def pin(self, upstream: str) -> str:
        """required, first_use or none; "" for an upstream that has no pins at all."""
        ...

    def failure(self, upstream: str) -> str:
        """Why the gateway's last own listing brought nothing; "" where it did."""
        ...


class DescriptorCheck(Port):
    """One question of the Verify stage: may this exchange go on, as far as descriptors are concerned?"""

    def check(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        """CONTINUE or a Refusal (`descriptor_unverified`, `descriptor_changed`, `unauthenticated`). What counted goes
        into `exchange.descriptor`, `exchange.item_digest` and `exchange.vouched`. What was verified before must cost
        next to nothing; it awaits only what must be fetched."""
        ...


class Listings(Port):
    """What the MCP protocol tells of lists on their way to a caller, and asks (trust/pins.py)."""

    async def shown(
        self, upstream: str, listing: str, items: Sequence[Mapping[str, Json]], whole: bool
    ) -> Sequence[bool] | None:
        """Which of the items may be seen, None where nothing is watched. `listing` is tools, prompts, resources or
        templates; each item has its name. `whole`: it is all of the list."""
        ...

    def stale(self, upstream: str) -> None:
        """The upstream says that a list of its changed."""
        ...


class PinOwner(Port):
    """The process that lists and learns for all workers. Raises StoreFailed where it cannot be asked."""

    async def learn(self, upstream: str, listing: str, items: Sequence[Mapping[str, Json]], whole: bool) -> None:
        """As `Listings.shown`; what came of it is in the registry when it returns."""
        ...

    async def listed(self, upstream: str) -> tuple[str, bool]:
        """Waits for the first list; why the last one brought nothing, and whether one ever did."""
        ...

    def stale(self, upstream: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TakenCard:
    """An agent's card as it may be shown: `card` is what was verified of it, or all of it where nobody asks for that,
    without `signatures`. `original` is the digest of its bytes. `whole`: everything in it was covered."""

    card: dict[str, Json]
    signatures: Json
    original: str
    verified: bool
    whole: bool


class AgentCards(Port):
    """The cards of one agent (trust/card_cache.py): what is verified of them, and the gateway's own signature."""

    described: dict[str, Json] | None
    """What records say of the verified card; None while there is none. On the hot path."""
    digest: str
    required: bool
    preserve: bool
    why: str
    """Why there is no verified card."""

    def pending(self) -> Awaitable[None] | None:
        """Something to wait for, bounded in time, where the card was not fetched yet."""
        ...

    def held(self) -> bytes | None:
        """The card as it came, while it may be shown; None where none is kept."""
        ...

    def original(self, named: str) -> bytes | None:
        """A card as it came, by its digest ("" for the newest)."""
        ...

    async def take(self, card: Json, data: bytes, *, keep: bool) -> TakenCard:
        """A card that passes. `data` are its bytes, `keep` whether others than its caller may ask for them later.
        Raises Unverified where one is required, Malformed for what is no card."""
        ...

    def sign(self, card: dict[str, Json], *, jku: str, original: str) -> dict[str, Json]:
        """The card with the gateway's signatures and no other. Raises Malformed for what has no canonical form."""
        ...
