"""The cards of one agent: fetched in the background, verified, kept, and handed out for showing.

1. The agent's card is fetched every `refresh` seconds; one that did not change (ETag, else its SHA-256) is not judged
again while the keys are the same. 2. While it cannot be fetched, what is kept serves on for `stale` seconds, then it
counts for nothing. 3. It is judged again whenever a signer's keys change or the key that signed it ends: a withdrawn
key takes the card with it. A card that came and does not verify counts at once, however good the former was.
4. `described` is set while, and only while, a verified card is there: `CardCheck` looks at nothing else. 5. Any other
card of the agent (an extended one, a tenant's) is judged by the same rules when it passes; verdicts are remembered by
digest, for the very keys they were made with. 6. Originals are kept by digest, `ORIGINALS` of them, never extended
ones: those are their caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from gateway.core.canonical import Json, digest
from gateway.core.descriptors import Described, Registry, Standing, TakenCard
from gateway.core.exchange import Header
from gateway.core.fetching import Fetched
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed, Unverified
from gateway.trust.cards import Believed, Voucher, read_card, sign_card, verify_card
from gateway.trust.jose import Signer
from gateway.trust.signers import Signers

FETCH_SECONDS = 10.0
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # after so many failures in a row, never later than `refresh`
ORIGINALS = 8
VERDICTS = 64

Get: TypeAlias = "Callable[[Sequence[Header]], Awaitable[Fetched]]"
"""GET of the agent's card with these headers besides its own. Bounded in size; raises whatever went wrong."""

_log = logging.getLogger("tollgate.trust")


