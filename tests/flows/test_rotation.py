"""Keys change under load, in a real process with real callers: nothing is refused, nothing is lost, all of it verifies.

The keys are changed as an operator does it, by the command line beside the running gateway.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import check_books, read_log, until

from gateway.log.verify import directory_keys, verify
from gateway.trust.cards import Voucher, verify_card
from gateway.trust.jose import read_jwks
from tests.cli.rig_cli import Shell
from tests.cli.served import Served, serving
from tests.flows.stage import Stage, calling, staged
from tests.trust.card_rig import card
from tests.wire.faulty import Peer, answer

CARD = "/.well-known/agent-card.json"
CALLERS = 6
ROTATIONS = 3


async def raw_calls(port: int, stop: asyncio.Event) -> int:
    """On one kept connection: a gateway that closed it, or answered anything but 200, fails the test."""
    count = 0
    async with calling(port) as caller:
        while not stop.is_set():
            status, headers = await caller.ask("POST /files/x", "", b"{}")
            assert status == 200
            await caller.reader.readexactly(int(headers["content-length"]))
            count += 1
    return count


async def client_calls(url: str, stop: asyncio.Event) -> int:
    count = 0
    async with httpx2.AsyncClient(timeout=20) as client:
        while not stop.is_set():
            answer = await client.post(f"{url}/tools", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            assert answer.status_code == 200, answer.text
            assert "result" in answer.json()
            count += 1
    return count


async def card_calls(url: str, stop: asyncio.Event) -> int:
    """Fetches the key set, then the card: whoever has the set of a moment ago finds the key that signed."""
    count = 0
    async with httpx2.AsyncClient(timeout=20) as client:
        while not stop.is_set():
            published = await client.get(f"{url}/.well-known/jwks.json")
            answer = await client.get(f"{url}/agent{CARD}")
            assert (published.status_code, answer.status_code) == (200, 200), answer.text
            verify_card(answer.json(), [Voucher("gateway", read_jwks(published.content))], 0.0)
            count += 1
    return count


def signed_by(served: Served) -> str:
    """The key of every signature on the card."""
    texts = [signature["protected"] for signature in served.get(f"/agent{CARD}").json()["signatures"]]
    found = {json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["kid"] for text in texts}
    [kid] = found
    return str(kid)


def kids(served: Served) -> list[str]:
    return [key["kid"] for key in served.get("/.well-known/jwks.json").json()["keys"]]


def vkey() -> str:
    return Path("var/log/vkey").read_text().strip()


def rotate_log(shell: Shell, known: list[str], *words: str) -> None:
    """One rotation, and what verifiers see of it while it goes on."""
    assert shell("keys", "rotate", "log", *words).code == 0
    until(lambda: vkey() != known[-1], what="the new log key")
    for old in known[-1:]:
        until(lambda old=old: verify(Path("var/log"), [old, vkey()]).ok, what="a checkpoint that verifies")
    known.append(vkey())


def rotate_cards(shell: Shell, served: Served) -> None:
    """The next key is shown before it signs; then it comes first, the former after it."""
    before = kids(served)
    made = shell("keys", "new", "cards", "--json").json["kid"]
    assert signed_by(served) == before[0]
    until(lambda: kids(served) == [before[0], made, *before[1:]], what="the next key in the set")
    assert shell("keys", "rotate", "cards").code == 0
    until(lambda: kids(served)[:2] == [made, before[0]], what="the new key in front")
    assert signed_by(served) == made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path, settings: dict[str, Any]) -> None:
    base = {"node": "gw-1", "listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}}
    base["audit"] = {"checkpoint": {"records": 100, "every": "50ms"}}
    (folder / "gateway.yaml").write_text(json.dumps({**base, **settings}))


def with_agent(stage: Stage, folder: Path) -> dict[str, Any]:
    """The stage's settings, and an agent whose card the gateway signs."""
    settings = stage.settings(folder, auth="anonymous")
    url = f"http://127.0.0.1:{stage.server.port}"
    shown = card(supportedInterfaces=[{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}])

    async def play(peer: Peer) -> None:
        await peer.send(answer(json.dumps(shown).encode(), b"Content-Type: application/json"))

    stage.plays[CARD] = play
    settings["upstreams"]["agent"] = {"url": url, "protocol": "a2a"}
    settings["routes"].append({"name": "agent", "match": {"path": "/agent"}, "upstream": "agent", "auth": "anonymous"})
    return settings


