"""A thousand policies in a row under traffic: every decision is of one of them, whole, and a bad one is never asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from rig import Running, gateway

from gateway.core.bundles import BundleRefused, LabFinding
from gateway.core.canonical import Json
from gateway.pdp.apart import SeparateLab
from tests.flows.canned import canned, say
from tests.flows.pushing import bundle_settings, post, push
from tests.flows.test_faults import settings
from tests.trust.bundle_rig import files, good, manifest, packed, signed

SWAPS = 1000
# The rule's name and the data's number come from different files: they tell a policy that is mixed of two.
POLICY = """package tollgate

import rego.v1

decision := {{"decision": true, "context": {{"rule": sprintf("{number}-%d", [data.number])}}}}
"""


class HereLab:
    """Compiles as the real one and runs no tests: a thousand processes would be what is measured."""

    def examine(
        self, modules: Mapping[str, str], tests: Mapping[str, str], data: Mapping[str, Json], *, run: bool
    ) -> LabFinding:
        return SeparateLab().examine(modules, tests, data, run=False)


def numbered(number: int) -> bytes:
    content = files(
        number,
        manifest=manifest(number, revision=f"r{number}"),
        policy=POLICY.format(number=number).encode(),
        data=json.dumps({"number": number}).encode(),
        tests=None,
    )
    return packed(signed(content))


def swapped(tmp_path: Path, count: int) -> None:
    policy = bundle_settings(tmp_path)
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url) | policy) as running:
        running.app.policies.verifier._lab = HereLab()
        over = threading.Event()
        callers = [threading.Thread(target=calling, args=(running, over))]
        assert push(running, numbered(1), activate=True).status_code == 200
        for caller in callers:
            caller.start()
        try:
            asyncio.run_coroutine_threadsafe(swap_all(running, count), running.loop).result(120)
        finally:
            over.set()
            for caller in callers:
                caller.join(20)
        active = {record["activation"]["policy"]: record["activation"]["bundle"]["number"]
                  for record in running.records() if "bundle" in record.get("activation", {})
                  and record["activation"]["effect"] == "accepted"}  # fmt: skip
        decided = [record["decision"] for record in running.records() if record["kind"] == "intent"]
    assert len(active) == count
    assert len(decided) > 100
    for decision in decided:
        ruled, data = decision["rule"].split("-")
        assert ruled == data == str(active[decision["revision"]])
    assert len({decision["revision"] for decision in decided}) > 20


async def swap_all(running: Running, count: int) -> None:
    """On the gateway's own loop, as the admin plane does it; every tenth is a bad one."""
    desk = running.app.desk
    for number in range(2, count + 1):
        active = (await asyncio.to_thread(desk.store.state, "tollgate")).active
        kept = await desk.push("tollgate", await asyncio.to_thread(numbered, number), "admin")
        if number % 10 == 0:
            before = running.app.snapshot
            with pytest.raises(BundleRefused):
                await desk.push("tollgate", packed(files(number + 1)), "admin")
            assert running.app.snapshot is before
        await desk.activate("tollgate", kept.digest, active, "admin")


def calling(running: Running, over: threading.Event) -> None:
    headers = {"authorization": f"Bearer {running.issuer.token()}"}
    with httpx2.Client(headers=headers) as client:
        while not over.is_set():
            assert client.get(f"{running.url}/files/x").status_code == 200


@pytest.mark.slow
def test_a_thousand_swaps_under_traffic_mix_no_decision(tmp_path: Path) -> None:
    swapped(tmp_path, SWAPS)


def test_swaps_under_traffic_mix_no_decision(tmp_path: Path) -> None:
    swapped(tmp_path, 60)


def test_an_activated_bundle_is_in_force_again_after_a_restart_before_the_configured_folder(tmp_path: Path) -> None:
    policy = bundle_settings(tmp_path)
    with gateway(tmp_path, **policy) as running:
        configured = running.app.snapshot.engine.revision
        assert push(running, good(1), activate=True).status_code == 200
        pushed = running.app.snapshot.engine.revision
        assert pushed != configured
        running.reload()
        assert running.app.snapshot.engine.revision == pushed
    with gateway(tmp_path, **policy) as running:
        assert running.app.snapshot.engine.revision == pushed
        assert post(running, "rollback", {}).json()["state"]["active"] == "configured"
        assert running.app.snapshot.engine.revision == configured
    with gateway(tmp_path, **policy) as running:
        assert running.app.snapshot.engine.revision == configured