@dataclass(frozen=True, slots=True)
class CardSettings:
    """`upstreams.<name>.card`, times in seconds. `fetched` off: none is configured, cards are only signed."""

    upstream: str
    fetched: bool = False
    required: bool = False
    preserve: bool = False
    refresh: float = 300.0
    stale: float = 86400.0


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest card that came. `card` is None where it is none, and `wrong` says why."""

    data: bytes
    digest: str
    etag: str
    card: dict[str, Json] | None
    wrong: str


@dataclass(frozen=True, slots=True)
class _Verdict:
    vouchers: tuple[Voucher, ...]
    believed: Believed | None
    why: str


class CardCache:
    """The port AgentCards. Lives in one event loop; `signer` gives the gateway's current key for cards."""

    def __init__(
        self,
        settings: CardSettings,
        get: Get,
        signers: Signers,
        signer: Callable[[], Signer],
        registry: Callable[[], Registry | None],
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.signers = signers
        self.required = settings.required
        self.preserve = settings.preserve
        self.described: dict[str, Json] | None = None
        self.digest = ""
        self.why = "its card was not fetched yet"
        self._get = get
        self._signer = signer
        self._registry = registry
        self._clock = clock
        self._held: _Held | None = None
        self._held_by: tuple[Voucher, ...] | None = None  # the keys that `described` stands on
        self._until = 0.0  # epoch seconds to which its key is in force
        self._good_at = 0.0
        self._due = 0.0
        self._failures = 0
        self._tried = False
        self._task: asyncio.Task[None] | None = None
        self._originals: dict[str, bytes] = {}
        self._verdicts: dict[str, _Verdict] = {}
        self._told: Described | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def poll(self) -> None:
        """Called some times a second."""
        if not self.settings.fetched:
            return
        if self._task is None and self._clock.monotonic() >= self._due:
            self._task = asyncio.get_running_loop().create_task(
                self._refresh(), name=f"card of {self.settings.upstream}"
            )
        elif self._task is None and self._tried:
            stale = self._clock.monotonic() - self._good_at > self.settings.stale
            if stale or self._clock.time() >= self._until or self._held_by != self.signers.vouchers():
                self._settle()  # 2, 3

    def pending(self) -> Awaitable[None] | None:
        """Something to wait for while the first fetch is under way, with its own deadline."""
        if self._tried or not self.settings.fetched:
            return None
        self.poll()
        return self._joined()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def held(self) -> bytes | None:
        """The bytes of the card as it came, while it may be shown."""
        fresh = self._held is not None and self._clock.monotonic() - self._good_at <= self.settings.stale
        return self._held.data if fresh and self._held is not None else None

    def original(self, named: str) -> bytes | None:
        """What a card was made from, by its digest, "" for the newest."""
        if not named:
            return next(reversed(self._originals.values()), None)
        return self._originals.get(named)

    async def take(self, card: Json, data: bytes, *, keep: bool) -> TakenCard:
        """Rule 5. `data` are the bytes that `card` was read from, `keep` that they may be kept as an original (6)."""
        if not isinstance(card, dict):
            raise Malformed("an agent card is an object")
        named = digest(data)
        verdict = self._remembered(named)
        if verdict is None:
            read_card(data)  # its size
            if self.settings.fetched:
                await self.signers.ready(card)
            verdict = self._judged(named, card)
        if verdict.believed is None and self.required:
            raise Unverified(verdict.why)
        if keep:
            self._originals.pop(named, None)
            self._originals[named] = data
            if len(self._originals) > ORIGINALS:
                del self._originals[next(iter(self._originals))]
        bare = {name: value for name, value in card.items() if name != "signatures"}
        if verdict.believed is None:
            return TakenCard(bare, card.get("signatures"), named, verified=False, whole=True)
        believed = verdict.believed.card
        return TakenCard(dict(believed), card.get("signatures"), named, verified=True, whole=believed == bare)

    def sign(self, card: dict[str, Json], *, jku: str, original: str) -> dict[str, Json]:
        return sign_card(card, self._signer(), jku=jku, original=original)

    def _remembered(self, named: str) -> _Verdict | None:
        """A verdict that still holds: made with the keys that are there now, by one still in force."""
        found = self._verdicts.get(named)
        if found is None or found.vouchers != self.signers.vouchers():
            return None
        if found.believed is not None and self._clock.time() >= found.believed.until:
            return None
        return found

    def _judged(self, named: str, card: dict[str, Json]) -> _Verdict:
        vouchers = self.signers.vouchers()
        believed, why = None, "no signers are configured for it"
        if vouchers:
            try:
                believed, why = verify_card(card, vouchers, self._clock.time()), ""
            except Malformed as error:
                why = str(error)
        found = _Verdict(vouchers, believed, why)
        self._verdicts.pop(named, None)
        self._verdicts[named] = found
        if len(self._verdicts) > VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]
        return found

    async def _joined(self) -> None:
        if self._task is not None:
            await asyncio.wait((self._task,))  # a caller that goes away does not take the fetch with it

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                conditions = [(b"if-none-match", self._held.etag.encode())] if self._held and self._held.etag else []
                self._hold(await self._get(conditions))
            self._good_at = self._clock.monotonic()
            self._failures = 0
            self._due = self._good_at + self.settings.refresh
        except Exception as error:  # noqa: BLE001 (background: whatever went wrong, what is kept serves on for a while)
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
            if not self._failures:
                _log.warning("the card of %s cannot be fetched: %s", self.settings.upstream, text)
            if self._held is None:
                self.why = f"its card cannot be fetched: {text}"
            delay = min(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)], self.settings.refresh)
            self._failures += 1
            self._due = self._clock.monotonic() + delay
        finally:
            await self._ready()
            self._tried = True
            self._task = None
            self._settle()

    async def _ready(self) -> None:
        """Keys that the card needs are asked for before it is judged: a new key is published with what it signed."""
        if self._held is None or self._held.card is None:
            return
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                await self.signers.ready(self._held.card)
        except (TimeoutError, Malformed):
            return  # the verdict says what is missing

    def _hold(self, found: Fetched) -> None:
        """Raises Unverified for an answer that is no card's."""
        if found.status == 304 and self._held is not None:
            return
        if found.status != 200:
            raise Unverified(f"it answered {found.status}")
        etag, named = found.header("etag") or "", digest(found.body)
        card: dict[str, Json] | None = None
        wrong = ""
        try:
            card = read_card(found.body)
        except Malformed as error:
            wrong = str(error)
        self._held = _Held(found.body, named, etag if etag.isascii() else "", card, wrong)

    def _settle(self) -> None:
        """Rules 2 to 4: makes `described` true."""
        vouchers, held = self.signers.vouchers(), self._held
        believed: Believed | None = None
        if held is not None:
            if self._clock.monotonic() - self._good_at > self.settings.stale:
                self.why = f"its card is older than {self.settings.stale:g} s and cannot be fetched again"
            elif held.card is None:
                self.why = held.wrong
            else:
                verdict = self._remembered(held.digest) or self._judged(held.digest, held.card)
                believed, self.why = verdict.believed, verdict.why
        self._held_by = vouchers
        self._until = believed.until if believed is not None else float("inf")
        before = self.described is not None
        self.digest = believed.digest if believed is not None else ""
        self.described = _described(believed, held.digest) if believed is not None and held is not None else None
        if before != (believed is not None):
            state = f"verified, signed by {believed.signer}" if believed is not None else f"not verified: {self.why}"
            _log.log(
                logging.INFO if believed else logging.WARNING, "the card of %s is %s", self.settings.upstream, state
            )
        self._tell(believed, held)

    def _tell(self, believed: Believed | None, held: _Held | None) -> None:
        """What changed goes into the registry, which is for people and for the next start; no call waits for it."""
        registry = self._registry()
        if registry is None or held is None:
            return
        name, now = self.settings.upstream, self._clock.time()
        last = registry.find("agent", name, name)
        said = Described(
            kind="agent",
            upstream=name,
            name=name,
            standing=Standing.VERIFIED if believed is not None else Standing.UNVERIFIED,
            digest=believed.digest if believed is not None else held.digest,
            approved=believed.digest if believed is not None else (last.approved if last else ""),
            by=believed.signer if believed is not None else "",
            why="" if believed is not None else self.why,
            document=held.card,
            approved_document=believed.card if believed is not None else (last.approved_document if last else None),
        )
        if said == self._told:
            return
        self._told = said
        made = replace(said, seen=now, changed=now)
        task = asyncio.get_running_loop().create_task(self._save(registry, made), name=f"standing of {name}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _save(self, registry: Registry, item: Described) -> None:
        try:
            await registry.save([item])
        except Exception:  # noqa: BLE001 (background: the check stands on what is in memory)
            self._told = None  # said again with the next round
            _log.exception("the standing of the agent %s could not be written", item.name)


def _described(believed: Believed, original: str) -> dict[str, Json]:
    """What records say of the card that a call relied on."""
    return {
        "digest": believed.digest,
        "form": believed.form,
        "kid": believed.kid,
        "original": original,
        "signer": believed.signer,
    }
