"""Tokens that are kept for each caller in a vault: whose secret is read, how long it counts, and what a vault's trouble
does. The reader here is a stand-in; wire to wire, with a server of the vault's shape, it is flows' to show."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Principal
from gateway.core.reasons import Reason, Refusal
from gateway.identity import vaulted_tokens
from gateway.identity.upstream_tokens import FRESH_SECONDS, HOLD_SECONDS, KEPT_TOKENS, Tokens
from gateway.identity.vaulted_tokens import SEGMENT_CHARACTERS, VaultedTokens, VaultGrant, segment
from tests.identity.issuer import HandClock
from tests.stages.exchanges import exchange

ANN = Principal("agent:idp/ann", "agent")
PLACE = "callers/{subject}/weather"
ANNS = "callers/agent_3aidp_2fann/weather"


class Kept:
    """Secrets by path. `fails` is raised instead; `gate` holds every answer back."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = dict(secrets)
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.gate: threading.Event | None = None
        self.threads: set[int] = set()

    def read(self, path: str) -> str | None:
        self.asked.append(path)
        self.threads.add(threading.get_ident())
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.fails is not None:
            raise self.fails
        return self.secrets.get(path)


class Scene:
    def __init__(self, kept: Kept, header: str = "Authorization", scheme: str = "Bearer", seconds: float = 300) -> None:
        self.clock = HandClock()
        self.grant = VaultGrant(kept.read, seconds)
        self.tokens = Tokens("weather", header, self.grant, self.clock, scheme)
        self.source = VaultedTokens(PLACE, self.tokens)

    async def given(self, principal: Principal | None = ANN) -> Any:
        found = self.source.headers(exchange(principal=principal))
        return await found if isinstance(found, Awaitable) else found

    async def settled(self) -> None:
        """Until nothing is being fetched."""
        if self.tokens._tasks:
            await asyncio.wait(self.tokens._tasks.values(), timeout=20)
        await asyncio.sleep(0)


def told(kept: Kept, story: Any, **settings: Any) -> None:
    async def run() -> None:
        scene = Scene(kept, **settings)
        try:
            await story(scene)
        finally:
            scene.source.close()

    asyncio.run(run())


def refusal(found: object, reason: Reason) -> Refusal:
    assert isinstance(found, Refusal)
    assert found.reason is reason
    return found


@pytest.mark.parametrize(
    "subject",
    ["../../sys/seal", "..", ".", "a/b", "a%2fb", "a%252e", "a\\b", "ü", "a b", "a#b", "a?b=c", "a\x00b", "{subject}"],
)
def test_whatever_an_id_is_it_is_one_plain_segment(subject: str) -> None:
    found = segment(subject)
    assert found is not None
    assert all(character.isascii() and (character.isalnum() or character in "-_") for character in found)
    parts = found.split("_")
    read_back = parts[0].encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in parts[1:])
    assert read_back.decode() == subject, "no two ids share one"


def test_what_looks_encoded_is_encoded_again_and_what_has_no_segment_has_no_token() -> None:
    assert segment("agent:idp/ann") == "agent_3aidp_2fann"
    assert segment("agent_3aidp_2fann") == "agent_5f3aidp_5f2fann"
    assert segment("x" * SEGMENT_CHARACTERS) == "x" * SEGMENT_CHARACTERS
    for subject in ("", "x" * (SEGMENT_CHARACTERS + 1), "/" * SEGMENT_CHARACTERS, chr(0xD800)):
        assert segment(subject) is None

    async def story(scene: Scene) -> None:
        for principal in (None, replace(ANN, id="x" * 600)):
            assert refusal(await scene.given(principal), Reason.DENIED).rule == "no_kept_token"

    told(kept := Kept(), story)
    assert kept.asked == []


def test_each_caller_is_shown_as_itself_and_it_is_read_once_and_beside_the_event_loop() -> None:
    async def story(scene: Scene) -> None:
        many = await asyncio.gather(*(scene.given() for _ in range(20)))
        assert set(many) == {((b"authorization", b"Bearer anns"),)}
        assert scene.source.headers(exchange(principal=ANN)) == ((b"authorization", b"Bearer anns"),), "at hand"
        for stranger in ("agent:idp/Ann", "agent:idp/an", "agent_3aidp_2fann", "user:idp/ann"):
            found = refusal(await scene.given(replace(ANN, id=stranger)), Reason.DENIED)
            assert found.rule == "no_kept_token"
        assert scene.source.own() is None

    told(kept := Kept(**{ANNS: "anns"}), story)
    assert kept.asked.count(ANNS) == 1
    assert threading.get_ident() not in kept.threads


