"""The admin plane: who may ask, what is answered, what the log's files look like from outside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.agents import Agents
from gateway.control.api import Api
from gateway.control.asking import Asking
from gateway.control.budgets import Budgets
from gateway.control.bundles import Bundles
from gateway.control.fleet import Fleet
from gateway.control.guard import Door
from gateway.control.keys import Keys
from gateway.control.openapi import description
from gateway.control.replay import Replays
from gateway.control.shadow import Shadows
from gateway.control.upstreams import Upstreams
from gateway.control.usage import Usage
from gateway.core.query import QueryFailed, RecordQuery
from gateway.core.reasons import LogUnavailable
from gateway.stores import records
from tests.control.plane_rig import EXCHANGE, HOST, TOKEN, Answer, Rig, plane

Story = Callable[[Rig], Awaitable[None]]
BEARER = ("authorization", f"Bearer {TOKEN}")
OWN_HOST = ("host", HOST)
OWN_ORIGIN = ("origin", f"http://{HOST}")


def tell(tmp_path: Path, story: Story, **options: Any) -> None:
    async def run() -> None:
        async with plane(tmp_path, **options) as rig:
            await story(rig)

    asyncio.run(run())


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def test_probes_are_open_and_tell_no_details(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        health = await rig.ask("/healthz", OWN_HOST)
        assert (health.status, health.body) == (200, b"ok\n")
        ready = await rig.ask("/readyz", OWN_HOST)
        assert (ready.status, ready.body) == (200, b"ready\n")
        rig.problems.append("the log cannot be written: /secret/path")
        ready = await rig.ask("/readyz", OWN_HOST)
        assert (ready.status, ready.body) == (503, b"not ready\n")

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/log/checkpoint",
        "/api/v1/status",
        "/api/v1/records",
        "/api/v1/openapi.json",
        "/nothing",
        "/healthz/x",
    ],
)
def test_everything_else_needs_the_token(tmp_path: Path, path: str) -> None:
    async def story(rig: Rig) -> None:
        bare = await rig.ask(path, OWN_HOST)
        assert bare.status == 401
        assert bare.headers["www-authenticate"].startswith("Bearer")
        assert bare.headers["content-type"] == "application/problem+json"
        for wrong in ("Bearer " + TOKEN[:-1], "Bearer", "Basic " + TOKEN, TOKEN, "Bearer " + "x" * 10_000):
            assert (await rig.ask(path, OWN_HOST, ("authorization", wrong))).status == 401
        twice = await rig.ask(path, OWN_HOST, BEARER, BEARER)
        assert twice.status == 401
        assert (await rig.get(path)).status in (200, 404)

    tell(tmp_path, story)


def test_metrics_can_be_opened_alone(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        found = await rig.ask("/metrics", OWN_HOST)
        assert (found.status, found.body) == (200, b"tollgate_x 1\n")
        assert found.headers["content-type"].startswith("text/plain; version=")
        assert (await rig.ask("/api/v1/status", OWN_HOST)).status == 401

    tell(tmp_path, story, metrics_open=True)


def test_status_routes_and_upstreams_show_no_secret(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        status = await rig.get("/api/v1/status")
        assert (status.json["ready"], status.json["node"], status.json["revision"]) == (True, "gw-1", "r1")
        rig.problems.append("no policy")
        assert (await rig.get("/api/v1/status")).json["problems"] == ["no policy"]
        routes = await rig.get("/api/v1/routes")
        assert routes.json["routes"][0]["protocol"] == "mcp"
        upstreams = await rig.get("/api/v1/upstreams")
        assert upstreams.json["upstreams"][0]["url"] == "http://127.0.0.1:9001/mcp"
        assert upstreams.json["upstreams"][0]["credentials"] is True
        assert b"canary" not in upstreams.body

    tell(tmp_path, story)


def test_records_are_paged_by_cursor_and_filtered(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        for number in range(7):
            await rig.write(exchange=EXCHANGE.format(number % 2), action="mcp.tools/call", subject={"id": f"a{number}"})
        first = await rig.get("/api/v1/records?limit=4")
        rest = await rig.get(f"/api/v1/records?limit=4&cursor={first.json['next']}")
        assert [record["seq"] for answer in (first, rest) for record in answer.json["records"]] == [6, 5, 4, 3, 2, 1, 0]
        assert rest.json["next"] is None
        found = await rig.get("/api/v1/records?subject=a3&since=2026-11-22T13:00:00%2B01:00")
        assert [record["seq"] for record in found.json["records"]] == [3]
        assert (await rig.get("/api/v1/records?since=2026-11-22T12:00:01Z")).json["records"] == []

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "query",
    [
        "subjekt=a",
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=-1",
        "since=yesterday",
        "since=2026-11-22T12:00:00",
        "kind=a&kind=b",
    ],
)
def test_a_question_that_is_not_understood_is_an_error_never_an_answer(tmp_path: Path, query: str) -> None:
    async def story(rig: Rig) -> None:
        found = await rig.get(f"/api/v1/records?{query}")
        assert (found.status, found.headers["content-type"]) == (400, "application/problem+json")
        assert query.partition("=")[0] in found.json["detail"]

    tell(tmp_path, story)


def test_a_decision_is_explained_from_its_records(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        exchange = EXCHANGE.format(1)
        await rig.write(
            exchange=exchange, route="weather", action="mcp.tools/call", subject={"id": "agent:idp/planner"},
            resource={"type": "tool", "id": "weather/get_forecast"}, upstream={"name": "weather"},
            decision={"effect": "allow", "rule": "readers", "reason": "readers may read"},
        )  # fmt: skip
        halfway = (await rig.get(f"/api/v1/decisions/{exchange}")).json
        assert halfway["state"] == "open"
        await rig.write(exchange=exchange, kind="outcome", result="ok", response={"status": 200}, us=1500)
        found = (await rig.get(f"/api/v1/decisions/{exchange}")).json
        assert found["state"] == "ended"
        assert found["summary"] == (
            "agent:idp/planner asked for mcp.tools/call on weather/get_forecast over route weather."
            " Policy allowed it by rule readers: readers may read."
            " It ended with result ok after 1.5 ms. The caller was answered 200."
        )
        assert [step["kind"] for step in found["steps"]] == ["intent", "outcome"]
        assert (await rig.get(f"/api/v1/decisions/{EXCHANGE.format(9)}")).status == 404
        assert (await rig.get("/api/v1/decisions/../records")).status in (400, 404)
        assert (await rig.get("/api/v1/decisions/not-an-id")).status == 400

    tell(tmp_path, story)


def test_an_answer_has_an_etag_that_spares_the_second_reading(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        first = await rig.get("/api/v1/routes")
        again = await rig.get("/api/v1/routes", ("if-none-match", f'"other", {first.headers["etag"]}'))
        assert (again.status, again.body) == (304, b"")
        assert (await rig.get("/api/v1/routes", ("if-none-match", '"other"'))).status == 200

    tell(tmp_path, story)


def test_the_checkpoint_and_the_logs_files_are_served_as_they_are(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        for number in range(300):
            rig.log.submit({"kind": "admin", "id": str(number), "time": "2026-11-22T12:00:00.000000Z", "action": "x"})
        await rig.log.sequenced(299)
        await rig.log.checkpoint()
        found = (await rig.get("/api/v1/checkpoint")).json
        assert (found["size"], found["vkey"]) == (300, rig.log.vkey)
        note = await rig.get("/log/checkpoint")
        assert note.body == (rig.data_dir / "log" / "checkpoint").read_bytes()
        assert note.headers["content-type"] == "text/plain; charset=utf-8"
        assert note.headers["cache-control"] == "no-cache"
        assert base64.b64decode(found["root"])
        for name in ("tile/entries/000", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"):
            tile = await rig.get(f"/log/{name}")
            assert (tile.status, tile.body) == (200, (rig.data_dir / "log" / name).read_bytes()), name
            assert tile.headers["content-type"] == "application/octet-stream"
            assert ("immutable" in tile.headers["cache-control"]) is (".p" not in name)
        head = await rig.get("/log/tile/0/000", method="HEAD")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(256 * 32))

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "name",
    [
        "../admin.token", "..%2fadmin.token", "%2e%2e/admin.token", "tile/../../admin.token", "/etc/passwd",
        "tile/0/../0/000", "", "tile", "tile/",
        "tile/64/000", "tile/0/0", "tile/0/000/", "tile/0/000.p/0", "tile/0/000.p/1000",
        "blob/../checkpoint",
        "blob/" + "A" * 64, "checkpoint/", "Checkpoint", "checkpoint\x00", "checkpoint.tmp", "lock", "tile/0/٠٠٠",
    ],
)  # fmt: skip
def test_nothing_but_the_logs_own_names_is_served(tmp_path: Path, name: str) -> None:
    (tmp_path / "admin.token").write_text("canary")

    async def story(rig: Rig) -> None:
        await rig.log.checkpoint()
        found = await rig.get(f"/log/{name}")
        assert found.status == 404
        assert b"canary" not in found.body

    tell(tmp_path, story)


def test_a_link_out_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")

    async def story(rig: Rig) -> None:
        blobs = rig.data_dir / "log" / "blob"
        blobs.mkdir(exist_ok=True)
        (blobs / ("a" * 64)).symlink_to(tmp_path / "secret")
        assert (await rig.get("/log/blob/" + "a" * 64)).status == 404

    tell(tmp_path, story)


def test_a_wrong_method_and_an_unknown_path_are_problems(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        wrong = await rig.get("/api/v1/status", OWN_ORIGIN, method="POST")
        assert wrong.status == 405
        assert "GET" in wrong.headers["allow"]
        assert wrong.headers["content-type"] == "application/problem+json"
        assert (await rig.get("/api/v1/nothing")).status == 404
        assert (await rig.get("/api/v1/status/")).status == 404

    tell(tmp_path, story)


def test_a_one_time_token_opens_one_session(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        secret = rig.access.one_time()
        opened = await rig.ask(f"/login?token={secret}", OWN_HOST)
        assert (opened.status, opened.headers["location"]) == (303, "/")
        attributes = opened.headers["set-cookie"].lower()
        assert "httponly" in attributes
        assert "samesite=strict" in attributes
        assert "secure" not in attributes
        assert TOKEN not in attributes
        page = await rig.ask("/", OWN_HOST, ("cookie", cookie_of(opened)))
        assert page.status == 200
        assert (await rig.ask("/api/v1/status", OWN_HOST, ("cookie", cookie_of(opened)))).status == 200
        assert (await rig.ask(f"/login?token={secret}", OWN_HOST)).status == 401, "it is used up"
        assert (await rig.ask(f"/login?token={TOKEN}", OWN_HOST)).status == 401, "the admin token is not for addresses"
        assert (await rig.ask("/", OWN_HOST, ("cookie", "tollgate=" + "A" * 43))).status == 303
        logins = (await rig.get("/api/v1/records?kind=admin")).json["records"]
        assert [record["action"] for record in logins] == ["admin.login"]

    tell(tmp_path, story)


def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        host = ("host", "gw.example")
        opened = await rig.ask(f"/login?token={rig.access.one_time()}", host)
        assert opened.headers["set-cookie"].startswith("__Host-tollgate=")
        assert "secure" in opened.headers["set-cookie"].lower()
        assert "path=/" in opened.headers["set-cookie"].lower()
        assert opened.headers["strict-transport-security"].startswith("max-age=")
        assert (await rig.ask("/api/v1/status", host, ("cookie", cookie_of(opened)))).status == 200

    tell(tmp_path, story, public_url="https://gw.example")


def test_the_form_takes_the_admin_token_and_logging_out_ends_the_session(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        form = f"token={TOKEN}".encode()
        opened = await rig.ask("/login", OWN_HOST, OWN_ORIGIN, method="POST", body=form)
        assert opened.status == 303
        cookie = ("cookie", cookie_of(opened))
        assert (await rig.ask("/logout", OWN_HOST, cookie, method="POST")).status == 403, "no Origin"
        left = await rig.ask("/logout", OWN_HOST, OWN_ORIGIN, cookie, method="POST")
        assert left.status == 303
        assert (await rig.ask("/api/v1/status", OWN_HOST, cookie)).status == 401
        wrong = await rig.ask("/login", OWN_HOST, OWN_ORIGIN, method="POST", body=b"token=wrong")
        assert wrong.status == 401
        assert "set-cookie" not in wrong.headers
        large = await rig.ask("/login", OWN_HOST, OWN_ORIGIN, method="POST", body=b"token=" + b"x" * 9000)
        assert large.status == 413

    tell(tmp_path, story)


def test_a_log_in_that_cannot_be_recorded_does_not_happen(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        def full(record: Any) -> int:
            raise LogUnavailable("disk full")

        rig.log.submit = full  # type: ignore[method-assign]
        opened = await rig.ask(f"/login?token={rig.access.one_time()}", OWN_HOST)
        assert opened.status == 503
        assert "set-cookie" not in opened.headers

    tell(tmp_path, story)


def test_an_index_that_cannot_answer_is_503_and_the_page_still_comes(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        async def failed(self: Any, query: RecordQuery) -> Any:
            raise QueryFailed("the index cannot be read: disk")

        original = records.RecordIndex.find
        records.RecordIndex.find = failed  # type: ignore[method-assign]
        try:
            assert (await rig.get("/api/v1/records")).status == 503
            assert (await rig.get("/")).status == 200
        finally:
            records.RecordIndex.find = original  # type: ignore[method-assign]

    tell(tmp_path, story)


def test_what_callers_wrote_is_text_on_the_page_and_nothing_else(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        evil = "<script>alert(1)</script>\"'><img src=x onerror=y>\u202etxt\x1b[31m"
        await rig.write(exchange=evil, kind="refusal", action=evil, subject={"id": evil}, refusal={"reason": evil})
        page = await rig.get("/")
        text = page.body.decode()
        assert "<script" not in text
        assert "<img" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "&lt;script&gt;" in text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
        assert not re.search(r'(src|href)="https?://', text)

    tell(tmp_path, story)


def test_every_answer_carries_the_security_headers(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        for target in ("/", "/login", "/healthz", "/api/v1/status", "/api/v1/nothing", "/log/checkpoint"):
            found = await rig.get(target)
            names = [name for name, _ in found.raw]
            for name in (b"content-security-policy", b"x-content-type-options", b"x-frame-options", b"referrer-policy"):
                assert names.count(name) == 1, (target, name)
        refused = await rig.ask("/api/v1/status", ("host", "evil.example"))
        assert "content-security-policy" in refused.headers
        assert (await rig.get("/api/v1/status")).headers["cache-control"] == "no-store"

    tell(tmp_path, story)


def test_the_description_names_exactly_the_routes_there_are(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        document = (await rig.get("/api/v1/openapi.json")).json
        assert document == description("0.1.0", f"http://{HOST}")
        for path, methods in document["paths"].items():
            for method in methods:
                place = path.replace("{exchange_id}", EXCHANGE.format(0)).replace("{id}", "none")
                place = place.replace("{name}", "org-month")
                found = await rig.get(place, method=method.upper())
                needs = method in ("post", "put") or path.endswith("/account")  # a document, or a key
                assert found.status in ((400, 428) if needs else (200, 404)), path
        unused: Any = None
        api = Api(
            Door("http://x", frozenset()),
            unused,
            unused,
            unused,
            unused,
            tmp_path,
            Agents(*[unused] * 5),
            Keys(unused),
            Shadows(unused, unused),
            Replays(unused, unused, unused),
            Asking(unused, unused, unused, "http://x"),
            Bundles(unused),
            Fleet(unused, unused, unused),
            Budgets(unused, unused, unused, unused, unused),
            Usage(unused),
            Upstreams(unused, unused, unused),
            "0",
        )
        assert {way.path for way in api.ways()} == set(document["paths"])

    tell(tmp_path, story)


def test_who_asks_is_told_who_that_is(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        admin = {"subject": {"id": "admin", "type": "admin"}, "roles": ["admin"]}
        assert (await rig.get("/api/v1/me")).json == admin | {"means": "token"}
        opened = await rig.ask(f"/login?token={rig.access.one_time()}", OWN_HOST)
        session = ("cookie", cookie_of(opened))
        assert (await rig.ask("/api/v1/me", OWN_HOST, session)).json == admin | {"means": "session"}
        assert (await rig.get("/api/v1/me", session)).json == admin | {"means": "token"}, "what the door looked at"
        wrong = ("authorization", "Bearer wrong")
        assert (await rig.ask("/api/v1/me", OWN_HOST, wrong, session)).json == admin | {"means": "session"}
        stranger = await rig.ask("/api/v1/me", OWN_HOST)
        assert (stranger.status, "admin" in stranger.json) == (401, False)

    tell(tmp_path, story)


def test_a_websocket_is_refused(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await rig.app({"type": "websocket", "path": "/", "headers": [], "scheme": "ws"}, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    tell(tmp_path, story)
