"""The AuthZEN engine against a PDP that plays the standard: what is sent, what is read, and where it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway import config
from gateway.assembly_policy import make_engine
from gateway.core.exchange import Decision
from gateway.core.reasons import EngineFault
from tests.pdp.asking import request, settled
from tests.wire.faulty import Peer, Server, answer

JSON = b"Content-Type: application/json"
KEYS = config.AuthzenKeys


class Pdp:
    """Answers by path; `seen` is what was asked: path, headers, body."""

    def __init__(self, **paths: Callable[[Any], Any]) -> None:
        self.paths = {f"/{name.replace('__', '/')}": play for name, play in paths.items()}
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.server = Server(self._play)

    async def _play(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            first, *lines = head.decode().rstrip().split("\r\n")
            path = first.split(" ")[1]
            said = json.loads(body) if body else None
            headers = dict(line.lower().split(": ", 1) for line in lines)
            self.seen.append((path, headers, said))
            play = self.paths.get(path)
            if play is None:
                await peer.send(answer(b"{}", JSON, status=b"404 Not Found"))
            else:
                await peer.send(answer(json.dumps(play(said)).encode(), JSON))


def run(pdp: Pdp, ask: Callable[[Any], Any], *, url: str = "http://127.0.0.1:{}", **policy: Any) -> Any:
    async def story() -> Any:
        async with asyncio.timeout(20), pdp.server:
            place = url.format(pdp.server.port)
            engine = make_engine(config.Policy(engine="authzen", url=place, timeout=5.0, **policy))
            try:
                return await ask(engine)
            finally:
                await engine.aclose()  # type: ignore[attr-defined]

    return asyncio.run(story())


async def one(engine: Any) -> Decision:
    found: Decision = await settled(engine.decide(request({"city": "Oslo"})))
    return found


def listed(count: int) -> Callable[[Any], Any]:
    async def ask(engine: Any) -> Any:
        return await settled(engine.decide_many([request({"n": n}) for n in range(count)]))

    return ask


def yes(said: Any) -> Any:
    return {"decision": True}


def even(said: Any) -> Any:
    return {"evaluations": [{"decision": item["context"]["arguments"]["n"] % 2 == 0} for item in said["evaluations"]]}


def test_the_question_goes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDP", "s3cret")
    token = config.Secret("environment PDP", None, "s3cret")
    pdp = Pdp(access__v1__evaluation=yes)
    assert run(pdp, one, token=token).allow is True
    [(path, headers, said)] = pdp.seen
    assert path == "/access/v1/evaluation"
    assert said == request({"city": "Oslo"}).document
    assert headers["authorization"] == "bearer s3cret"
    assert headers["x-request-id"] == "0190"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{pdp.server.port}"


def test_a_path_stands_before_the_standards_own() -> None:
    pdp = Pdp(tenants__a__access__v1__evaluation=yes)
    assert run(pdp, one, url="http://127.0.0.1:{}/tenants/a").allow is True


def test_the_items_of_a_list_are_one_question_each_with_its_own_answer() -> None:
    pdp = Pdp(access__v1__evaluations=even)
    found = run(pdp, listed(120))
    assert [item.allow for item in found] == [n % 2 == 0 for n in range(120)]
    assert [len(said["evaluations"]) for _, _, said in pdp.seen] == [50, 50, 20]
    assert {said["options"]["evaluations_semantic"] for _, _, said in pdp.seen} == {"execute_all"}


@pytest.mark.parametrize(
    "given",
    [
        {"evaluations": [{"decision": True}]},
        {"evaluations": [{"decision": True}] * 4},
        {"evaluations": {"0": {"decision": True}}},
        {"decision": True},
        {},
    ],
)
def test_an_answer_to_another_number_of_questions_is_none(given: Any) -> None:
    found = run(Pdp(access__v1__evaluations=lambda said: given), listed(3))
    assert [(item.allow, item.fault, item.rule) for item in found] == [(False, True, "answer_incomplete")] * 3


def test_an_item_that_is_no_decision_denies_that_item_alone() -> None:
    given = {"evaluations": [{"decision": True}, {"decision": "true"}, None, {"decision": True}]}
    found = run(Pdp(access__v1__evaluations=lambda said: given), listed(4))
    assert [item.allow for item in found] == [True, False, False, True]


def test_what_is_said_for_others_is_no_reason_to_refuse() -> None:
    said = {"decision": True, "context": {"id": "1", "reason_admin": {"403": "x"}, "reason": "fine", "rule": "r1"}}
    found = run(Pdp(access__v1__evaluation=lambda _: said), one)
    assert (found.allow, found.reason, found.rule) == (True, "fine", "r1")


@pytest.mark.parametrize("name", ["obligation", "Obligations", "advice", "x-obligations"])
def test_what_could_be_an_obligation_under_another_name_is_one(name: str) -> None:
    said = {"decision": True, "context": {name: [{"type": "redact", "paths": ["/a"]}]}}
    found = run(Pdp(access__v1__evaluation=lambda _: said), one)
    assert found.allow is False
    assert name in found.reason


def test_an_obligation_may_have_the_form_of_the_profile() -> None:
    given = {"id": "7", "type": "redact", "properties": {"paths": ["/iban"]}}
    said = {"decision": True, "context": {"obligations": [given]}}
    found = run(Pdp(access__v1__evaluation=lambda _: said), one)
    assert [(item.type, dict(item.values)) for item in found.obligations] == [("redact", {"paths": ["/iban"]})]


METADATA = ".well-known/authzen-configuration"


def described(pdp: Pdp, **metadata: str) -> None:
    def say(said: Any) -> Any:
        here = f"http://127.0.0.1:{pdp.server.port}"
        return {name: text.replace("HERE", here) for name, text in metadata.items()}

    pdp.paths[f"/{METADATA}"] = say


def test_endpoints_are_read_from_the_metadata_once() -> None:
    pdp = Pdp(pdp__one=yes, pdp__many=even)
    described(
        pdp,
        policy_decision_point="HERE",
        access_evaluation_endpoint="HERE/pdp/one",
        access_evaluations_endpoint="HERE/pdp/many",
    )

    async def ask(engine: Any) -> Any:
        await engine.check()
        assert (await one(engine)).allow
        await engine.check()
        return await listed(2)(engine)

    assert [item.allow for item in run(pdp, ask, authzen=KEYS(discovery=True))] == [True, False]
    assert [path for path, _, _ in pdp.seen] == [f"/{METADATA}", "/pdp/one", "/pdp/many"]


def test_without_an_endpoint_for_several_the_items_are_asked_side_by_side() -> None:
    def say(said: Any) -> Any:
        return {"decision": said["context"]["arguments"]["n"] % 2 == 0}

    pdp = Pdp(pdp__one=say)
    described(pdp, policy_decision_point="HERE", access_evaluation_endpoint="HERE/pdp/one")
    found = run(pdp, listed(40), authzen=KEYS(discovery=True))
    assert [item.allow for item in found] == [n % 2 == 0 for n in range(40)]


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"policy_decision_point": "http://elsewhere.example"}, "metadata_of_another_pdp"),
        ({"policy_decision_point": "HERE/tenant"}, "metadata_of_another_pdp"),
        ({"access_evaluation_endpoint": "http://127.0.0.1:1/access"}, "metadata_without_endpoint"),
        ({"access_evaluation_endpoint": "https://elsewhere.example/access"}, "metadata_without_endpoint"),
        ({"access_evaluation_endpoint": "HERE/access?to=elsewhere"}, "metadata_without_endpoint"),
        ({"access_evaluation_endpoint": "/access"}, "metadata_without_endpoint"),
        ({"access_evaluation_endpoint": "HERE/a b"}, "metadata_without_endpoint"),
    ],
)
def test_metadata_leads_nowhere_else(metadata: dict[str, str], why: str) -> None:
    pdp = Pdp(access=yes)
    described(pdp, **{"policy_decision_point": "HERE", "access_evaluation_endpoint": "HERE/access", **metadata})

    async def ask(engine: Any) -> Decision:
        with pytest.raises(EngineFault, match=why):
            await engine.check()
        return await one(engine)

    found = run(pdp, ask, authzen=KEYS(discovery=True))
    assert (found.allow, found.fault, found.rule) == (False, True, why)
    assert {path for path, _, _ in pdp.seen} == {f"/{METADATA}"}


@pytest.mark.parametrize(
    "context",
    [
        None,
        {},
        {"cerbos.response": {}},
        {"cerbos.response": {"results": []}},
        {"cerbos.response": {"results": [{"actions": {"a": "EFFECT_ALLOW", "b": "EFFECT_DENY"}}]}},
        {"cerbos.response": {"results": [{"actions": {"a": "EFFECT_ALLOW"}, "outputs": [{"error": "oh"}]}]}},
    ],
)
def test_cerboss_yes_without_its_own_account_of_it_is_none(context: Any) -> None:
    """An obligation could be in it."""
    said = {"decision": True, **({} if context is None else {"context": context})}
    assert run(Pdp(access__v1__evaluation=lambda _: said), one, authzen=KEYS(dialect="cerbos")).allow is False
    full = {"cerbos.response": {"results": [{"actions": {"a": "EFFECT_ALLOW"}}]}}
    said = {"decision": True, "context": full}
    assert run(Pdp(access__v1__evaluation=lambda _: said), one, authzen=KEYS(dialect="cerbos")).allow is True


def test_any_http_answer_is_a_sign_of_life_and_none_is_not() -> None:
    async def ask(engine: Any) -> None:
        await engine.check()

    run(Pdp(), ask)
