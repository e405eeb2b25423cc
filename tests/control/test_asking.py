"""What other programs ask the gateway's policy: `/api/v1/decide`, and AuthZEN 1.0 evaluation and evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Running, gateway

from gateway.control.authzen import EVALUATIONS
from gateway.control.questions import NAME_CHARACTERS, NESTING

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "vectors" / "authzen_todo.json").read_text())
TODO = """\
package tollgate

default decision := {"decision": false, "context": {"reason": "this is not yours to do", "rule": "nobody"}}

decision := {"decision": true, "context": {"rule": "can"}} if can

roles := data.people[input.subject.id].roles

own if input.resource.properties.ownerID == data.people[input.subject.id].email

can if input.action.name in ["can_read_user", "can_read_todos"]

can if {
	input.action.name == "can_create_todo"
	some role in ["admin", "editor"]
	role in roles
}

can if {
	input.action.name == "can_update_todo"
	"evil_genius" in roles
}

can if {
	input.action.name == "can_delete_todo"
	"admin" in roles
}

can if {
	input.action.name in ["can_update_todo", "can_delete_todo"]
	"editor" in roles
	own
}

can if {
	input.action.name == "can_break"
	to_number(input.subject.id) > 0
}

can if {
	input.action.name == "can_tell_the_time"
	startswith(input.context.time, "20")
	input.context.listing == false
}
"""
PUBLIC = "https://admin.gw.example/pdp"


def question(action: str = "can_create_todo", subject: str = "pid-rick", **more: Any) -> dict[str, Any]:
    return {
        "subject": {"type": "user", "id": subject}, "action": {"name": action},
        "resource": {"type": "todo", "id": "todo-1"}, **more,
    }  # fmt: skip


class Pdp:
    def __init__(self, running: Running) -> None:
        self.running = running
        self.token = {"authorization": f"Bearer {running.admin_token}"}

    def post(self, path: str, document: Any, **headers: str) -> httpx2.Response:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        given = {"content-type": "application/json", **self.token, **headers}
        return httpx2.post(self.running.admin_url + path, content=body, headers=given, timeout=30)

    def evaluation(self, document: Any, **headers: str) -> httpx2.Response:
        return self.post("/access/v1/evaluation", document, **headers)

    def evaluations(self, document: Any, **headers: str) -> httpx2.Response:
        return self.post("/access/v1/evaluations", document, **headers)


@pytest.fixture(scope="module")
def pdp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pdp]:
    folder = tmp_path_factory.mktemp("pdp")
    (folder / "policies").mkdir()
    (folder / "policies" / "todo.rego").write_text(TODO)
    (folder / "policies" / "data.json").write_text(json.dumps({"people": VECTORS["people"]}))
    admin = {"listen": "127.0.0.1:0", "token": {"file": str(folder / "admin.token")}, "public_url": PUBLIC}
    with gateway(folder, policy={"bundle": str(folder / "policies")}, admin=admin) as running:
        yield Pdp(running)


def test_the_interop_scenario_todo_is_answered_as_its_rules_say(pdp: Pdp) -> None:
    wrong = []
    for case in VECTORS["evaluation"]:
        answer = pdp.evaluation(case["request"])
        if (answer.status_code, answer.json()["decision"]) != (200, case["expected"]):
            wrong.append((case, answer.text))
    assert not wrong, wrong
    assert {case["expected"] for case in VECTORS["evaluation"]} == {True, False}


def test_several_are_answered_in_order_by_each_of_the_three_semantics(pdp: Pdp) -> None:
    wrong = []
    for case in VECTORS["evaluations"]:
        answer = pdp.evaluations(case["request"])
        if [item["decision"] for item in answer.json()["evaluations"]] != case["expected"]:
            wrong.append((case, answer.text))
    assert not wrong, wrong
    assert len({len(case["expected"]) for case in VECTORS["evaluations"]}) > 1, "some ended early"


def test_what_stands_at_the_top_is_what_an_item_lacks(pdp: Pdp) -> None:
    top = question("can_update_todo", "pid-morty")
    mine = {"resource": {"type": "todo", "id": "1", "properties": {"ownerID": "morty@the-citadel.com"}}}
    found = pdp.evaluations({**top, "evaluations": [{}, mine, {**mine, "subject": {"type": "user", "id": "pid-beth"}}]})
    assert [item["decision"] for item in found.json()["evaluations"]] == [False, True, False]
    for none in ({}, {"evaluations": []}):
        single = pdp.evaluations({**question(), **none})
        assert single.json()["decision"] is True, "without any it is one evaluation"
        assert "evaluations" not in single.json()


def test_a_deny_is_200_with_its_reason_and_a_broken_policy_is_500_or_an_error_among_several(pdp: Pdp) -> None:
    denied = pdp.evaluation(question(subject="pid-beth"))
    assert denied.status_code == 200
    assert denied.json() == {"decision": False, "context": {"reason": "this is not yours to do", "rule": "nobody"}}
    broken = pdp.evaluation(question("can_break"), **{"x-request-id": "r-1"})
    assert broken.status_code == 500
    assert (broken.text, broken.headers["x-request-id"]) == ("The policy could not be evaluated\n", "r-1")
    several = pdp.evaluations({"evaluations": [question(), question("can_break"), question()]}).json()["evaluations"]
    assert [item["decision"] for item in several] == [True, False, True]
    assert several[1]["context"] == {"error": {"status": 500, "message": "The policy could not be evaluated"}}
    short = {"options": {"evaluations_semantic": "deny_on_first_deny"}, "evaluations": [question("can_break")] * 3}
    assert len(pdp.evaluations(short).json()["evaluations"]) == 1, "a failure is a denial"


def test_the_request_id_comes_back_and_one_that_could_not_is_refused(pdp: Pdp) -> None:
    for ident in ("bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "any text, really", "x" * 256):
        assert pdp.evaluation(question(), **{"x-request-id": ident}).headers["x-request-id"] == ident
        assert pdp.evaluation({}, **{"x-request-id": ident}).headers["x-request-id"] == ident
        several = {"evaluations": [question()]}
        assert pdp.evaluations(several, **{"x-request-id": ident}).headers["x-request-id"] == ident
        stranger = {"authorization": "Bearer wrong", "x-request-id": ident}
        refused = pdp.evaluation(question(), **stranger)
        assert (refused.status_code, refused.headers["x-request-id"]) == (401, ident)
    assert "x-request-id" not in pdp.evaluation(question()).headers
    assert pdp.evaluation(question(), **{"x-request-id": "x" * 257}).status_code == 400


def test_the_configuration_names_the_addresses_that_are_configured(pdp: Pdp) -> None:
    url = f"{pdp.running.admin_url}/.well-known/authzen-configuration"
    found = httpx2.get(url, headers=pdp.token)
    assert found.headers["content-type"] == "application/json"
    assert found.json() == {
        "policy_decision_point": PUBLIC,
        "access_evaluation_endpoint": f"{PUBLIC}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{PUBLIC}/access/v1/evaluations",
    }
    evil = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    assert httpx2.get(url, headers={**pdp.token, "host": "evil.example"}).status_code == 403
    del evil["host"]
    assert httpx2.get(url, headers={**pdp.token, **evil}).json() == found.json()
    assert httpx2.get(url).status_code == 401, "as all of the admin plane"


LONG = "x" * (NAME_CHARACTERS + 1)
DEEP: Any = 1
for _ in range(NESTING):
    DEEP = [DEEP]
NO_QUESTIONS: list[Any] = [
    {}, [], "x", b"", b"{", b'{"subject": {}, "subject": {}}', b'{"subject": 1e400}', b"\xff",
    question() | {"subject": {"type": "user"}}, question() | {"subject": {"type": "user", "id": ""}},
    question() | {"subject": {"type": "user", "id": 7}}, question() | {"subject": "pid-rick"},
    question() | {"action": {}}, question() | {"action": {"name": None}}, question() | {"resource": {"type": "todo"}},
    question() | {"resource": {"type": "todo", "id": LONG}}, question() | {"context": []},
    question() | {"subject": {"type": "user", "id": "a", "properties": []}}, question() | {"context": {"deep": DEEP}},
]  # fmt: skip


@pytest.mark.parametrize("document", NO_QUESTIONS, ids=lambda item: str(item)[:40])
def test_what_is_no_question_is_400_and_decides_nothing(pdp: Pdp, document: Any) -> None:
    before = pdp.running.app.log.size + pdp.running.app.log.unsequenced
    for path in ("/access/v1/evaluation", "/access/v1/evaluations", "/api/v1/decide"):
        assert pdp.post(path, document).status_code == 400, path
    if not isinstance(document, bytes):
        assert pdp.evaluations({"evaluations": [question(), document]}).status_code == 400
    assert pdp.running.app.log.size + pdp.running.app.log.unsequenced == before


def test_lists_and_options_have_bounds(pdp: Pdp) -> None:
    assert len(pdp.evaluations({"evaluations": [question()] * EVALUATIONS}).json()["evaluations"]) == EVALUATIONS
    assert pdp.evaluations({"evaluations": [question()] * (EVALUATIONS + 1)}).status_code == 400
    for wrong in ({"evaluations": {}}, {"evaluations": [1]}, {"options": [], "evaluations": [question()]},
                  {"options": {"evaluations_semantic": "first"}, "evaluations": [question()]}):  # fmt: skip
        assert pdp.evaluations({**question(), **wrong}).status_code == 400, wrong
    assert pdp.evaluation(question(context={"text": "x" * 300_000})).status_code == 400
    unknown = {"options": {"later": 1}, "evaluations": [question(later=2)], "later": 3}
    assert pdp.evaluations(unknown).json()["evaluations"][0]["decision"] is True
    text = pdp.post("/access/v1/evaluation", question(), **{"content-type": "text/plain"})
    assert (text.status_code, text.headers["content-type"].partition(";")[0]) == (400, "text/plain")


def test_the_token_is_needed_and_other_methods_are_not_there(pdp: Pdp) -> None:
    for path in ("/access/v1/evaluation", "/access/v1/evaluations", "/api/v1/decide"):
        url = pdp.running.admin_url + path
        assert httpx2.post(url, json=question()).status_code == 401
        assert httpx2.post(url, json=question(), headers={"authorization": "Bearer x"}).status_code == 401
        assert httpx2.get(url, headers=pdp.token).status_code == 405
        page = {**pdp.token, "origin": "https://evil.example"}
        assert httpx2.post(url, json=question(), headers=page).status_code == 403


def test_policy_is_told_of_a_question_what_it_is_told_of_a_call(pdp: Pdp) -> None:
    assert pdp.evaluation(question("can_tell_the_time")).json()["decision"] is True
    said = question("can_tell_the_time", context={"time": "1999-01-01T00:00:00Z"})
    assert pdp.evaluation(said).json()["decision"] is False, "what the asker says counts"
    listed = question("can_tell_the_time", context={"listing": True})
    assert pdp.evaluation(listed).json()["decision"] is False


def test_each_question_leaves_a_record_without_what_it_was_asked_with(pdp: Pdp) -> None:
    pdp.evaluation(question(subject="pid-morty", context={"arguments": {"canary": "canary-value"}}))
    last = pdp.running.last("admin")
    assert (last["action"], last["subject"]["id"]) == ("policy.evaluation", "admin")
    assert last["asked"] == {
        "subject": {"type": "user", "id": "pid-morty"}, "action": "can_create_todo",
        "resource": {"type": "todo", "id": "todo-1"},
    }  # fmt: skip
    assert (last["decision"]["effect"], last["decision"]["rule"]) == ("allow", "can")
    assert last["decision"]["input"].startswith("sha256:")
    pdp.evaluations({"evaluations": [question(), question(subject="pid-beth")]})
    last = pdp.running.last("admin")
    assert (last["action"], last["evaluations"]) == ("policy.evaluations", {"asked": 2, "allowed": 1, "denied": 1})
    assert "canary" not in json.dumps(pdp.running.records())


def test_decide_answers_as_the_command_does_and_says_why_when_it_is_asked_to(pdp: Pdp) -> None:
    asked = question(subject="pid-beth", context={"time": "2026-11-22T12:00:00Z"})  # else it is of its own second
    denied = pdp.post("/api/v1/decide", asked).json()
    assert (denied["decision"], denied["engine"], denied["mode"]) == (False, "embedded", "enforce")
    assert (denied["fault"], "why" in denied) == (False, False)
    assert denied["context"] == {"reason": "this is not yours to do", "rule": "nobody"}
    told = pdp.post("/api/v1/decide?explain=true", asked).json()
    assert told["why"]["matched"] is False
    assert told["input"] == denied["input"]
    nearest = told["why"]["nearest"][0]
    assert nearest["place"] == "input.subject.id"
    flipped = question(subject=nearest["to"])
    assert pdp.post("/api/v1/decide", flipped).json()["decision"] is True
    stranger = pdp.post("/api/v1/decide?explain=true", question(subject="pid-nobody")).json()
    assert 'data.people["pid-nobody"].roles' in stranger["why"]["missing"]
    broken = pdp.post("/api/v1/decide", question("can_break"))
    assert (broken.status_code, broken.json()["fault"], broken.json()["decision"]) == (200, True, False)
    assert pdp.running.last("admin")["action"] == "policy.decide"
    for wrong in ("?explain=yes", "?explain", "?other=1", "?explain=true&explain=true"):
        assert pdp.post(f"/api/v1/decide{wrong}", question()).status_code == 400
