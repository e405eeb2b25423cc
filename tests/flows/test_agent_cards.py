"""Agent cards wire to wire: verified, signed anew, required before anything is forwarded; and every way they go bad."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rig import Issuer, Running, base_settings, gateway, until

from gateway.trust.cards import Voucher, verify_card
from gateway.trust.jose import read_jwks
from gateway.trust.presented import BINDING
from tests.flows.canned import OPEN, Canned, answer, canned
from tests.trust.card_rig import ACME, OTHER, card, jwks, legacy, signed

CARD = "/.well-known/agent-card.json"
ORIGINAL = "/.well-known/agent-card.original.json"
SEND = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "SendMessage",
    "params": {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}},
}
SAID = {"jsonrpc": "2.0", "id": 7, "result": {"message": {"messageId": "r", "role": "ROLE_AGENT", "parts": []}}}
POLICY = (
    OPEN
    + """
decision := {"decision": false, "context": {"rule": "skill", "reason": "not for you"}} if {
    input.resource.properties.skill.id == "secret"
    input.subject.id != "agent:idp/insider"
}
"""
)


@dataclass
class Door:
    """A gateway in front of one agent that says what it is told to."""

    agent: Canned
    gateway: Running
    folder: Path

    def shows(self, found: dict[str, Any], *headers: str, path: str = CARD) -> bytes:
        body = json.dumps(found).encode()
        self.agent.says[path] = answer(body, "application/json", "200 OK", *headers)
        return body

    def trusts(self, *by: Any, **more: Any) -> None:
        (self.folder / "acme.jwks.json").write_bytes(jwks(*by, **more))

    def get(self, path: str = CARD, *, who: str = "planner", **headers: str) -> httpx.Response:
        bearer = {"authorization": f"Bearer {self.gateway.issuer.token(who)}"}
        return httpx.get(self.gateway.url + "/agent" + path, headers=bearer | headers)

    def send(self, body: Any = SEND, path: str = "/rpc") -> httpx.Response:
        bearer = {"authorization": f"Bearer {self.gateway.issuer.token()}", "a2a-version": "1.0"}
        return httpx.post(self.gateway.url + "/agent" + path, headers=bearer, json=body)

    def card(self) -> dict[str, Any]:
        """The agent's card, every way of it at the agent."""
        url = self.agent.url
        return card(
            supportedInterfaces=[
                {"url": url + "/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
                {"url": url, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
                {"url": "https://elsewhere.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
                {"url": "127.0.0.1:1", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
            ],
            capabilities={"streaming": False, "extendedAgentCard": True},
        )

    def forwarded(self) -> list[str]:
        """Paths of requests that reached the agent, but for its card."""
        return [path for path in (head.split(b" ")[1].decode() for head in self.agent.heads) if path != CARD]

    def verified(self) -> bool:
        found = self.gateway.app.descriptors.registry.find("agent", "agent", "agent")
        return found is not None and found.standing == "verified"

    def settles(self, verified: bool) -> None:
        until(lambda: self.verified() is verified, what=f"a card that is {'' if verified else 'not '}verified")


@contextmanager
def door(folder: Path, *, first: bool = True, **settings: Any) -> Iterator[Door]:
    """The agent's card is signed by ACME, which is trusted, unless `first` is off."""
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.rego").write_text(POLICY)
    (folder / "acme.jwks.json").write_bytes(jwks(ACME))
    wanted = {"signers": ["acme"], "refresh": "200ms"} | settings.pop("card", {})
    with canned() as agent:
        upstream = {"url": agent.url, "protocol": "a2a"} | ({"card": wanted} if settings.pop("carded", True) else {})
        agent.says["/rpc"] = answer(json.dumps(SAID).encode())
        whole: dict[str, Any] = {
            "policy": {"bundle": str(folder / "policy")},
            "upstreams": {"agent": upstream},
            "routes": [{"name": "agent", "match": {"path": "/agent"}, "upstream": "agent"}],
            **settings,
        }
        # The issuer of the gateway's rig has another key, in the same file.
        trust = base_settings(folder, Issuer(folder))["trust"]
        trust["signers"] = [{"name": "acme", "jwks": {"file": str(folder / "acme.jwks.json")}}]
        if first:
            made = Door(agent, None, folder)  # type: ignore[arg-type]  # only its card is needed
            made.shows(signed(made.card(), ACME))
        with gateway(folder, trust=trust, **whole) as running:
            yield Door(agent, running, folder)


def signed_by_the_gateway(found: dict[str, Any], running: Running) -> None:
    published = httpx.get(running.url + "/.well-known/jwks.json").content
    believed = verify_card(found, [Voucher("gateway", read_jwks(published))], 0.0)
    assert believed.card == {name: value for name, value in found.items() if name != "signatures"}


def test_the_card_that_is_shown_is_the_verified_one_signed_anew(tmp_path: Path) -> None:
    with door(tmp_path) as at:
        wanted = at.card()
        body = at.shows({**signed(wanted, ACME), "injected": {"x": 1}})
        until(lambda: at.get().json()["signatures"][0]["header"]["orig"].endswith(hashlib.sha256(body).hexdigest()))
        response = at.get()
        shown = response.json()
        base = at.gateway.url + "/agent"
        assert [item["url"] for item in shown["supportedInterfaces"]] == [base + "/rpc", base]
        assert {name: shown[name] for name in wanted if name != "supportedInterfaces"} == {
            name: wanted[name] for name in wanted if name != "supportedInterfaces"
        }
        assert set(shown) == set(wanted) | {"signatures"}
        signed_by_the_gateway(shown, at.gateway)
        assert response.headers["cache-control"] == "private, max-age=60"
        again = at.get(**{"if-none-match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert at.get("/.well-known/agent.json").json() == shown
        records = at.gateway.records()
        descriptor = [item["descriptor"] for item in records if item["kind"] == "intent"][-1]["agent"]
        assert (descriptor["signer"], descriptor["form"], descriptor["kid"]) == ("acme", "spec", "acme-1")
        assert descriptor["original"] == "sha256:" + hashlib.sha256(body).hexdigest()
        assert at.forwarded() == []


def test_the_original_is_there_by_its_digest_and_for_whom_nothing_in_it_is_hidden(tmp_path: Path) -> None:
    with door(tmp_path) as at:
        shown = at.get().json()
        body = at.get(ORIGINAL).content
        assert "sha256:" + hashlib.sha256(body).hexdigest() == shown["signatures"][0]["header"]["orig"]
        link = at.get().headers["link"]
        assert (
            link
            == f'<{at.gateway.url}/agent{ORIGINAL}?digest={shown["signatures"][0]["header"]["orig"]}>; rel="original"'
        )
        assert at.get(f"{ORIGINAL}?digest={shown['signatures'][0]['header']['orig']}").content == body
        missing = at.get(f"{ORIGINAL}?digest=sha256:00")
        assert missing.status_code == 404
        hiding = at.card()
        hiding["skills"].append({"id": "secret", "name": "s", "description": "d", "tags": ["t"]})
        at.shows(signed(hiding, ACME))
        until(lambda: len(at.get(who="insider").json()["skills"]) == 2)
        assert [skill["id"] for skill in at.get().json()["skills"]] == ["book"]
        signed_by_the_gateway(at.get().json(), at.gateway)
        refused = at.get(ORIGINAL)
        assert refused.status_code == 403
        assert "secret" not in refused.text
        assert "secret" in at.get(ORIGINAL, who="insider").text
        assert at.forwarded() == []


def test_no_message_is_forwarded_until_a_card_verified(tmp_path: Path) -> None:
    with door(tmp_path, first=False) as at:
        at.shows(at.card())
        for refused in (at.send(), at.send()):
            assert refused.status_code == 200
            error = refused.json()["error"]
            assert (error["code"], refused.json()["id"]) == (-31403, 7)
            assert "card is not verified" in error["message"]
        rest = at.send({"message": SEND["params"]["message"]}, path="/message:send")
        assert rest.status_code == 403
        assert at.get().status_code == 403
        assert at.get("/extendedAgentCard").status_code == 403
        assert at.get(ORIGINAL).status_code == 403
        assert at.forwarded() == []
        record = at.gateway.last("refusal")
        assert record["refusal"]["reason"] == "descriptor_unverified"
        at.shows(signed(at.card(), ACME))
        at.settles(True)
        assert at.send().json() == SAID
        assert at.gateway.last("intent")["descriptor"]["agent"]["signer"] == "acme"
        assert "descriptor" not in at.gateway.last("outcome")


def test_the_first_message_waits_for_the_card(tmp_path: Path) -> None:
    with door(tmp_path) as at:
        assert at.send().json() == SAID


def test_no_message_is_forwarded_after_the_card_stopped_verifying(tmp_path: Path) -> None:
    with door(tmp_path) as at:
        assert at.send().json() == SAID
        at.shows({**signed(at.card(), ACME), "name": "changed"})
        at.settles(False)
        before = at.forwarded()
        assert at.send().json()["error"]["code"] == -31403
        assert at.get().status_code == 403
        assert at.forwarded() == before
        item = at.gateway.app.descriptors.registry.find("agent", "agent", "agent")
        assert item is not None
        assert "not right" in item.why


def test_a_withdrawn_key_stops_the_agent_within_a_second_or_two(tmp_path: Path) -> None:
    with door(tmp_path, card={"refresh": "1h"}) as at:
        assert at.send().json() == SAID
        asked = len(at.agent.heads)
        at.trusts(OTHER)
        at.settles(False)
        assert at.send().json()["error"]["code"] == -31403
        assert len(at.agent.heads) == asked
        at.trusts(ACME, nbf=0, exp=1)
        until(lambda: "not in force" in (at.gateway.app.descriptors.registry.find("agent", "agent", "agent") or "").why)
        at.trusts(ACME, OTHER)
        at.settles(True)
        assert at.send().json() == SAID


def test_an_agent_that_is_down_keeps_its_card_for_as_long_as_is_said(tmp_path: Path) -> None:
    with door(tmp_path, card={"stale": "1s"}) as at:
        assert at.send().json() == SAID
        at.agent.says[CARD] = answer(b"{}", "application/json", "503 Service Unavailable")
        assert at.get().status_code == 200
        at.settles(False)
        item = at.gateway.app.descriptors.registry.find("agent", "agent", "agent")
        assert item is not None
        assert "older than 1 s" in item.why
        assert at.send().json()["error"]["code"] == -31403


def extended(at: Door, found: Any) -> None:
    result = {"jsonrpc": "2.0", "id": 7, "result": found}
    at.agent.says["/rpc"] = answer(json.dumps(result).encode(), "application/json", "200 OK", "Cache-Control: public")
    at.shows(found, "Cache-Control: public, max-age=3600", 'ETag: "1"', path="/extendedAgentCard")


def test_an_extended_card_is_its_callers_verified_and_signed_anew(tmp_path: Path) -> None:
    asked = {"jsonrpc": "2.0", "id": 7, "method": "GetExtendedAgentCard"}
    with door(tmp_path) as at:
        wanted = at.card() | {"description": "More than everybody sees."}
        extended(at, {**signed(wanted, ACME), "injected": 1})
        rpc, rest = at.send(asked), at.get("/extendedAgentCard")
        for response, shown in ((rpc, rpc.json()["result"]), (rest, rest.json())):
            assert shown["description"] == "More than everybody sees."
            assert "injected" not in shown
            assert len(shown["supportedInterfaces"]) == 2
            signed_by_the_gateway(shown, at.gateway)
            assert response.headers["cache-control"] == "private, no-store"
            assert "etag" not in response.headers
            named = shown["signatures"][0]["header"]["orig"]
            assert at.get(f"{ORIGINAL}?digest={named}").status_code == 404
        extended(at, wanted | {"signatures": []})
        for response in (at.send(asked), at.get("/extendedAgentCard")):
            assert "More than everybody sees" not in response.text
            assert "not verified" in response.text
        assert at.get("/extendedAgentCard").status_code == 403
        refused = at.gateway.last("outcome")
        assert refused["refusal"]["reason"] == "descriptor_unverified"
        assert refused["result"] == "error"


def test_an_unsigned_card_is_signed_by_the_gateway_where_none_is_required(tmp_path: Path) -> None:
    for number, settings in enumerate(({"card": {"required": False}}, {"carded": False})):
        folder = tmp_path / str(number)
        folder.mkdir()
        with door(folder, first=False, **settings) as at:
            body = at.shows(at.card())
            until(lambda at=at: at.get().status_code == 200, what="a card that was fetched")
            shown = at.get().json()
            signed_by_the_gateway(shown, at.gateway)
            assert at.get(ORIGINAL).content == body
            assert at.send().json() == SAID
            assert "descriptor" not in at.gateway.last("outcome")


def test_an_older_card_goes_on_in_its_own_words(tmp_path: Path) -> None:
    with door(tmp_path, first=False) as at:
        at.shows(signed(legacy(url=at.agent.url + "/rpc"), ACME))
        at.settles(True)
        shown = at.get().json()
        assert shown["url"] == at.gateway.url + "/agent/rpc"
        signed_by_the_gateway(shown, at.gateway)
        at.get().raise_for_status()
        assert at.gateway.last("intent")["descriptor"]["agent"]["form"] == "compat"


def test_what_readers_of_the_older_version_look_at_is_said_again_from_what_was_signed(tmp_path: Path) -> None:
    with door(tmp_path, first=False) as at:
        wanted = at.card()
        for item in wanted["supportedInterfaces"]:
            item["protocolVersion"] = "0.3.0"
        compat = {"url": "https://evil.example/", "preferredTransport": "JSONRPC", "protocolVersion": "0.3.0"}
        at.shows({**signed(wanted, ACME), **compat})
        at.settles(True)
        shown = at.get().json()
        base = at.gateway.url + "/agent"
        assert (shown["url"], shown["preferredTransport"]) == (base + "/rpc", "JSONRPC")
        assert shown["additionalInterfaces"] == [{"url": base, "transport": "HTTP+JSON"}]
        assert "evil.example" not in json.dumps(shown)
        signed_by_the_gateway(shown, at.gateway)


def test_a_preserved_card_goes_on_as_it_came_or_not_at_all(tmp_path: Path) -> None:
    with door(tmp_path, first=False, card={"mode": "preserve"}) as at:
        own = at.card()
        own["supportedInterfaces"] = [
            {"url": at.gateway.url + "/agent/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        ]
        body = at.shows(signed(own, ACME))
        at.settles(True)
        response = at.get()
        assert response.content == body
        assert verify_card(response.json(), [Voucher("acme", read_jwks(jwks(ACME)))], 0.0).card == own
        again = at.get(**{"if-none-match": response.headers["etag"]})
        assert again.status_code == 304
        at.shows({**signed(own, ACME), "injected": "x"})
        until(lambda: at.get().content != body)
        assert at.get().json() == signed(own) | {"signatures": json.loads(at.get().content)["signatures"]}
        at.shows(signed(at.card(), ACME))
        until(lambda: at.get().status_code == 403)
        assert "leads elsewhere" in at.get().text
        own["skills"].append({"id": "secret", "name": "s", "description": "d", "tags": ["t"]})
        body = at.shows(signed(own, ACME))
        until(lambda: at.get(who="insider").status_code == 200)
        assert at.get(who="insider").content == body
        assert at.get().status_code == 403
        assert "secret" not in at.get().text
        assert at.gateway.last("outcome")["refusal"]["reason"] == "denied"


def test_a_reload_that_leaves_the_card_alone_forgets_nothing_and_another_signer_is_asked_at_once(
    tmp_path: Path,
) -> None:
    with door(tmp_path, card={"refresh": "1h"}) as at:
        assert at.send().json() == SAID
        asked = len([head for head in at.agent.heads if CARD.encode() in head])
        at.gateway.reload(origins=["https://app.example"])
        assert at.send().json() == SAID
        assert len([head for head in at.agent.heads if CARD.encode() in head]) == asked
        trust = dict(at.gateway.settings["trust"])
        (tmp_path / "other.jwks.json").write_bytes(jwks(OTHER))
        trust["signers"] = [*trust["signers"], {"name": "other", "jwks": {"file": str(tmp_path / "other.jwks.json")}}]
        upstreams = {"agent": at.gateway.settings["upstreams"]["agent"] | {"card": {"signers": ["other"]}}}
        at.gateway.reload(trust=trust, upstreams=upstreams)
        assert at.send().json()["error"]["code"] == -31403


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"name":"a","name":"b"}', b"{" * 100, b'"' + b"x" * 300_000 + b'"']
)
def test_what_is_no_card_is_never_shown(tmp_path: Path, body: bytes) -> None:
    with door(tmp_path, first=False) as at:
        at.agent.says[CARD] = answer(body)
        assert at.get().status_code == 403
        assert at.send().json()["error"]["code"] == -31403
        assert at.forwarded() == []


def test_an_endless_card_is_left_where_it_is_too_large(tmp_path: Path) -> None:
    poured: list[int] = []

    def pour(connection: socket.socket) -> None:
        count = 0
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            while count < 64 * 1024 * 1024:
                connection.sendall(b" " * 65536)
                count += 65536
        poured.append(count)

    with door(tmp_path, first=False) as at:
        at.agent.says[CARD] = pour
        until(lambda: poured, what="the end of the pouring")
        assert at.send().json()["error"]["code"] == -31403
    assert max(poured) < 32 * 1024 * 1024  # what buffers hold, far from all of it


def test_an_agent_may_name_its_own_card_by_its_digest_while_that_is_verified_and_not_blocked(tmp_path: Path) -> None:
    with door(tmp_path) as at:
        own = at.card()
        own["capabilities"]["extensions"] = [{"uri": BINDING, "params": {"sub": "agent:idp/planner"}}]
        at.settles(True)
        before = at.gateway.app.snapshot.cards["agent"].digest
        at.shows(signed(own, ACME))
        cards, registry = at.gateway.app.snapshot.cards["agent"], at.gateway.app.descriptors.registry
        until(lambda: cards.digest not in ("", before) and at.verified(), what="the card that says whose it is")
        at.gateway.reload(
            upstreams=at.gateway.settings["upstreams"] | {"files": {"url": at.agent.url, "protocol": "http"}},
            routes=[
                *at.gateway.settings["routes"],
                {"name": "files", "match": {"path": "/files"}, "upstream": "files", "descriptor": "required"},
            ],
        )
        named, token = cards.digest, at.gateway.issuer.token()
        with httpx.Client() as caller:  # one connection: what was found for its head is remembered

            def rule(digest: str = named, bearer: str = token) -> str:
                headers = {"authorization": f"Bearer {bearer}", "agent-descriptor": digest}
                said = caller.get(at.gateway.url + "/files/rpc", headers=headers)
                if said.status_code == 200:
                    return ""
                assert (said.status_code, said.json()["reason"]) == (403, "descriptor_unverified")
                return str(at.gateway.last("refusal")["refusal"]["rule"])

            assert [rule(), rule()] == ["", ""]
            caller_of = at.gateway.last("intent")["descriptor"]["caller"]
            assert caller_of == {"digest": named, "form": "spec", "signer": "acme"}
            assert rule("sha256:" + "0" * 64) == "descriptor_unknown"
            assert rule(before) == "descriptor_unknown", "a card that was replaced"
            assert rule(bearer=at.gateway.issuer.token("another")) == "descriptor_binding"

            assert [rule(), rule()] == ["", ""]
            at.gateway.call(registry.block("agent", "agent", "agent", "", "admin"))
            assert rule() == "descriptor_unknown"
            at.gateway.call(registry.unblock("agent", "agent", "agent"))
            assert rule() == ""

            item = registry.find("agent", "agent", "agent")
            assert item is not None
            at.gateway.call(registry.save([replace(item, digest=before)]))
            assert [rule(), rule(before)] == ["descriptor_unknown"] * 2, "the registry knows another one"
            at.gateway.call(registry.save([item]))
            assert rule() == ""

            at.trusts(OTHER)
            at.settles(False)
            assert rule() == "descriptor_unknown"
