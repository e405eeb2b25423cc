"""Bundles on the admin plane: what is asked wrongly changes nothing, and what a fleet's token opens."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.control.fleet import PACKED_BYTES, UNPACKED_BYTES
from gateway.trust.bundle_build import sign
from tests.control.plane_rig import FLEET_TOKEN, HOST, Answer, Rig
from tests.control.test_app import tell
from tests.trust.bundle_rig import files, good, manifest, packed

GZIP = ("content-type", "application/gzip")
FLEET = (("host", HOST), ("authorization", f"Bearer {FLEET_TOKEN}"))
BUNDLE = "/bundles/tollgate.tar.gz"


def own(rig: Rig, number: int) -> bytes:
    """Signed with the gateway's own key, who may sign on this plane."""
    return sign(packed(files(number, manifest=manifest(number))), rig.ring.ensure("bundles").signer())


async def pushed(rig: Rig, number: int, *, activate: bool = True) -> Answer:
    query = "name=tollgate" + ("&activate=true" if activate else "")
    return await rig.get(f"/api/v1/bundles?{query}", GZIP, ("if-match", "*"), method="POST", body=own(rig, number))


def status(ident: str = "opa-1", **bundle: Any) -> bytes:
    said = {"name": "tollgate", "active_revision": "v1"} | bundle
    return json.dumps({"labels": {"id": ident, "version": "1.4.2"}, "bundles": {"tollgate": said}}).encode()


def events(count: int = 2, ident: str = "opa-1") -> list[dict[str, Any]]:
    return [
        {
            "labels": {"id": ident},
            "decision_id": f"d{n}",
            "path": "tollgate/decision",
            "result": n > 0,
            "input": {"big": 2**70},
        }
        for n in range(count)
    ]