def ended(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0, served.text


def test_rotating_keys_under_load_loses_no_request_and_the_log_verifies_across_it(folder: Path, shell: Shell) -> None:
    known: list[str] = []

    async def story() -> int:
        async with staged() as stage:
            configure(folder, with_agent(stage, folder))
            assert shell("keys", "new", "cards").code == 0
            with serving() as served:
                known.append(served.announced["vkey"])
                url, stop = f"http://{served.announced['listen']}", asyncio.Event()
                port = int(url.rpartition(":")[2])
                load = [asyncio.create_task(raw_calls(port, stop)) for _ in range(CALLERS)]
                load += [asyncio.create_task(client_calls(url, stop)) for _ in range(2)]
                cards = asyncio.create_task(card_calls(url, stop))
                for _ in range(ROTATIONS):
                    await asyncio.to_thread(rotate_log, shell, known)
                    await asyncio.to_thread(rotate_cards, shell, served)
                stop.set()
                total = sum(await asyncio.gather(*load))
                assert await cards > ROTATIONS
                await asyncio.to_thread(ended, served)
                return total

    total = asyncio.run(story())
    assert len(set(known)) == ROTATIONS + 1
    for each in known:  # the overlap lasts a week: who knows any of them still accepts
        check_books(folder, each)
    assert shell("audit", "verify", "var", "--key", "@var/log/vkeys").code == 0
    records = read_log(folder / "var/log")
    kinds = [record["kind"] for record in records]
    assert kinds.count("intent") == kinds.count("outcome")
    assert sum(record["kind"] == "outcome" and record["route"] != "agent" for record in records) == total > ROTATIONS
    assert "refusal" not in kinds
    told = [record for record in records if record["kind"] == "admin"]
    expected = ["admin.keys.new"] + ["admin.keys.rotate", "admin.keys.new", "admin.keys.rotate"] * ROTATIONS
    assert [record["action"] for record in told] == expected
    assert [record["key"]["vkey"] for record in told if record["key"]["purpose"] == "log"] == known[1:]
    assert {record["subject"]["type"] for record in told} == {"operator"}


def signing(shell: Shell, purpose: str) -> str:
    listed = shell("keys", "list", "--json").json["keys"]
    [kid] = [key["kid"] for key in listed if (key["purpose"], key["state"]) == (purpose, "current")]
    return str(kid)


def test_a_revoked_key_is_out_at_once_and_what_was_done_while_nobody_served_is_recorded(
    folder: Path, shell: Shell
) -> None:
    async def story() -> str:
        async with staged() as stage:
            configure(folder, stage.settings(folder, auth="anonymous"))
            shell("keys", "new", "cards")
            with serving() as served:
                first, card = served.announced["vkey"], signing(shell, "cards")
                assert shell("keys", "revoke", "cards", card).code == 0
                assert shell("keys", "revoke", "log", signing(shell, "log")).code == 0
                await asyncio.to_thread(until, lambda: card not in kids(served), what="the end of the revoked key")
                await asyncio.to_thread(until, lambda: vkey() != first, what="the new log key")
                await asyncio.to_thread(ended, served)
            assert not verify(Path("var/log"), [first]).ok
            assert first not in directory_keys(Path("var/log"))
            second, revoked = vkey(), signing(shell, "log")
            assert shell("keys", "revoke", "log", revoked).code == 0
            with serving() as served:
                third: str = served.announced["vkey"]
                assert third not in (first, second)
                await asyncio.to_thread(until, lambda: len(served.records("admin")) == 7, what="the last record")
                await asyncio.to_thread(ended, served)
            return third

    check_books(folder, asyncio.run(story()))
    told = [record for record in read_log(folder / "var/log") if record["kind"] == "admin"]
    changes = ["admin.keys.rotate", "admin.keys.revoke"]
    assert [record["action"] for record in told] == ["admin.keys.new", *changes * 3]
    assert [record["resource"]["id"].partition("/")[0] for record in told] == ["cards"] * 3 + ["log"] * 4