def test_an_activated_bundle_that_nobody_vouches_for_any_more_refuses_the_start(tmp_path: Path) -> None:
    policy = bundle_settings(tmp_path)
    with gateway(tmp_path, **policy) as running:
        assert push(running, good(1), activate=True).status_code == 200
    (tmp_path / "authors.jwks.json").write_text('{"keys": []}')
    with pytest.raises(BundleRefused) as refused, gateway(tmp_path, **policy):
        pass
    assert refused.value.rule == 5


def test_a_reload_that_takes_the_signer_away_is_refused_and_the_bundle_stays(tmp_path: Path) -> None:
    policy = bundle_settings(tmp_path)
    with gateway(tmp_path, **policy) as running:
        assert push(running, good(1), activate=True).status_code == 200
        before = running.app.snapshot
        with pytest.raises(BundleRefused):
            running.reload(policy=policy["policy"] | {"scope": "production"})
        assert running.app.snapshot is before
        running.settings["policy"] = policy["policy"]
        running.reload()
        assert running.app.snapshot.engine.revision == before.engine.revision


def test_a_tarball_that_the_configuration_names_is_verified_and_never_goes_back(tmp_path: Path) -> None:
    file = tmp_path / "policy.tar.gz"
    file.write_bytes(good(5))
    policy = bundle_settings(tmp_path, bundle=str(file))
    with gateway(tmp_path, **policy) as running:
        first = running.app.snapshot.engine.revision
        file.write_bytes(good(6, revision="r6"))
        running.reload()
        assert running.app.snapshot.engine.revision == first  # the same policy under another number
        file.write_bytes(good(5))
        with pytest.raises(BundleRefused) as refused:
            running.reload()
        assert refused.value.rule == 12
        assert [item.number for item in running.app.bundles.kept("tollgate")] == [6, 5]
    with pytest.raises(BundleRefused), gateway(tmp_path, **policy):
        pass
    file.write_bytes(good(6, revision="r6"))
    with gateway(tmp_path, **policy) as running:
        assert running.app.snapshot.engine.revision == first


def test_two_administrators_cannot_activate_over_each_other(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        first = push(running, good(1), activate=True)
        tag = first.headers["etag"]
        second, third = (push(running, good(number)).json()["pushed"]["digest"] for number in (2, 3))
        assert post(running, "activate", {"digest": second}, tag=tag).status_code == 200
        answered = post(running, "activate", {"digest": third}, tag=tag)
        assert answered.status_code == 412
        assert second in answered.json()["detail"]
        headers = {"authorization": f"Bearer {running.admin_token}"}
        url = f"{running.admin_url}/api/v1/bundles/tollgate/activate"
        assert httpx2.post(url, json={"digest": third}, headers=headers).status_code == 428


def test_an_activation_is_a_record_with_who_what_and_what_it_replaced_by(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        pushed = push(running, good(1), activate=True).json()
        records = running.records()
        push_record = next(record for record in records if record.get("action") == "bundle.push")
        assert push_record["bundle"]["number"] == 1
        assert push_record["subject"] == {"id": "admin", "type": "admin"}
        found = records[-1]["activation"]
        assert found["bundle"]["digest"] == pushed["state"]["active"]
        assert found["policy"] == running.app.snapshot.engine.revision
        assert found["revision"] == running.app.snapshot.revision
        assert found["effect"] == "accepted"


def test_a_caller_sees_the_new_policy_as_soon_as_the_activation_is_answered(tmp_path: Path) -> None:
    policy = bundle_settings(tmp_path)
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url) | policy) as running:
        for number in (1, 2, 3):
            assert push(running, numbered(number), activate=True).status_code == 200
            token = f"authorization: Bearer {running.issuer.token()}"
            assert say(running.app.port, "GET /files/x", token).status == 200
            assert running.last("intent")["decision"]["rule"] == f"{number}-{number}"