def test_what_is_asked_wrongly_is_said_and_changes_nothing(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        for target, headers, wanted in (
            ("/api/v1/bundles?name=tollgate", (), 415),
            ("/api/v1/bundles", (GZIP,), 400),
            ("/api/v1/bundles?name=tollgate&name=other", (GZIP,), 400),
            ("/api/v1/bundles?name=../x", (GZIP,), 400),
            ("/api/v1/bundles?name=tollgate&force=1", (GZIP,), 400),
            ("/api/v1/bundles?name=tollgate&activate=yes", (GZIP,), 400),
            ("/api/v1/bundles?name=tollgate&activate=true", (GZIP,), 428),
        ):
            answer = await rig.get(target, *headers, method="POST", body=own(rig, 1))
            assert answer.status == wanted, (target, answer.body)
        assert (await rig.get("/api/v1/bundles/tollgate")).json["kept"] == []
        refused = await rig.get("/api/v1/bundles?name=tollgate", GZIP, method="POST", body=good(1))
        assert (refused.status, refused.json["rule"]) == (422, 5)
        large = await rig.get("/api/v1/bundles?name=tollgate", GZIP, method="POST", body=bytes(9 * 1024 * 1024))
        assert (large.status, large.json["rule"]) == (422, 1)

    tell(tmp_path, story)


def test_a_push_keeps_and_an_activation_puts_in_force(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        first = await pushed(rig, 1, activate=False)
        assert first.json["state"] == {"active": "configured", "highest": 1, "previous": None}
        shown = await rig.get("/api/v1/bundles/tollgate")
        assert shown.headers["etag"] == '"configured"'
        tag = ("if-match", shown.headers["etag"])
        wanted = {"digest": first.json["pushed"]["digest"]}
        assert (await rig.post("/api/v1/bundles/tollgate/activate", wanted, ("if-match", '"sha256:x"'))).status == 412
        assert (await rig.post("/api/v1/bundles/tollgate/activate", {"digest": "sha256:x"}, tag)).status == 404
        assert (await rig.post("/api/v1/bundles/tollgate/activate", wanted | {"why": "x"}, tag)).status == 400
        moved = await rig.post("/api/v1/bundles/tollgate/activate", wanted, tag)
        assert moved.json["state"]["active"] == wanted["digest"]
        assert moved.headers["etag"] == f'"{wanted["digest"]}"'
        listed = (await rig.get("/api/v1/bundles")).json["bundles"]
        assert [(item["name"], item["own"], item["active"]["number"]) for item in listed] == [("tollgate", True, 1)]
        assert (await rig.get("/api/v1/bundles/other")).status == 404
        history = (await rig.get("/api/v1/bundles/tollgate")).json["history"]
        assert [item["act"] for item in history] == ["activate", "push"]

    tell(tmp_path, story)


def test_the_fleets_token_opens_what_opas_need_and_nothing_else(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert (await pushed(rig, 1)).status == 200
        assert (await rig.ask(BUNDLE, *FLEET)).status == 200
        assert (await rig.ask("/status", *FLEET, method="POST", body=status())).status == 204
        for path in ("/api/v1/bundles", "/api/v1/fleet", "/api/v1/records", "/metrics", "/log/checkpoint", "/"):
            assert (await rig.ask(path, *FLEET)).status in (303, 401), path
        body = own(rig, 2)
        assert (await rig.ask("/api/v1/bundles?name=tollgate", *FLEET, GZIP, method="POST", body=body)).status == 401
        assert (await rig.ask(BUNDLE, ("host", HOST))).status == 401
        assert (await rig.ask(BUNDLE, ("host", "evil.example"), FLEET[1])).status == 403

    tell(tmp_path, story)


def test_the_bundle_service_gives_what_is_active_and_304_where_it_is_known(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert (await rig.ask(BUNDLE, *FLEET)).status == 404
        await pushed(rig, 1, activate=False)
        assert (await rig.ask(BUNDLE, *FLEET)).status == 404
        await pushed(rig, 2)
        found = await rig.ask(BUNDLE, *FLEET)
        assert found.body == own(rig, 2)
        assert found.headers["content-type"] == "application/gzip"
        known = await rig.ask(BUNDLE, *FLEET, ("if-none-match", found.headers["etag"]))
        assert (known.status, known.body) == (304, b"")
        assert (await rig.ask("/bundles/tollgate", *FLEET)).status == 404

    tell(tmp_path, story)


def test_a_long_poll_ends_with_the_next_activation_or_with_its_time(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await pushed(rig, 1)
        first = await rig.ask(BUNDLE, *FLEET, ("prefer", "modes=snapshot,delta;wait=20"))
        assert (first.status, first.headers["content-type"]) == (200, "application/vnd.openpolicyagent.bundles")
        known = ("if-none-match", first.headers["etag"])
        waiting = asyncio.ensure_future(rig.ask(BUNDLE, *FLEET, known, ("prefer", "modes=snapshot,delta;wait=20")))
        await asyncio.sleep(0)
        assert (await pushed(rig, 2)).status == 200
        second = await asyncio.wait_for(waiting, 10)
        assert second.body == own(rig, 2)
        known = ("if-none-match", second.headers["etag"])
        assert (await rig.ask(BUNDLE, *FLEET, known, ("prefer", "modes=snapshot;wait=1"))).status == 304
        for prefer in ("wait=60", "modes=delta;wait=60", "modes=snapshot;wait=-1"):
            assert (await asyncio.wait_for(rig.ask(BUNDLE, *FLEET, known, ("prefer", prefer)), 5)).status == 304

    tell(tmp_path, story)


def test_what_opas_report_is_shown_counted_and_recorded(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        zipped = gzip.compress(json.dumps(events()).replace("tollgate/decision", "tollgate\\ud800").encode())
        encoding = ("content-encoding", "gzip")
        for _ in range(2):
            assert (await rig.ask("/status", *FLEET, method="POST", body=status())).status == 204
        assert (await rig.ask("/logs/eu", *FLEET, encoding, method="POST", body=zipped)).status == 204
        wrong = status(active_revision="v1", message="no such key", code="bundle_error")
        assert (await rig.ask("/status/eu", *FLEET, method="POST", body=wrong)).status == 204
        [opa] = (await rig.get("/api/v1/fleet")).json["opas"]
        assert (opa["id"], opa["decisions"], opa["denied"], opa["batches"]) == ("opa-1", 2, 1, 1)
        assert opa["bundles"]["tollgate"]["message"] == "no such key"
        logged = (await rig.get("/api/v1/fleet/decisions")).json["decisions"]
        assert [item["decision_id"] for item in logged] == ["d1", "d0"]
        assert (logged[0]["input"], logged[0]["path"]) == ({"big": str(2**70)}, "tollgate?")
        records = (await rig.get("/api/v1/records?kind=admin")).json["records"]
        said = [record["action"] for record in records if record["action"].startswith("fleet.")]
        assert said == ["fleet.status", "fleet.decisions", "fleet.status"]  # the same status twice is one

    tell(tmp_path, story)


def bomb() -> bytes:
    return gzip.compress(b" " * (UNPACKED_BYTES + 1), 9)


@pytest.mark.parametrize(
    ("path", "body", "zipped"),
    [
        ("/logs", b"{}", False),
        ("/logs", b"[1]", False),
        ("/logs", b'[{"labels": {}}]', False),
        ("/logs", b'[{"labels": {"id": "x", "id": "y"}}]', False),
        ("/logs", b"not gzip", True),
        ("/logs", gzip.compress(b"[]") + b"x", True),
        ("/logs", gzip.compress(b"[]")[:-4], True),
        ("/logs", bomb(), True),
        ("/logs", bytes(PACKED_BYTES + 1), False),
        ("/status", b"[]", False),
        ("/status", b'{"labels": {"id": "\\ud800"}}', False),
        ("/status", b'{"labels": {"id": 7}}', False),
        ("/status", b'{"labels": {"id": "' + b"x" * 300 + b'"}}', False),
    ],
)
def test_what_no_opa_sends_is_refused_and_remembered_nowhere(
    tmp_path: Path, path: str, body: bytes, zipped: bool
) -> None:
    async def story(rig: Rig) -> None:
        encoding = [("content-encoding", "gzip")] if zipped else []
        assert (await rig.ask(path, *FLEET, *encoding, method="POST", body=body)).status == 400
        assert (await rig.get("/api/v1/fleet")).json["opas"] == []

    tell(tmp_path, story)


def test_no_more_opas_are_remembered_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.fleet.OPAS", 3)

    async def story(rig: Rig) -> None:
        for number in range(5):
            assert (await rig.ask("/status", *FLEET, method="POST", body=status(f"opa-{number}"))).status == 204
        opas = (await rig.get("/api/v1/fleet")).json["opas"]
        assert [opa["id"] for opa in opas] == ["opa-2", "opa-3", "opa-4"]

    tell(tmp_path, story)
