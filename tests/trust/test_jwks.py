from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.trust import jwks
from gateway.trust.jose import Signer, signer
from gateway.trust.jwks import ASKED_SECONDS, REFRESH_SECONDS, STALE_SECONDS, FileKeys, KeySources, UrlKeys
from tests.identity.issuer import HandClock

URL = "https://idp.example/jwks.json"


def make(kid: str) -> Signer:
    return signer(Ed25519PrivateKey.generate(), kid)


ONE, TWO = make("k1"), make("k2")


def document(*signers: Signer) -> bytes:
    return json.dumps({"keys": [one.jwk() for one in signers]}).encode()


def run(what: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(what, 20))


def replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    os.replace(fresh, path)


class Server:
    """What is behind the URL: an answer, an exception, or nothing until it is released."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def kids(source: FileKeys | UrlKeys) -> list[str | None]:
    found = source.usable()
    return [] if found is None else [key.kid for key in found.keys]


async def settled(source: UrlKeys) -> None:
    """Waits for the fetch that is under way."""
    while source._task is not None:
        await asyncio.wait((source._task,))


# --- files


def test_a_file_is_read_at_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(document(ONE))
    source = FileKeys(path, HandClock())
    assert kids(source) == ["k1"]
    replace(path, document(TWO))
    source.poll()
    assert kids(source) == ["k2"]
    assert source.refresh() is None


def test_an_unchanged_file_stays_the_same_set(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(document(ONE))
    source = FileKeys(path, HandClock())
    first = source.keys
    source.poll()
    assert source.keys is first
    replace(path, document(ONE))
    source.poll()
    assert source.keys is first, "other bytes on disk, the same content"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"keys":[{"kty":"oct","k":"AA"}]}', document(ONE, ONE)])
def test_a_file_that_went_bad_leaves_the_former_keys_and_says_why(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(document(ONE))
    source = FileKeys(path, HandClock())
    assert source.problem == ""
    replace(path, content)
    source.poll()
    assert kids(source) == ["k1"]
    assert source.problem
    replace(path, document(TWO))
    source.poll()
    assert kids(source) == ["k2"]
    assert source.problem == ""


def test_a_file_that_is_not_there_at_the_start_may_come_later(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    source = FileKeys(path, HandClock())
    assert source.usable() is None
    assert "No such file" in source.problem
    path.write_bytes(document(ONE))
    source.poll()
    assert kids(source) == ["k1"]


def test_the_keys_of_a_file_that_vanished_serve_a_day_and_no_longer(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", HandClock()
    path.write_bytes(document(ONE))
    source = FileKeys(path, clock)
    clock.pass_(STALE_SECONDS)
    source.poll()  # the file is there: its keys are as good as new
    path.unlink()
    clock.pass_(STALE_SECONDS)
    source.poll()
    assert kids(source) == ["k1"]
    clock.pass_(1)
    assert source.usable() is None


# --- URLs


def test_keys_behind_a_url_are_fetched_in_the_background() -> None:
    async def story() -> None:
        server = Server(document(ONE))
        source = UrlKeys(URL, server, HandClock())
        assert source.usable() is None
        source.poll()
        await settled(source)
        assert kids(source) == ["k1"]
        assert server.asked == [URL]

    run(story())


def test_they_are_fetched_again_when_due_and_not_before() -> None:
    async def story() -> None:
        server, clock = Server(document(ONE)), HandClock()
        source = UrlKeys(URL, server, clock)
        source.poll()
        await settled(source)
        first = source.keys
        clock.pass_(REFRESH_SECONDS - 1)
        source.poll()
        assert len(server.asked) == 1
        clock.pass_(1)
        source.poll()
        await settled(source)
        assert len(server.asked) == 2
        assert source.keys is first, "the same content is the same set"
        server.answer = document(TWO)
        clock.pass_(REFRESH_SECONDS)
        source.poll()
        await settled(source)
        assert kids(source) == ["k2"]

    run(story())


@pytest.mark.parametrize("trouble", [OSError("refused"), TimeoutError(), b"<html>", b"{}", RuntimeError("odd")])
def test_trouble_leaves_the_former_keys_for_a_day_and_no_longer(trouble: bytes | Exception) -> None:
    async def story() -> None:
        server, clock = Server(document(ONE)), HandClock()
        source = UrlKeys(URL, server, clock)
        source.poll()
        await settled(source)
        server.answer = trouble
        clock.pass_(STALE_SECONDS)
        source.poll()
        await settled(source)
        assert kids(source) == ["k1"]
        assert source.problem
        clock.pass_(1)
        assert source.usable() is None

    run(story())


def test_trouble_is_retried_sooner_and_then_ever_more_rarely() -> None:
    async def story() -> None:
        server, clock = Server(OSError("refused")), HandClock()
        source = UrlKeys(URL, server, clock)
        waited = []
        for _ in range(7):
            source.poll()
            await settled(source)
            asked, before = len(server.asked), clock.mono
            while len(server.asked) == asked:
                clock.pass_(1)
                source.poll()
                await asyncio.sleep(0)
            waited.append(clock.mono - before)
        assert waited == [5, 10, 20, 40, 60, 60, 60]

    run(story())


def test_a_token_causes_at_most_one_fetch_in_thirty_seconds() -> None:
    async def story() -> None:
        server, clock = Server(document(ONE)), HandClock()
        source = UrlKeys(URL, server, clock)
        source.poll()
        await settled(source)
        server.answer = document(ONE, TWO)
        fresh = source.refresh()
        assert fresh is not None
        await fresh
        assert kids(source) == ["k1", "k2"]
        for _ in range(100):
            assert source.refresh() is None
        clock.pass_(ASKED_SECONDS - 0.1)
        assert source.refresh() is None
        assert len(server.asked) == 2
        clock.pass_(0.1)
        again = source.refresh()
        assert again is not None
        await again
        assert len(server.asked) == 3

    run(story())


def test_all_who_ask_while_a_fetch_is_under_way_wait_for_that_one() -> None:
    async def story() -> None:
        server = Server(document(ONE))
        server.gate = asyncio.Event()
        source = UrlKeys(URL, server, HandClock())
        source.poll()
        waiting = [fresh for fresh in (source.refresh() for _ in range(20)) if fresh is not None]
        assert len(waiting) == 20
        everyone = asyncio.gather(*waiting)
        await asyncio.sleep(0)
        server.gate.set()
        await everyone
        assert len(server.asked) == 1
        assert kids(source) == ["k1"]

    run(story())


def test_a_fetch_that_takes_longer_than_its_turn_is_not_begun_twice() -> None:
    async def story() -> None:
        server, clock = Server(document(ONE)), HandClock()
        server.gate = asyncio.Event()
        source = UrlKeys(URL, server, clock)
        for _ in range(5):
            source.poll()
            clock.pass_(REFRESH_SECONDS)
            await asyncio.sleep(0)
        assert len(server.asked) == 1
        server.gate.set()
        await settled(source)

    run(story())


def test_a_caller_that_goes_away_does_not_take_the_fetch_with_it() -> None:
    async def story() -> None:
        server = Server(document(ONE))
        server.gate = asyncio.Event()
        source = UrlKeys(URL, server, HandClock())

        async def ask() -> None:
            fresh = source.refresh()
            assert fresh is not None
            await fresh

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        server.gate.set()
        await settled(source)
        assert kids(source) == ["k1"]

    run(story())


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.01)

    async def story() -> None:
        server = Server(document(ONE))
        server.gate = asyncio.Event()
        source = UrlKeys(URL, server, HandClock())
        source.poll()
        await settled(source)
        assert source.usable() is None
        assert source.problem.startswith("TimeoutError")

    run(story())


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/jwks.json",
        "file:///etc/passwd",
        "ftp://idp.example/x",
        "https:///x",
        "https://user@idp.example/x",
        "https://user:pass@idp.example/x",
        "https://idp.example/x#y",
        "http://localhost.evil.example/x",
        "http://10.0.0.1/x",
        "//idp.example/x",
        "",
    ],
)
def test_an_address_that_is_not_https_or_loopback_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        UrlKeys(url, Server(b""), HandClock())


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:9000/k", "http://localhost:9000/k", "http://[::1]:9000/k"])
def test_https_and_loopback_addresses_are_taken(url: str) -> None:
    UrlKeys(url, Server(b""), HandClock())


# --- all sources


def test_a_source_is_shared_by_what_it_is_and_survives_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(document(ONE))
    sources = KeySources(Server(document(ONE)), HandClock())
    file, url = sources.file(str(path)), sources.url(URL)
    assert sources.file(str(path)) is file
    assert sources.url(URL) is url
    sources.keep([file])
    assert sources.file(str(path)) is file
    assert sources.url(URL) is not url, "what no configuration named any more was forgotten"


def test_a_source_that_is_not_used_any_more_stops_fetching() -> None:
    async def story() -> None:
        server = Server(document(ONE))
        server.gate = asyncio.Event()
        sources = KeySources(server, HandClock())
        source = sources.url(URL)
        sources.poll()
        await server.reached.wait()
        task = source._task
        assert task is not None
        sources.keep([])
        await asyncio.wait((task,))
        assert task.cancelled()

    run(story())


def test_the_watch_polls_every_source_and_closes_what_it_began(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "keys.json"
        path.write_bytes(document(ONE))
        server = Server(document(TWO))
        sources = KeySources(server, HandClock())
        file, url = sources.file(str(path)), sources.url(URL)
        rounds = 0

        async def sleep(seconds: float) -> None:
            nonlocal rounds
            assert seconds <= 1.0  # ruling 4: within a second
            rounds += 1
            if rounds == 1:
                replace(path, document(TWO))
                await settled(url)
            if rounds == 3:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await sources.watch(sleep)
        assert kids(file) == ["k2"]
        assert kids(url) == ["k2"]

    run(story())


def test_ending_the_watch_cancels_a_fetch_under_way() -> None:
    async def story() -> None:
        server = Server(document(ONE))
        server.gate = asyncio.Event()
        sources = KeySources(server, HandClock())
        url = sources.url(URL)
        watching = asyncio.create_task(sources.watch(hold()))
        await server.reached.wait()
        task = url._task
        assert task is not None
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        await asyncio.wait((task,))
        assert task.cancelled()

    run(story())


def hold() -> Callable[[float], Awaitable[None]]:
    async def sleep(_: float) -> None:
        await asyncio.Event().wait()

    return sleep
