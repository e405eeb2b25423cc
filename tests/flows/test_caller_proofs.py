"""Callers who prove more than a token: bound tokens, signed requests and descriptors of their own, over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms
from rig import ISSUER, Running, gateway, run
from websockets.asyncio.client import connect

from gateway.trust.jose import Signer, sign_compact, signer
from gateway.trust.presented import TYPE
from tests.flows.stage import Caller, Stage, calling, staged
from tests.identity.prover import Prover, b64url, p256
from tests.wire.certificates import Authority
from tests.wire.faulty import Peer, answer

PLANS = """\
package tollgate

default decision := {"decision": false, "context": {"rule": "no_plan", "reason": "only planners of acme may"}}

decision := {"decision": true, "context": {"rule": "planner", "reason": "a planner of acme"}} if {
    input.subject.properties.descriptor.signer == "acme"
    "plan" in input.subject.properties.descriptor.skills
}
"""
CALL = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
MCP = ("content-type: application/json", "accept: application/json, text/event-stream")


class Trusted:
    """The signer `acme`, and what its descriptors say."""

    def __init__(self, folder: Path) -> None:
        self.signer: Signer = signer(Ed25519PrivateKey.generate(), "acme-1")
        self.file = folder / "acme.jwks.json"
        self.file.write_text(json.dumps({"keys": [self.signer.jwk()]}))

    def descriptor(self, **changed: Any) -> str:
        now = int(time.time())
        claims = {"sub": "agent:idp/planner", "name": "planner", "skills": ["plan"], "iat": now, "exp": now + 600}
        return sign_compact(claims | changed, self.signer, typ=TYPE)


def trust(folder: Path, **more: Any) -> dict[str, Any]:
    issuer = {
        "name": "idp", "issuer": ISSUER, "audience": "tollgate", "algorithms": ["EdDSA"],
        "jwks": {"file": str(folder / "issuer.jwks.json")},
    }  # fmt: skip
    return {"issuers": [issuer], **more}


def key_file(folder: Path, *provers: Prover) -> dict[str, str]:
    path = folder / "partners.jwks.json"
    path.write_text(json.dumps({"keys": [prover.jwk for prover in provers]}))
    return {"file": str(path)}


def sent(stage: Stage, name: bytes) -> bool:
    return any(b"\r\n" + name + b":" in head.lower() for head in stage.heads)


async def records(gate: Running) -> list[dict[str, Any]]:
    return await asyncio.to_thread(gate.records)


# Descriptors


@pytest.mark.parametrize("body", [b"", b"x" * 100], ids=["no body", "body"])
def test_policy_sees_the_descriptor_and_the_upstream_does_not(tmp_path: Path, body: bytes) -> None:
    async def story() -> None:
        acme = Trusted(tmp_path)
        async with staged() as stage:
            (tmp_path / "plans").mkdir()
            (tmp_path / "plans" / "decision.rego").write_text(PLANS)
            settings = stage.settings(tmp_path) | {
                "policy": {"bundle": str(tmp_path / "plans")},
                "trust": trust(tmp_path, signers=[{"name": "acme", "jwks": {"file": str(acme.file)}}]),
            }
            with gateway(tmp_path, **settings) as gate:
                async with calling(gate.app.port) as caller:
                    token = gate.issuer.token()
                    for value, wanted in (
                        (f"agent-descriptor: {acme.descriptor()}", 200),
                        (f"Agent-Descriptor: {acme.descriptor()}", 200),
                        (f"agent-descriptor: {acme.descriptor(skills=['book'])}", 403),
                        ("x-other: 1", 403),
                        (f"agent-descriptor: {acme.descriptor(sub='agent:idp/other')}", 403),
                        (f"agent-descriptor: {acme.descriptor(exp=int(time.time()) - 1)}", 403),
                        ("agent-descriptor: id:nobody", 403),
                    ):
                        status, headers = await caller.ask("POST /files/x", token, body, value)
                        await caller.reader.readexactly(int(headers["content-length"]))
                        assert status == wanted, value
                found = await records(gate)
                intents = [record for record in found if record["kind"] == "intent"]
                assert [record["descriptor"]["caller"]["signer"] for record in intents] == ["acme", "acme"]
                assert all(record["descriptor"]["caller"]["digest"].startswith("sha256:") for record in intents)
                reasons = [record["refusal"]["reason"] for record in found if record["kind"] == "refusal"]
                assert reasons == ["denied", "denied", *["descriptor_unverified"] * 3]
                assert len(stage.heads) == 2
                assert not sent(stage, b"agent-descriptor")

    run(story())


def test_a_refused_descriptor_leaves_an_mcp_session_alive_and_a_route_may_ask_for_one(tmp_path: Path) -> None:
    async def story() -> None:
        acme = Trusted(tmp_path)
        async with staged() as stage:
            settings = stage.settings(tmp_path, descriptor="required") | {
                "trust": trust(tmp_path, signers=[{"name": "acme", "jwks": {"file": str(acme.file)}}]),
            }
            with gateway(tmp_path, **settings) as gate:
                async with calling(gate.app.port) as caller:
                    for value, code in ((acme.descriptor(), None), (acme.descriptor() + "x", -31403), ("", -31403)):
                        given = [*MCP, f"agent-descriptor: {value}"] if value else MCP
                        status, headers = await caller.ask("POST /tools", gate.issuer.token(), CALL, *given)
                        body = json.loads(await caller.reader.readexactly(int(headers["content-length"])))
                        assert status == 200
                        assert body.get("error", {}).get("code") == code
                        if code is not None:
                            assert body["error"]["data"]["reason"] == "descriptor_unverified"
                assert len(stage.heads) == 1

    run(story())


def test_messages_of_a_socket_are_judged_with_the_descriptor_it_was_opened_with(tmp_path: Path) -> None:
    async def story() -> None:
        acme = Trusted(tmp_path)
        async with staged() as stage:
            (tmp_path / "plans").mkdir()
            (tmp_path / "plans" / "decision.rego").write_text(PLANS)
            settings = stage.settings(tmp_path, body="json") | {
                "policy": {"bundle": str(tmp_path / "plans")},
                "trust": trust(tmp_path, signers=[{"name": "acme", "jwks": {"file": str(acme.file)}}]),
            }
            settings["routes"] = [route for route in settings["routes"] if route["name"] == "sockets"]
            with gateway(tmp_path, **settings) as gate:
                headers = {
                    "authorization": f"Bearer {gate.issuer.token()}", "agent-descriptor": acme.descriptor(),
                }  # fmt: skip
                async with connect(
                    f"ws://127.0.0.1:{gate.app.port}/sockets", additional_headers=headers, proxy=None
                ) as socket:
                    await socket.send(CALL.decode())
                    assert await socket.recv() == CALL.decode()
                found = [record for record in await records(gate) if record["kind"] == "intent"]
                assert [record["descriptor"]["caller"]["signer"] for record in found] == ["acme", "acme"]

    run(story())


# Bound tokens


@asynccontextmanager
async def bound(folder: Path, **more: Any) -> AsyncIterator[tuple[Stage, Running, Prover]]:
    async with staged() as stage:
        with gateway(folder, **(stage.settings(folder) | {"trust": trust(folder, **more)})) as gate:
            yield stage, gate, Prover()


async def asked(caller: Caller, line: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, str]]:
    status, found = await caller.ask(line, "", body, *headers)
    await caller.reader.readexactly(int(found["content-length"]))
    return status, found


def test_a_token_bound_to_a_key_needs_a_new_proof_for_each_request(tmp_path: Path) -> None:
    async def story() -> None:
        async with bound(tmp_path) as (stage, gate, prover):
            token = gate.issuer.token(cnf={"jkt": prover.thumbprint})

            def proof(route: str = "files/x") -> tuple[str, str]:
                made = prover.proof("POST", f"{gate.url}/{route}", token, time.time(), jti=f"proof {len(given)}")
                given.append(made)
                return f"authorization: DPoP {token}", f"dpop: {made}"

            given: list[str] = []
            async with calling(gate.app.port) as caller, calling(gate.app.port) as other:
                first = proof()
                assert (await asked(caller, "POST /files/x", *first))[0] == 200
                for connection in (caller, other):  # the very same bytes again, and on another connection
                    status, headers = await asked(connection, "POST /files/x", *first)
                    assert status == 401
                    assert headers["www-authenticate"].startswith('dpop algs="eddsa es256", error="invalid_dpop_proof"')
                assert (await asked(caller, "POST /files/x?a=b", *proof()))[0] == 200
                assert (await asked(caller, "POST /files/y", *proof()))[0] == 401
                assert (await asked(caller, "GET /files/x", *proof()))[0] == 401
                assert (await asked(caller, "POST /files/x", f"authorization: Bearer {token}"))[0] == 401
                assert (await asked(caller, "POST /files/x", *proof(), f"dpop: {given[-1]}"))[0] == 401
                long = CALL.replace(b"}", b',"params":{"a":"' + b"x" * 100_000 + b'"}}')  # read of a known caller only:
                assert (await asked(caller, "POST /tools", *proof("tools"), *MCP, body=long))[0] == 200  # asked twice
            assert len(stage.heads) == 3
            assert not sent(stage, b"dpop")
            assert not sent(stage, b"authorization")
            found = await records(gate)
            refusals = [record for record in found if record["kind"] == "refusal"]
            assert {record["refusal"]["reason"] for record in refusals} == {"unauthenticated"}
            assert not any("subject" in record for record in refusals)

    run(story())


def test_a_proof_may_have_to_carry_the_gateways_nonce(tmp_path: Path) -> None:
    async def story() -> None:
        async with bound(tmp_path, dpop={"nonce": "required"}) as (stage, gate, prover):
            token = gate.issuer.token(cnf={"jkt": prover.thumbprint})
            nonce = None
            for wanted in (401, 200):
                made = prover.proof("GET", f"{gate.url}/files/x", token, time.time(), nonce=nonce)
                headers = {"authorization": f"DPoP {token}", "dpop": made}
                said = await asyncio.to_thread(got, gate.app.port, "/files/x", headers)
                assert said.status == wanted
                if wanted == 401:
                    assert "use_dpop_nonce" in said.headers["www-authenticate"]
                    nonce = said.headers["dpop-nonce"]
            assert len(stage.heads) == 1

    run(story())


def got(port: int, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers=headers)
        found = connection.getresponse()
        found.read()
        return found


def test_a_descriptor_may_be_bound_to_the_key_that_proves_the_token(tmp_path: Path) -> None:
    async def story() -> None:
        acme = Trusted(tmp_path)
        signers = [{"name": "acme", "jwks": {"file": str(acme.file)}}]
        async with bound(tmp_path, signers=signers) as (stage, gate, prover):
            token = gate.issuer.token(cnf={"jkt": prover.thumbprint})
            held = acme.descriptor(sub="urn:planner", cnf={"jkt": prover.thumbprint})
            async with calling(gate.app.port) as caller:
                made = prover.proof("GET", f"{gate.url}/files/x", token, time.time())
                mine = (f"authorization: DPoP {token}", f"dpop: {made}", f"agent-descriptor: {held}")
                assert (await asked(caller, "GET /files/x", *mine))[0] == 200
                stolen = (f"authorization: Bearer {gate.issuer.token()}", f"agent-descriptor: {held}")
                assert (await asked(caller, "GET /files/x", *stolen))[0] == 403
            assert len(stage.heads) == 1

    run(story())


def thumbprint(certificate: Path) -> str:
    der = load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    return b64url(hashlib.sha256(der).digest())


def test_a_token_bound_to_a_certificate_counts_on_its_connection_only(tmp_path: Path) -> None:
    async def story() -> None:
        authority = Authority(tmp_path)
        server, planner, other = (authority.issue(name) for name in ("localhost", "planner", "other"))
        acme = Trusted(tmp_path)
        async with staged() as stage:
            settings = stage.settings(tmp_path) | {
                "tls": {"cert": str(server[0]), "key": str(server[1]), "client_ca": str(authority.ca)},
                "trust": trust(tmp_path, signers=[{"name": "acme", "jwks": {"file": str(acme.file)}}]),
            }
            with gateway(tmp_path, **settings) as gate:
                bound_to = {"x5t#S256": thumbprint(planner[0])}
                token = f"authorization: Bearer {gate.issuer.token(cnf=bound_to)}"
                held = f"agent-descriptor: {acme.descriptor(sub='x', cnf=bound_to)}"
                free = f"authorization: Bearer {gate.issuer.token()}"
                for certificate, given, wanted in (
                    (planner, (token,), 200), (planner, (token, held), 200), (planner, (free, held), 200),
                    (other, (token,), 401), (other, (free,), 200), (other, (free, held), 403),
                ):  # fmt: skip
                    async with secure(gate.app.port, authority.ca, certificate) as caller:
                        for _ in range(2):  # once per connection, and the head is remembered
                            assert (await asked(caller, "GET /files/x", *given))[0] == wanted
                rules = {
                    record["refusal"]["rule"] for record in await records(gate) if record["kind"] == "refusal"
                }  # fmt: skip
                assert rules == {"cnf_certificate", "descriptor_binding"}

    run(story())


def test_a_trusted_proxys_certificate_is_nobodys_who_calls_through_it(tmp_path: Path) -> None:
    async def story() -> None:
        authority = Authority(tmp_path)
        server, proxy = (authority.issue(name) for name in ("localhost", "proxy"))
        async with staged() as stage:
            settings = stage.settings(tmp_path) | {
                "tls": {"cert": str(server[0]), "key": str(server[1]), "client_ca": str(authority.ca)},
                "trusted_proxies": ["127.0.0.1"],
            }
            with gateway(tmp_path, **settings) as gate:
                for cnf, wanted in ((None, 200), ({"x5t#S256": thumbprint(proxy[0])}, 401)):
                    token = gate.issuer.token(**({"cnf": cnf} if cnf else {}))
                    async with secure(gate.app.port, authority.ca, proxy) as caller:
                        given = (f"authorization: Bearer {token}", "forwarded: for=192.0.2.9;proto=https")
                        assert (await asked(caller, "GET /files/x", *given))[0] == wanted
                assert gate.last("refusal")["refusal"]["rule"] == "cnf_certificate"

    run(story())


@asynccontextmanager
async def secure(port: int, ca: Path, certificate: tuple[Path, Path]) -> AsyncIterator[Caller]:
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    context.load_cert_chain(*map(str, certificate))
    caller = Caller(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
    try:
        yield caller
    finally:
        caller.leave()
        with contextlib.suppress(OSError, ssl.SSLError):
            await caller.writer.wait_closed()


# Signed requests


class Request:
    def __init__(self, method: str, url: str, **headers: str) -> None:
        self.method, self.url = method, url
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def signed(prover: Prover, request: Request, body: bytes | None, **options: Any) -> list[str]:
    """Headers as another implementation makes them."""

    class Keys(HTTPSignatureKeyResolver):
        def resolve_private_key(self, key_id: str) -> Any:
            return prover.key

        def resolve_public_key(self, key_id: str) -> Any:
            return prover.key.public_key()

    algorithm = algorithms.ED25519 if prover.algorithm == "EdDSA" else algorithms.ECDSA_P256_SHA256
    usual = ("@method", "@authority", "@target-uri", *(("content-digest",) if body is not None else ()))
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Keys()).sign(
        request,
        key_id=prover.thumbprint,
        created=options.pop("created", datetime.now(UTC)),
        nonce=options.pop("nonce", b64url(hashlib.sha256(repr((time.time(), body)).encode()).digest())),
        covered_component_ids=options.pop("covered", usual),
        body=body,
        **options,
    )
    return [f"{name}: {value}" for name, value in request.headers.items()]


@pytest.mark.parametrize("key", [None, p256()], ids=["Ed25519", "P-256"])
def test_who_signs_its_requests_needs_no_token(tmp_path: Path, key: Any) -> None:
    prover = Prover(key) if key else Prover()

    async def story() -> None:
        async with staged() as stage:
            entry = {"name": "partners", "jwks": key_file(tmp_path, prover), "subject": "planner", "org": "acme"}
            settings = stage.settings(tmp_path) | {"trust": trust(tmp_path, signatures=[entry])}
            with gateway(tmp_path, **settings) as gate:
                async with calling(gate.app.port) as caller:

                    def sign(path: str, body: bytes | None = None, method: str = "POST") -> list[str]:
                        return signed(prover, Request(method, f"http://127.0.0.1{path}"), body)

                    assert (await asked(caller, "GET /files/x?a=%20b", *sign("/files/x?a=%20b", method="GET")))[
                        0
                    ] == 200
                    assert (await asked(caller, "POST /tools", *sign("/tools", CALL), *MCP, body=CALL))[0] == 200
                    assert (await asked(caller, "POST /files/x", *sign("/files/x", b"data"), body=b"data"))[0] == 200
                    assert stage.bodies[-1] == b"data"

                    again = sign("/files/x", b"data")
                    assert (await asked(caller, "POST /files/x", *again, body=b"data"))[0] == 200
                    assert (await asked(caller, "POST /files/x", *again, body=b"data"))[0] == 401  # a nonce counts once
                    before = len(stage.heads)
                    other = CALL.replace(b"1", b"2")
                    assert (await asked(caller, "POST /tools", *sign("/tools", CALL), *MCP, body=other))[0] == 401
                    assert (await asked(caller, "GET /files/y", *sign("/files/x", method="GET")))[0] == 401
                    assert (await asked(caller, "POST /files/x", *sign("/files/x"), body=b"data"))[0] == 401
                    token = f"authorization: Bearer {gate.issuer.token()}"
                    assert (await asked(caller, "GET /files/x", token, *sign("/files/x", method="GET")))[0] == 400
                    assert len(stage.heads) == before
                    for name in (b"signature", b"signature-input"):
                        assert not sent(stage, name)
                subjects = {
                    (record["subject"]["id"], record["subject"]["org"])
                    for record in await records(gate)
                    if record["kind"] == "intent"
                }
                assert subjects == {("agent:partners/planner", "acme")}

    run(story())


def test_a_streamed_body_that_is_not_the_signed_one_never_ends_at_the_upstream(tmp_path: Path) -> None:
    prover = Prover()

    async def story() -> None:
        async with staged() as stage:
            entry = {"name": "partners", "jwks": key_file(tmp_path, prover)}
            settings = stage.settings(tmp_path) | {"trust": trust(tmp_path, signatures=[entry])}
            with gateway(tmp_path, **settings) as gate:
                async with calling(gate.app.port) as caller:
                    headers = signed(prover, Request("POST", "http://127.0.0.1/files/x"), b"a" * 300_000)
                    status, said = await caller.ask("POST /files/x", "", b"a" * 299_999 + b"b", *headers)
                    assert status == 401
                    await caller.reader.readexactly(int(said["content-length"]))
                    assert stage.bodies == []  # a whole request never came
                outcome = [record for record in await records(gate) if record["kind"] == "outcome"][-1]
                assert outcome["result"] == "error"
                assert outcome["refusal"]["rule"] == "signature_digest"

    run(story())


# Web Bot Auth


def test_a_bots_directory_is_fetched_in_the_background_and_only_if_it_is_listed(tmp_path: Path) -> None:
    prover, stranger = Prover(), Prover()

    async def story() -> None:
        async with staged() as stage, staged() as elsewhere:
            for place, owner in ((stage, prover), (elsewhere, stranger)):
                keys = json.dumps({"keys": [{**owner.jwk, "kid": owner.thumbprint, "use": "sig"}]}).encode()
                place.plays["/.well-known/http-message-signatures-directory"] = playing(keys)
            here, there = (f"http://127.0.0.1:{place.server.port}" for place in (stage, elsewhere))
            entry = {"name": "bots", "directories": [here], "covers": "authority", "nonce": "optional"}
            settings = stage.settings(tmp_path) | {"trust": trust(tmp_path, signatures=[entry])}
            with gateway(tmp_path, **settings) as gate:

                def sign(by: Prover, agent: str) -> list[str]:
                    request = Request("GET", "http://127.0.0.1/files/x", Signature_Agent=f'sig1="{agent}"')
                    return signed(
                        by, request, None, covered=("@authority", '"signature-agent";key="sig1"'), label="sig1",
                        tag="web-bot-auth", expires=datetime.fromtimestamp(time.time() + 60, UTC),
                    )  # fmt: skip

                async with calling(gate.app.port) as caller:
                    assert (await asked(caller, "GET /files/x", *sign(prover, here)))[0] == 200
                    assert (await asked(caller, "GET /files/x", *sign(stranger, here)))[0] == 401
                    assert (await asked(caller, "GET /files/x", *sign(stranger, there)))[0] == 401
                assert elsewhere.heads == []
                fetched = [head for head in stage.heads if b"directory" in head]
                assert fetched
                assert all(b"authorization" not in head.lower() for head in fetched)
                assert not any(b"signature-agent" in head.lower() for head in stage.heads)
                subjects = {
                    record["subject"]["id"] for record in await records(gate) if record["kind"] == "intent"
                }  # fmt: skip
                assert subjects == {f"agent:bots/127.0.0.1:{stage.server.port}"}

    run(story())


def playing(body: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def play(peer: Peer) -> None:
        await peer.send(answer(body, b"Content-Type: application/http-message-signatures-directory+json"))

    return play
