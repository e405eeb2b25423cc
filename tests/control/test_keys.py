"""The gateway's own keys on the admin plane: what is shown of them, and a rotation that names what it replaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.openapi import description
from gateway.core.reasons import LogUnavailable
from gateway.log.verify import verify
from gateway.trust.keys import KeyRing
from tests.control.plane_rig import EXCHANGE, Rig, plane

Story = Callable[[Rig], Awaitable[None]]
ROTATE = "/api/v1/keys/rotate"


def tell(tmp_path: Path, story: Story) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            await story(rig)

    asyncio.run(run())


async def shown(rig: Rig, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await rig.get(f"/api/v1/keys{query}")).json["keys"]
    return found


async def acts(rig: Rig) -> list[dict[str, Any]]:
    await rig.log.checkpoint()
    records: list[dict[str, Any]] = (await rig.get("/api/v1/records?kind=admin")).json["records"]
    return [record for record in records[::-1] if record["action"].startswith("admin.keys")]


def test_every_key_is_shown_with_its_state_its_dates_and_its_public_half_alone(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        first, second = rig.ring.ensure("cards"), rig.ring.new("cards")
        found = await rig.get("/api/v1/keys")
        assert found.json["overlap_seconds"] == 3600
        log, *cards = found.json["keys"]
        assert [(key["kid"], key["state"]) for key in cards] == [(first.kid, "current"), (second.kid, "next")]
        assert (log["purpose"], log["state"], log["kept_in"]) == ("log", "current", "file")
        assert log["vkey"] == rig.log.vkey
        assert cards[0]["jwk"] == rig.ring.jwks(["cards"])["keys"][0]  # type: ignore[index,call-overload]
        assert "signs_from" in cards[0]
        assert "signs_from" not in cards[1]
        schema = description("0", "")["components"]["schemas"]["Key"]  # type: ignore[index,call-overload]
        for key in found.json["keys"]:
            assert set(schema["required"]) <= set(key) <= set(schema["properties"])
            assert set(key["jwk"]) == {"kty", "crv", "x", "kid", "use", "alg"}
        assert "PRIVATE" not in found.body.decode()
        assert await shown(rig, "?purpose=log") == [log]
        assert await shown(rig, "?purpose=tokens") == []
        for query in ("?purpos=log", "?purpose=log&purpose=log", "?x="):
            assert (await rig.get(f"/api/v1/keys{query}")).status == 400
        again = await rig.get("/api/v1/keys", ("if-none-match", found.headers["etag"]))
        assert again.status == 304

    tell(tmp_path, story)


def test_a_rotation_is_in_force_and_recorded_when_it_is_answered(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        first = rig.ring.ensure("cards")
        found = await rig.post(ROTATE, {"purpose": "cards", "kid": first.kid})
        assert found.status == 200
        current, former = found.json["current"], found.json["former"]
        assert (former["kid"], former["state"]) == (first.kid, "retired")
        assert rig.ring.current("cards") is not None
        assert current["kid"] == rig.ring.current("cards").kid != first.kid  # type: ignore[union-attr]
        assert rig.rebuilt == [rig.ring.revision], "key sets and cards follow"
        [record] = await acts(rig)
        assert record["action"] == "admin.keys.rotate"
        assert record["subject"] == {"id": "admin", "type": "admin"}
        assert (record["key"]["kid"], record["key"]["former"]) == (current["kid"], first.kid)
        again = KeyRing(tmp_path / "keys").current("cards")
        assert again is not None
        assert again.kid == current["kid"]
        await rig.rotation.follow()
        assert len(await acts(rig)) == 1, "once"

    tell(tmp_path, story)


def test_the_logs_key_rotates_and_the_log_verifies_across_it(tmp_path: Path) -> None:
    former: list[str] = []

    async def story(rig: Rig) -> None:
        former.append(rig.log.vkey)
        await rig.write(exchange=EXCHANGE.format(1))
        [key] = await shown(rig, "?purpose=log")
        assert (await rig.post(ROTATE, {"purpose": "log", "kid": key["kid"]})).status == 200
        assert rig.log.vkey != former[0]
        former.append(rig.log.vkey)
        await rig.write(kind="outcome", exchange=EXCHANGE.format(1), result="ok")
        await rig.log.checkpoint()

    tell(tmp_path, story)
    for vkey in former:
        assert verify(tmp_path / "log", [vkey]).ok


def test_a_key_that_signs_no_more_is_not_replaced_again(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        first = rig.ring.ensure("cards")
        wanted = {"purpose": "cards", "kid": first.kid}
        both = await asyncio.gather(rig.post(ROTATE, wanted), rig.post(ROTATE, wanted))
        assert sorted(answer.status for answer in both) == [200, 412]
        assert len(await shown(rig, "?purpose=cards")) == 2
        assert len(await acts(rig)) == 1

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"purpose": "cards"}, 400),
        ({"purpose": "cards", "kid": 5}, 400),
        ({"purpose": "cards", "kid": "x", "why": "x"}, 400),
        ({"purpose": "../cards", "kid": "x"}, 409),
        ({"purpose": "tokens", "kid": "x"}, 409),
        ({"purpose": "log", "kid": "x"}, 412),
        ({"purpose": "log", "kid": ""}, 412),
    ],
)
def test_what_cannot_be_done_changes_nothing(tmp_path: Path, document: Any, status: int) -> None:
    async def story(rig: Rig) -> None:
        before = await shown(rig)
        found = await rig.post(ROTATE, document)
        assert (found.status, found.headers["content-type"]) == (status, "application/problem+json")
        assert await shown(rig) == before
        assert await acts(rig) == []

    tell(tmp_path, story)


def test_without_a_token_or_over_another_method_nothing_is_rotated(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        key = rig.ring.ensure("cards")
        body = json.dumps({"purpose": "cards", "kid": key.kid}).encode()
        own = (("host", "127.0.0.1:8081"), ("content-type", "application/json"))
        assert (await rig.ask(ROTATE, *own, method="POST", body=body)).status == 401
        assert (await rig.get(ROTATE)).status == 405
        assert (await rig.get("/api/v1/keys", method="POST", body=body)).status == 405
        assert rig.ring.current("cards") == key

    tell(tmp_path, story)


def test_while_no_record_can_be_written_no_key_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        key = rig.ring.ensure("cards")
        monkeypatch.setattr(type(rig.log), "healthy", property(lambda self: False))
        found = await rig.post(ROTATE, {"purpose": "cards", "kid": key.kid})
        assert found.status == 503
        assert rig.ring.current("cards") == key
        with pytest.raises(LogUnavailable):
            await rig.rotation.rotate("cards", key.kid, "admin", 1)

    tell(tmp_path, story)
