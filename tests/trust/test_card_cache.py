"""One agent's cards over time: fetched, refreshed, stale, spoiled, withdrawn; what was verified before is not again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.core.canonical import digest
from gateway.core.descriptors import Standing
from gateway.core.exchange import Header
from gateway.core.fetching import Fetched
from gateway.core.reasons import Malformed, Unverified
from gateway.stores.agents import SqliteRegistry
from gateway.trust.card_cache import ORIGINALS, VERDICTS, CardCache, CardSettings
from gateway.trust.jwks import FileKeys
from gateway.trust.signers import SETS_PER_SIGNER, NamedSets, Signers, TrustedSigner
from tests.trust.card_rig import ACME, OTHER, THIEF, card, jwks, signed

JKU = "https://keys.acme.example/jwks.json"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class Agent:
    """What the agent answers, and what it was asked."""

    body: bytes = b""
    status: int = 200
    etag: str = ""
    asked: list[list[Header]] = field(default_factory=list)
    broken: Exception | None = None

    async def __call__(self, headers: Sequence[Header]) -> Fetched:
        self.asked.append(list(headers))
        if self.broken is not None:
            raise self.broken
        if self.etag and (b"if-none-match", self.etag.encode()) in headers:
            return Fetched(304, (("etag", self.etag),), b"")
        return Fetched(self.status, (("etag", self.etag),) if self.etag else (), self.body)

    def serves(self, found: dict[str, Any]) -> None:
        self.body = json.dumps(found).encode()


@dataclass
class Elsewhere:
    """Key sets at addresses."""

    sets: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self.sets[url]


@dataclass
class Bench:
    folder: Path
    clock: Clock = field(default_factory=Clock)
    agent: Agent = field(default_factory=Agent)
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    def __post_init__(self) -> None:
        self.publish(jwks(ACME))
        self.source = FileKeys(self.folder / "acme.jwks.json", self.clock)
        self.named = NamedSets(self.elsewhere, self.clock)
        self.registry = SqliteRegistry(self.folder / "descriptors.sqlite", self.clock.time)

    def publish(self, data: bytes) -> None:
        (self.folder / "acme.jwks.json").write_bytes(data)

    def cards(self, *, origins: Sequence[str] = (), names: bool = True, **settings: Any) -> CardCache:
        wanted = CardSettings(
            "up", **({"fetched": True, "required": True, "refresh": 300.0, "stale": 3600.0} | settings)
        )
        signers = Signers([TrustedSigner("acme", self.source, frozenset(origins))] if names else [], self.named)
        return CardCache(wanted, self.agent, signers, lambda: OTHER, lambda: self.registry, self.clock)

    async def look(self, cards: CardCache, seconds: float = 0.0) -> None:
        """The background looks once, so many seconds later, and what it began ends."""
        self.clock.now += seconds
        self.source.poll()
        cards.poll()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.wait([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path)
    yield made
    made.registry.close()


def told(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await story()

    asyncio.run(bounded())


def test_a_verified_card_is_described_and_registered(bench: Bench) -> None:
    async def story() -> None:
        bench.agent.serves(signed(card(), ACME))
        cards = bench.cards()
        assert (cards.described, cards.why) == (None, "its card was not fetched yet")
        await bench.look(cards)
        assert cards.described == {
            "digest": cards.digest,
            "form": "spec",
            "kid": "acme-1",
            "original": digest(bench.agent.body),
            "signer": "acme",
        }
        assert cards.held() == bench.agent.body
        item = bench.registry.find("agent", "up", "up")
        assert item is not None
        assert (item.standing, item.digest, item.approved, item.by) == (
            Standing.VERIFIED, cards.digest, cards.digest, "acme",
        )  # fmt: skip
        assert item.document == signed(card(), ACME) | {"signatures": json.loads(bench.agent.body)["signatures"]}

    told(story)


def test_it_is_asked_again_each_refresh_with_its_etag_and_judged_once(bench: Bench) -> None:
    async def story() -> None:
        bench.agent.serves(signed(card(), ACME))
        bench.agent.etag = '"1"'
        cards = bench.cards()
        await bench.look(cards)
        first = cards.described
        await bench.look(cards, 299)
        assert len(bench.agent.asked) == 1
        await bench.look(cards, 1)
        assert bench.agent.asked == [[], [(b"if-none-match", b'"1"')]]
        assert cards.described is not None
        assert cards.described == first
        assert len(cards._verdicts) == 1

    told(story)


def test_a_card_that_no_longer_verifies_counts_at_once(bench: Bench) -> None:
    async def story() -> None:
        bench.agent.serves(signed(card(), ACME))
        cards = bench.cards()
        await bench.look(cards)
        good = cards.digest
        for spoiled in (
            json.dumps({**signed(card(), ACME), "name": "other"}).encode(),
            json.dumps(card()).encode(),
            json.dumps(signed(card(), THIEF)).encode(),
            b'{"name": "a", "name": "b"}',
            b"<html>",
            b"",
        ):
            bench.agent.body = spoiled
            await bench.look(cards, 300)
            assert (cards.described, cards.digest) == (None, "")
            assert cards.why
            item = bench.registry.find("agent", "up", "up")
            assert item is not None
            assert (item.standing, item.approved, item.why) == (Standing.UNVERIFIED, good, cards.why)
            bench.agent.serves(signed(card(), ACME))
            await bench.look(cards, 300)
            assert cards.digest == good

    told(story)


@pytest.mark.parametrize("trouble", [OSError("no route"), TimeoutError(), 404, 500, 301])
def test_while_it_cannot_be_fetched_the_kept_one_serves_until_it_is_stale(bench: Bench, trouble: Any) -> None:
    async def story() -> None:
        bench.agent.serves(signed(card(), ACME))
        cards = bench.cards()
        await bench.look(cards)
        if isinstance(trouble, int):
            bench.agent.status = trouble
        else:
            bench.agent.broken = trouble
        bench.agent.body = b""
        await bench.look(cards, 300)
        assert cards.described is not None
        await bench.look(cards, 3300)
        assert cards.described is not None
        await bench.look(cards, 1)
        assert cards.described is None
        assert "older than 3600 s" in cards.why
        assert cards.held() is None
        bench.agent.status, bench.agent.broken = 200, None
        bench.agent.serves(signed(card(), ACME))
        await bench.look(cards, 30)
        assert cards.described is not None

    told(story)


def test_it_is_tried_again_soon_and_then_later(bench: Bench) -> None:
    async def story() -> None:
        bench.agent.broken = OSError("no route")
        cards = bench.cards()
        for seconds, asked in (
            (0, 1),
            (0.5, 1),
            (0.5, 2),
            (1.9, 2),
            (0.1, 3),
            (5, 4),
            (10, 5),
            (30, 6),
            (29, 6),
            (1, 7),
        ):
            await bench.look(cards, seconds)
            assert len(bench.agent.asked) == asked
        assert "no route" in cards.why

    told(story)


def test_a_withdrawn_key_takes_the_card_with_it_and_a_new_one_brings_it_back(bench: Bench) -> None:
    async def story() -> None:
        bench.agent.serves(signed(card(), ACME))
        cards = bench.cards()
        await bench.look(cards)
        bench.publish(jwks(OTHER))
        await bench.look(cards, 0.5)
        assert cards.described is None
        assert len(bench.agent.asked) == 1
        assert "no trusted signer" in cards.why
        bench.publish(jwks(OTHER, ACME))
        await bench.look(cards, 0.5)
        assert cards.described is not None

    told(story)


def test_a_key_that_ends_takes_the_card_with_it(bench: Bench) -> None:
    async def story() -> None:
        bench.publish(jwks(ACME, exp=bench.clock.now + 60))
        bench.source.poll()
        bench.agent.serves(signed(card(), ACME))
        cards = bench.cards()
        await bench.look(cards, 59)
        assert cards.described is not None
        await bench.look(cards, 1)
        assert cards.described is None
        assert "not in force" in cards.why

    told(story)


def test_whoever_comes_first_waits_for_the_first_fetch_only(bench: Bench) -> None:
    async def story() -> None:
        bench.agent.serves(signed(card(), ACME))
        cards = bench.cards()
        pending = cards.pending()
        assert pending is not None
        await pending
        assert cards.described is not None
        assert cards.pending() is None
        await bench.look(cards)

    told(story)


def test_a_card_that_passes_is_judged_once_for_the_same_keys(bench: Bench) -> None:
    async def story() -> None:
        cards = bench.cards()
        found = {**signed(card(), ACME), "injected": "x"}
        data = json.dumps(found).encode()
        taken = await cards.take(found, data, keep=True)
        assert (taken.card, taken.verified, taken.whole, taken.original) == (card(), True, False, digest(data))
        verdict = next(iter(cards._verdicts.values()))
        await cards.take(found, data, keep=True)
        assert next(iter(cards._verdicts.values())) is verdict
        bench.publish(jwks(OTHER))
        bench.source.poll()
        with pytest.raises(Unverified):
            await cards.take(found, data, keep=True)

    told(story)


def test_without_a_need_for_a_card_an_unverified_one_is_taken_as_it_is(bench: Bench) -> None:
    async def story() -> None:
        found = {**card(), "future": [], "signatures": ["x"]}
        for cards in (bench.cards(required=False), bench.cards(fetched=False, required=False, names=False)):
            taken = await cards.take(found, json.dumps(found).encode(), keep=True)
            assert (taken.verified, taken.whole) == (False, True)
            assert taken.card == {**card(), "future": []}
            with pytest.raises(Malformed):
                await cards.take([], b"[]", keep=True)

    told(story)


def test_originals_and_verdicts_are_few(bench: Bench) -> None:
    async def story() -> None:
        cards = bench.cards()
        names = []
        for number in range(VERDICTS + 5):
            found = signed(card(version=str(number)), ACME)
            data = json.dumps(found).encode()
            names.append(digest(data))
            await cards.take(found, data, keep=True)
        kept = [name for name in names if cards.original(name) is not None]
        assert kept == names[-ORIGINALS:]
        assert digest(cards.original("") or b"") == names[-1]
        assert len(cards._verdicts) == VERDICTS
        extended = json.dumps(signed(card(version="extended"), ACME)).encode()
        await cards.take(json.loads(extended), extended, keep=False)
        assert cards.original(digest(extended)) is None

    told(story)


def test_a_jku_of_a_listed_origin_is_fetched_and_no_other_is(bench: Bench) -> None:
    async def story() -> None:
        bench.elsewhere.sets = {JKU: jwks(OTHER)}
        found = signed(card(), OTHER, jku=JKU)
        bench.agent.serves(found)
        cards = bench.cards(origins=["https://keys.acme.example"])
        await bench.look(cards)
        assert (cards.described or {}).get("kid") == "other-1"
        strange = signed(card(), OTHER, jku="https://evil.example/jwks.json")
        for data in (strange, signed(card(), OTHER, jku="http://keys.acme.example/jwks.json")):
            with pytest.raises(Unverified):
                await cards.take(data, json.dumps(data).encode(), keep=False)
        nobody = bench.cards()
        with pytest.raises(Unverified):
            await nobody.take(found, json.dumps(found).encode(), keep=False)
        assert bench.elsewhere.asked == [JKU]

    told(story)


def test_a_card_that_names_many_sets_costs_few(bench: Bench) -> None:
    async def story() -> None:
        cards = bench.cards(origins=["https://keys.acme.example"])
        for number in range(4):
            found: dict[str, Any] = card(version=str(number))
            for place in range(8):
                found = signed(found, OTHER, jku=f"https://keys.acme.example/{number}/{place}")
            with pytest.raises(Unverified):
                await cards.take(found, json.dumps(found).encode(), keep=False)
        assert len(bench.elsewhere.asked) == 32
        assert len(bench.named.of("acme")) == SETS_PER_SIGNER
        bench.named.close()

    told(story)


def test_the_newest_key_is_asked_for_before_a_card_is_refused(bench: Bench) -> None:
    """A signer rotates: the card is there before the set was read again."""

    async def story() -> None:
        fetched = Elsewhere({JKU: jwks(ACME)})
        named = NamedSets(fetched, bench.clock)
        source = named._sources.url(JKU)
        await (source.refresh() or asyncio.sleep(0))
        bench.clock.now += 31
        fetched.sets[JKU] = jwks(ACME, OTHER)
        signers = Signers([TrustedSigner("acme", source)], bench.named)
        cards = CardCache(
            CardSettings("up", fetched=True, required=True),
            bench.agent,
            signers,
            lambda: OTHER,
            lambda: None,
            bench.clock,
        )
        found = signed(card(), OTHER)
        assert (await cards.take(found, json.dumps(found).encode(), keep=False)).verified
        assert fetched.asked == [JKU, JKU]

    told(story)
