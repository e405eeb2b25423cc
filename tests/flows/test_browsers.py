"""Pages in browsers: who may call, what a preflight is told, and what the gateway's own documents say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rig import gateway

from tests.flows.canned import answer, canned, open_policy, say

PAGE = "Origin: https://app.example"
WOULD = "Access-Control-Request-Method: POST"


def settings(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    return {
        "policy": open_policy(folder),
        "origins": ["https://app.example"],
        "upstreams": {"files": {"url": url, "protocol": "http"}},
        "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files", "auth": "anonymous"}],
        **more,
    }


def test_a_preflight_of_a_listed_origin_is_answered_here_and_leaves_no_record(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        said = say(running.app.port, "OPTIONS /files/x", PAGE, WOULD, "Access-Control-Request-Headers: x-a")
        assert (said.status, said.value("access-control-allow-origin")) == (204, "https://app.example")
        assert said.value("access-control-allow-methods") == "POST"
        assert said.value("access-control-allow-headers") == "x-a"
        assert said.value("vary") == "origin"
        assert said.value("x-request-id")
        assert upstream.heads == []
        assert [record["kind"] for record in running.records()] == ["activation"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil.example"])
def test_another_origin_is_refused_before_and_after_its_preflight(tmp_path: Path, origin: str) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        for line, *headers in (("OPTIONS /files/x", WOULD), ("GET /files/x",)):
            said = say(running.app.port, line, f"Origin: {origin}", *headers)
            assert (said.status, said.json()["reason"]) == (403, "origin_refused")
            assert said.value("access-control-allow-origin") is None
        assert upstream.heads == []


def test_a_plain_options_request_is_the_upstreams_and_judged(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        assert say(running.app.port, "OPTIONS /files/forbidden", PAGE).status == 403
        assert say(running.app.port, "OPTIONS /files/x").status == 200
        assert running.last("outcome")["action"] == "http.OPTIONS"


def test_our_words_replace_an_upstreams_for_a_listed_origin(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        upstream.says["/x"] = answer(b"{}", "application/json", "200 OK", "Access-Control-Allow-Origin: *")
        said = say(running.app.port, "GET /files/x", PAGE)
        assert said.value("access-control-allow-origin") == "https://app.example"


def test_a_refusal_can_be_read_by_the_page_that_is_allowed_to_call(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        said = say(running.app.port, "GET /files/forbidden", PAGE)
        assert (said.status, said.value("access-control-allow-origin")) == (403, "https://app.example")


def test_the_gateways_own_documents_have_an_id_and_a_preflight(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        for line in ("GET", "HEAD"):
            said = say(running.app.port, f"{line} /.well-known/jwks.json", PAGE)
            assert said.status == 200
            assert said.value("x-request-id")
            assert said.value("access-control-allow-origin") == "*"
        before = say(running.app.port, "OPTIONS /.well-known/jwks.json", PAGE, "Access-Control-Request-Method: GET")
        assert (before.status, before.value("access-control-allow-origin")) == (204, "https://app.example")
        assert say(running.app.port, "POST /.well-known/jwks.json").status == 405
        assert say(running.app.port, "OPTIONS /.well-known/other", PAGE, WOULD).status == 404


@pytest.mark.parametrize("public_url", ["https://GW.example", "https://gw.example:443", "https://gw.example/behind/it"])
def test_the_gateways_own_origin_is_the_public_urls_however_it_is_written(tmp_path: Path, public_url: str) -> None:
    whole = settings(tmp_path, "http://127.0.0.1:9", public_url=public_url, origins=[])
    with canned() as upstream, gateway(tmp_path, **whole) as running:
        running.reload(upstreams={"files": {"url": upstream.url, "protocol": "http"}})
        assert say(running.app.port, "GET /files/x", "Origin: https://gw.example", host="gw.example").status == 200
        assert say(running.app.port, "GET /files/x", "Origin: https://gw.example:8443", host="gw.example").status == 403
