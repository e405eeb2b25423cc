"""A real Cerbos behind the engine: versions, scopes, the caller's token, schemas, TLS, and what it cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cerbos.effect.v1.effect_pb2 import EFFECT_ALLOW, EFFECT_NO_MATCH
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from rig import gateway
from rig import run as run_bounded

from gateway import config
from gateway.assembly_policy import close_engine, make_engine
from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.core.reasons import EngineFault
from gateway.pdp.cerbos import _answers
from gateway.pdp.remote import Answer, Unanswered
from tests.flows.stage import staged
from tests.pdp.asking import request, run, settled
from tests.pdp.engine_servers import CerbosServer, cerbos_server
from tests.wire.certificates import Authority


def rule(name: str, effect: str = "ALLOW", when: str = "", output: str = "", roles: str = '"*"') -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "actions": ["*"], "effect": f"EFFECT_{effect}", "roles": [roles.strip('"')]}
    if when:
        found["condition"] = {"match": {"expr": when}}
    if output:
        found["output"] = {"when": {"ruleActivated": output}}
    return found


def write(folder: Path, name: str, *rules: dict[str, Any], **more: Any) -> None:
    found = {"version": "default", "resource": "tool", "rules": list(rules), **more}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": found}))


@contextmanager
def served(tmp_path: Path, **more: Any) -> Iterator[CerbosServer]:
    with cerbos_server(tmp_path / "policies", tmp_path, **more) as server:
        yield server


def asked(server: CerbosServer, *requests: AccessRequest, **policy: Any) -> list[Decision]:
    async def story() -> list[Decision]:
        engine = make_engine(config.Policy(**{"engine": "cerbos", "url": server.grpc, "timeout": 10.0, **policy}))
        try:
            await engine.check()
            found: list[Decision] = await settled(engine.decide_many(requests or [request({"n": 1})]))
            return found
        finally:
            await close_engine(engine)

    found: list[Decision] = run(story())
    return found


def test_the_policy_version_is_the_configurations(tmp_path: Path) -> None:
    write(tmp_path / "policies", "one", rule("no", "DENY"))
    write(tmp_path / "policies", "two", rule("yes"), version="v2")
    with served(tmp_path) as server:
        [first] = asked(server)
        [second] = asked(server, cerbos=config.CerbosKeys(policy_version="v2"))
        [none] = asked(server, cerbos=config.CerbosKeys(policy_version="v3"))
    assert [item.allow for item in (first, second, none)] == [False, True, False]
    assert second.rule == "resource.tool.vv2"
    assert second.revision == f"{server.grpc} v2"
    assert none.rule == "no_rule_matched"


def test_the_scope_is_the_configurations(tmp_path: Path) -> None:
    write(tmp_path / "policies", "all", rule("yes"))
    write(tmp_path / "policies", "acme", rule("no", "DENY"), scope="acme")
    with served(tmp_path) as server:
        [every] = asked(server)
        [acme] = asked(server, cerbos=config.CerbosKeys(scope="acme"))
    assert (every.allow, acme.allow) == (True, False)


def test_a_caller_without_roles_has_the_role_anonymous(tmp_path: Path) -> None:
    write(tmp_path / "policies", "one", rule("known", "ALLOW", roles="anonymous"))
    document = dict(request().document)
    nobody = {"type": "anonymous", "id": "anonymous", "properties": {"roles": [], "delegated_by": []}}
    with served(tmp_path) as server:
        [somebody, anonymous] = asked(server, request(), AccessRequest({**document, "subject": nobody}))
    assert (somebody.allow, somebody.fault, anonymous.allow) == (False, False, True)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('"because"', (True, "because", "resource.tool.vdefault")),
        ('{"reason": "because", "rule": "r1"}', (True, "because", "r1")),
        ('{"audit": {"seen": true}}', (True, "", "resource.tool.vdefault")),
        ("42", (True, "", "resource.tool.vdefault")),
        ('{"obligations": [{"type": "dance"}], "rule": "r1"}', (False, None, "r1")),
        ('{"obligation": [{"type": "redact", "paths": ["/a"]}]}', (False, None, "wrong_type")),
        ('{"obligations": {"type": "redact"}}', (False, None, "wrong_type")),
        ('{"reason": 1}', (False, None, "wrong_type")),
    ],
)
def test_an_output_is_a_reason_or_what_it_names(tmp_path: Path, output: str, said: tuple[bool, str, str]) -> None:
    write(tmp_path / "policies", "one", rule("r", output=output))
    with served(tmp_path) as server:
        [found] = asked(server)
    allow, reason, name = said
    assert (found.allow, found.rule) == (allow, name), found
    assert reason is None or found.reason == reason


def test_an_output_that_failed_may_have_been_an_obligation(tmp_path: Path) -> None:
    write(tmp_path / "policies", "one", rule("r", output='{"obligations": [R.attr.nothing.at.all]}'))
    with served(tmp_path) as server:
        [found] = asked(server)
    assert (found.allow, found.fault, found.rule) == (False, True, "output_failed")


def test_obligations_of_all_rules_that_matched_are_kept(tmp_path: Path) -> None:
    one, two = ('{"obligations": [{"type": "redact", "paths": ["/NAME"]}]}'.replace("NAME", name) for name in "ab")
    write(tmp_path / "policies", "one", rule("first", output=one), rule("second", output=two))
    with served(tmp_path) as server:
        [found] = asked(server)
    assert found.allow is True
    assert sorted(item.values["paths"][0] for item in found.obligations) == ["/a", "/b"]  # type: ignore[index]


def test_attributes_that_break_the_schema_are_a_deny_that_says_so(tmp_path: Path) -> None:
    write(tmp_path / "policies", "one", rule("yes"), schemas={"resourceSchema": {"ref": "cerbos:///tool.json"}})
    (tmp_path / "policies" / "_schemas").mkdir()
    (tmp_path / "policies" / "_schemas" / "tool.json").write_text(json.dumps({"type": "object", "required": ["owner"]}))
    with served(tmp_path, schema={"enforcement": "reject"}) as server:
        [found] = asked(server)
    assert (found.allow, found.fault, found.rule) == (False, False, "schema")


def test_what_cerbos_does_not_take_is_a_fault_of_that_question_alone(tmp_path: Path) -> None:
    write(tmp_path / "policies", "one", rule("yes"))
    odd = AccessRequest({**request().document, "resource": {"type": "", "id": "", "properties": {}}})
    with served(tmp_path) as server:
        [found] = asked(server, odd)
        assert (found.allow, found.fault, found.rule) == (False, True, "grpc invalid_argument")
        [found] = asked(server)
        assert found.allow is True


def test_tls_with_a_ca_of_its_own_and_never_without(tmp_path: Path) -> None:
    write(tmp_path / "policies", "one", rule("yes"))
    authority = Authority(tmp_path)
    with served(tmp_path, tls=authority.issue("localhost")) as server:
        assert server.grpc.startswith("https://localhost:")
        [found] = asked(server, tls=config.EngineTls(ca=authority.ca))
        assert found.allow is True
        with pytest.raises(EngineFault):
            asked(server)
        with pytest.raises(EngineFault):
            asked(server, url=server.grpc.replace("https:", "http:"))
        with pytest.raises(EngineFault):
            asked(server, tls=config.EngineTls(ca=authority.ca, server_name="elsewhere.example"))


def test_the_callers_token_goes_along_where_the_configuration_says_so(tmp_path: Path) -> None:
    when = 'request.auxData.jwt.sub == "planner"'
    write(tmp_path / "policies", "one", rule("own", when=when), resource="endpoint")

    async def story(jwt: bool, server: CerbosServer) -> int:
        cerbos: dict[str, Any] = {"jwt": {}} if jwt else {}
        async with staged() as stage:
            settings = stage.settings(tmp_path / ("with" if jwt else "without"))
            settings["policy"] = {"engine": "cerbos", "url": server.grpc, "timeout": "10s", "cerbos": cerbos}
            with gateway(tmp_path / ("with" if jwt else "without"), **settings) as gate:
                headers = {"authorization": f"Bearer {gate.issuer.token()}"}
                async with httpx2.AsyncClient(base_url=gate.url, headers=headers, timeout=20) as client:
                    return (await client.get("/files/x")).status_code

    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    with served(tmp_path, auxData={"jwt": {"disableVerification": True}}) as server:
        assert run_bounded(story(True, server)) == 200
        assert run_bounded(story(False, server)) == 403


@pytest.mark.parametrize("changed", ["kind", "id", "action", "another action", "fewer", "more", "effect"])
def test_a_result_for_something_else_is_no_answer(changed: str) -> None:
    asked_for = request_pb2.CheckResourcesRequest()
    entry = asked_for.resources.add(actions=["mcp.tools/call"])
    entry.resource.kind, entry.resource.id = "tool", "weather/get"
    response = response_pb2.CheckResourcesResponse(cerbos_call_id="1")
    result = response.results.add()
    result.resource.kind, result.resource.id = "tool", "weather/get"
    result.actions["mcp.tools/call"] = EFFECT_ALLOW
    [right] = _answers(asked_for, response)
    assert isinstance(right, Answer)
    assert isinstance(right.value, dict)
    assert right.value["decision"] is True
    if changed in ("kind", "id"):
        setattr(result.resource, changed, "another")
    elif changed == "action":
        del result.actions["mcp.tools/call"]
    elif changed == "another action":
        result.actions["mcp.tools/list"] = EFFECT_ALLOW
    elif changed == "fewer":
        del response.results[:]
    elif changed == "more":
        response.results.add().CopyFrom(result)
    else:
        result.actions["mcp.tools/call"] = EFFECT_NO_MATCH
    [found] = _answers(asked_for, response)
    if changed == "effect":
        assert isinstance(found, Answer)
        assert isinstance(found.value, dict)
        assert found.value["decision"] is False
    else:
        assert isinstance(found, Unanswered)