def test_it_may_go_into_another_header_as_it_stands() -> None:
    async def story(scene: Scene) -> None:
        assert await scene.given() == ((b"x-key", b"anns"),)

    told(Kept(**{ANNS: "anns"}), story, header="X-Key", scheme="")


def test_it_is_read_again_in_time_and_what_was_taken_away_is_shown_no_more() -> None:
    async def story(scene: Scene) -> None:
        assert await scene.given() == ((b"authorization", b"Bearer old"),)
        kept.secrets[ANNS] = "new"
        scene.clock.pass_(250)  # in its last quarter: this one is still sent, the next is read beside it
        assert await scene.given() == ((b"authorization", b"Bearer old"),)
        await scene.settled()
        assert await scene.given() == ((b"authorization", b"Bearer new"),)
        del kept.secrets[ANNS]
        scene.clock.pass_(250)
        await scene.given()
        await scene.settled()
        assert refusal(await scene.given(), Reason.DENIED).rule == "no_kept_token"

    told(kept := Kept(**{ANNS: "old"}), story)


def test_a_vault_that_is_away_leaves_what_was_read_until_its_end_and_then_nothing_is_sent() -> None:
    async def story(scene: Scene) -> None:
        await scene.given()
        kept.fails = OSError("https://vault.internal:8200 does not answer")
        scene.clock.pass_(250)
        await scene.given()
        await scene.settled()
        assert await scene.given() == ((b"authorization", b"Bearer anns"),)
        scene.clock.pass_(60)
        found = refusal(await scene.given(), Reason.UPSTREAM_FAILED)
        assert "the vault cannot be asked" in found.text
        assert "vault.internal" not in found.text
        asked = len(kept.asked)
        assert isinstance(await scene.given(), Refusal)
        assert len(kept.asked) == asked, "who asks at once again is told the same"
        kept.fails = None
        scene.clock.pass_(HOLD_SECONDS)
        assert await scene.given() == ((b"authorization", b"Bearer anns"),)

    told(kept := Kept(**{ANNS: "anns"}), story)


@pytest.mark.parametrize("value", ["", " x", "a\nb", "a\r\nx-evil: 1", "ü", "x" * 20_000])
def test_what_no_header_may_carry_is_not_sent(value: str) -> None:
    async def story(scene: Scene) -> None:
        found = refusal(await scene.given(), Reason.UPSTREAM_FAILED)
        assert "not a text that a header may carry" in found.text
        assert not value.strip() or value not in found.text

    told(Kept(**{ANNS: value}), story)


def test_one_that_the_upstream_refused_is_read_again_but_not_at_every_call() -> None:
    async def story(scene: Scene) -> None:
        await scene.given()
        scene.source.rejected(exchange(principal=ANN))
        await scene.given()
        assert len(kept.asked) == 1
        scene.clock.pass_(FRESH_SECONDS)
        kept.secrets[ANNS] = "new"
        scene.source.rejected(exchange(principal=replace(ANN, id="agent:idp/bob")))
        assert await scene.given() == ((b"authorization", b"Bearer anns"),)
        scene.source.rejected(exchange(principal=ANN))
        assert await scene.given() == ((b"authorization", b"Bearer new"),)

    told(kept := Kept(**{ANNS: "anns"}), story)


def test_a_vault_that_hangs_is_not_waited_for_and_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Scene) -> None:
        kept.gate = threading.Event()
        try:
            waiting = [asyncio.create_task(scene.given(replace(ANN, id=f"a{number}"))) for number in range(40)]
            assert await asyncio.to_thread(lambda: 5) == 5, "the threads that others use are free"
            for found in await asyncio.gather(*waiting):
                assert "did not answer in time" in refusal(found, Reason.UPSTREAM_FAILED).text
        finally:
            kept.gate.set()
        assert len(kept.asked) == 1, "questions that nobody waits for any more are not asked"

    monkeypatch.setattr(vaulted_tokens, "ASK_SECONDS", 0.2)
    told(kept := Kept(), story)


def test_what_is_kept_in_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.identity.upstream_tokens.KEPT_TOKENS", 3)
    assert KEPT_TOKENS <= 10_000

    async def story(scene: Scene) -> None:
        for number in range(5):
            await scene.given(replace(ANN, id=f"a{number}"))
        assert len(scene.tokens._held) == 3

    told(Kept(), story)
