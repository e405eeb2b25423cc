"""A candidate policy on its road: beside the one in force, for a share of the callers; and a gateway that reports."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from changing import Caller, Changing, changing, tool
from rig import Running, gateway, run, until

from gateway.assembly_policy import close_engine
from gateway.core.bundles import BundleRefused
from gateway.core.sharing import among
from gateway.pdp.report import Reporting
from tests.cli.rig_cli import Ran, Shell
from tests.pdp.asking import request
from tests.pdp.shadowing import NO, YES, Saying, beside
from tests.trust.bundle_rig import KEY, OTHER, files, good, signed
from tests.trust.bundle_rig import packed as bundle_of

OPEN = """\
package tollgate

decision := {"decision": true, "context": {"rule": "open", "reason": "all may"}}
"""
CLOSED = """\
package tollgate

default decision := {"decision": true, "context": {"rule": "open", "reason": "all may"}}

decision := {"decision": false, "context": {"rule": "no_forecast", "reason": "no forecasts"}} if {
    input.resource.id == "weather/forecast"
}
"""
BROKEN = "package tollgate\n\ndecision := input.context.arguments.city / 2\n"
# Never ends within a test, and takes its process's whole attention.
ENDLESS = """\
package tollgate

decision if count([x | some x in numbers.range(1, 100000000); x > 0]) > 0
"""


def bundle(folder: Path, name: str, text: str) -> str:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "policy.rego").write_text(text)
    return str(folder / name)


@contextmanager
def serving(folder: Path, in_force: str = OPEN, **policy: Any) -> Iterator[tuple[Running, Changing]]:
    """`policy` are further keys of the policy section."""
    with changing() as server:
        server.tools = [tool(), tool("warning")]
        sections: dict[str, Any] = {
            "upstreams": {"weather": {"url": server.url, "protocol": "mcp"}},
            "routes": [{"name": "weather", "match": {"path": "/weather"}, "upstream": "weather"}],
            "policy": {"bundle": bundle(folder, "in-force", in_force), **policy},
        }
        with gateway(folder, **sections) as running:
            yield running, server


def shown(running: Running, query: str = "") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {running.admin_token}"}
    found = httpx.get(f"{running.admin_url}/api/v1/{'shadow' + query}", headers=headers, timeout=30)
    assert found.status_code == 200, found.text
    document: dict[str, Any] = found.json()
    return document


def status(running: Running) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {running.admin_token}"}
    found: dict[str, Any] = httpx.get(f"{running.admin_url}/api/v1/status", headers=headers, timeout=30).json()
    return found


def metrics(running: Running) -> dict[str, float]:
    headers = {"authorization": f"Bearer {running.admin_token}"}
    text = httpx.get(f"{running.admin_url}/metrics", headers=headers, timeout=30).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def counted(running: Running, number: int) -> dict[str, int]:
    """What came of so many questions, once all are counted."""
    until(lambda: sum(running.app.comparisons.totals().values()) >= number, 30, "the counting of all questions")
    return dict(running.app.comparisons.totals())


def tollgate(shell: Shell, running: Running, *words: str) -> Ran:
    return shell(*words, "--admin", running.admin_url, "--token-file", str(running.folder / "admin.token"))


def test_a_disagreement_of_the_shadow_is_listed_counted_and_not_obeyed(tmp_path: Path, shell: Shell) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, shadow={"bundle": candidate, "timeout": "20s"}) as (running, server):
        caller = Caller(running)
        assert [caller.call("forecast"), caller.call("warning"), caller.call("forecast")] == ["ok"] * 3
        assert server.called == ["forecast", "warning", "forecast"]
        assert counted(running, 3) == {"same": 1, "different": 2, "fault": 0, "dropped": 0, "skipped": 0}
        found = shown(running)
        (item,) = found["differences"]
        assert (item["subject"], item["action"], item["count"]) == ("agent:idp/planner", "mcp.tools/call", 2)
        assert item["resource"] == {"type": "tool", "id": "weather/forecast"}
        assert (item["enforced"]["rule"], item["shadow"]["rule"]) == ("open", "no_forecast")
        assert item["kinds"] == ["allow_to_deny", "rule", "reason"]
        assert item["exchange"] == running.records()[-1]["exchange"]
        assert found["shadow"]["revision"] == item["shadow"]["revision"] != item["enforced"]["revision"]
        assert "Oslo" not in str(found), "no argument is kept"
        decisions = [record["decision"] for record in running.records() if record["kind"] == "intent"]
        assert {(each["effect"], each["rule"], each["mode"]) for each in decisions} == {("allow", "open", "enforce")}
        told = tollgate(shell, running, "shadow", "list")
        assert told.code == 0, told.err
        assert "allow (open)" in told.out
        assert "deny (no_forecast)" in told.out
        asked = ("shadow", "list", "--kind", "deny_to_allow", "--json")
        assert tollgate(shell, running, *asked).json["differences"] == []
        counts = metrics(running)
        assert counts['tollgate_shadow_decisions_total{outcome="different"}'] == 2
        assert counts['tollgate_shadow_differences_total{kind="allow_to_deny"}'] == 2
        assert status(running)["policy"]["shadow"]["different"] == 2


def test_a_difference_shows_its_input_where_records_keep_it(tmp_path: Path) -> None:
    shadow = {"bundle": bundle(tmp_path, "candidate", CLOSED), "timeout": "20s"}
    with serving(tmp_path, shadow=shadow) as (running, _):
        running.reload(routes=[{**running.settings["routes"][0], "capture": "full"}])
        Caller(running).call("forecast")
        counted(running, 1)
        (item,) = shown(running)["differences"]
        assert item["input"] == {"level": "full", "input": {"resource": {"id": "weather/forecast"}, "context": {}}}


def test_the_items_of_a_list_are_compared_and_all_are_shown(tmp_path: Path) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, shadow={"bundle": candidate, "timeout": "20s"}) as (running, _):
        assert Caller(running).names() == ["forecast", "warning"]
        counted(running, 3)
        (item,) = shown(running)["differences"]
        assert (item["listing"], item["resource"]["id"]) == (True, "weather/forecast")


def test_what_waits_for_a_shadow_that_was_closed_is_dropped() -> None:
    async def story() -> None:
        second = Saying(NO)
        shadow, found = beside(Saying(YES), second)
        shadow.decide(request())
        await close_engine(Reporting(shadow))
        await found.drain()
        assert (second.asked, found.totals()["dropped"]) == ([], 1)

    run(story())


def children() -> set[str]:
    """The processes in which this one has policies evaluated."""
    found = set()
    for place in Path("/proc/self/task").glob("*/children"):
        for number in place.read_text().split():
            command = Path("/proc", number, "cmdline").read_bytes()
            found |= {number} if b"pdp/child.py" in command else set()
    return found


def test_a_candidate_beside_is_evaluated_in_a_process_of_its_own_which_ends_with_it(tmp_path: Path) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, shadow={"bundle": candidate, "timeout": "20s"}) as (running, _):
        until(lambda: len(children()) == 1, what="the start of the candidate's process, before it is first asked")
        Caller(running).call("forecast")
        counted(running, 1)
        assert len(children()) == 1
        running.reload(policy={"bundle": running.settings["policy"]["bundle"]})
        Caller(running).call("forecast")
        until(lambda: not children(), what="the end of the candidate's process")


@pytest.mark.parametrize("text", [BROKEN, ENDLESS], ids=["raises", "hangs"])
def test_a_shadow_that_fails_changes_no_answer(tmp_path: Path, text: str) -> None:
    """The endless one would hold up every exchange for seconds if it were evaluated in this process."""
    candidate = bundle(tmp_path, "candidate", text)
    with serving(tmp_path, shadow={"bundle": candidate, "timeout": "50ms", "queue": 2}) as (running, _):
        caller = Caller(running)
        assert [caller.call("forecast") for _ in range(10)] == ["ok"] * 10
        found = counted(running, 10)
        assert (found["same"], found["different"]) == (0, 0)
        assert found["fault"] >= 1
        assert shown(running)["shadow"]["last_fault"] != ""
        assert status(running)["ready"] is True


def test_a_reload_changes_or_ends_the_shadow_and_keeps_what_it_said(tmp_path: Path) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, shadow={"bundle": candidate, "timeout": "20s"}) as (running, _):
        caller, in_force = Caller(running), running.settings["policy"]["bundle"]
        caller.call("forecast")
        counted(running, 1)
        before = running.app.snapshot
        second = bundle(tmp_path, "second", CLOSED.replace("no_forecast", "still_none"))
        running.reload(policy={"bundle": in_force, "shadow": {"bundle": second, "timeout": "20s"}})
        assert running.app.snapshot.revision != before.revision
        del before
        caller.call("forecast")
        counted(running, 2)
        assert [item["shadow"]["rule"] for item in shown(running)["differences"]] == ["still_none", "no_forecast"]
        bundle(tmp_path, "second", "package tollgate\n\ndecision := nonsense(\n")
        revision = running.app.snapshot.revision
        with pytest.raises(Exception, match=r"policy\.rego"):
            running.reload(policy={"bundle": in_force, "shadow": {"bundle": second}})
        assert running.app.snapshot.revision == revision
        running.reload(policy={"bundle": in_force})
        caller.call("forecast")
        running.records()
        assert sum(running.app.comparisons.totals().values()) == 2, "nobody is asked on the side any more"
        found = shown(running)
        assert (found["shadow"], len(found["differences"])) == (None, 2)
        assert running.app.snapshot.engine.name == "embedded"
        assert type(running.app.snapshot.engine).__name__ == "EmbeddedEngine", "what is off costs nothing"


def test_a_candidate_that_changed_on_disk_is_another_revision_of_all(tmp_path: Path) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, rollout={"percent": "50%", "bundle": candidate}) as (running, _):
        before = running.app.snapshot.revision
        running.reload()
        assert running.app.snapshot.revision == before
        bundle(tmp_path, "candidate", CLOSED.replace("no forecasts", "none at all"))
        running.reload()
        assert running.app.snapshot.revision != before


def test_a_candidate_decides_for_a_share_of_the_callers_and_the_record_says_whose_decision_it_is(
    tmp_path: Path, shell: Shell
) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, rollout={"percent": "50%", "bundle": candidate, "salt": "spring"}) as (running, _):
        names = [f"caller{number}" for number in range(12)]
        chosen = {name for name in names if among(f"agent:idp/{name}", "spring", 0.5)}
        assert 0 < len(chosen) < len(names)
        callers = {name: Caller(running, running.issuer.token(name)) for name in names}
        for _ in range(2):
            for name, caller in callers.items():
                assert caller.call("forecast") == ("denied" if name in chosen else "ok"), name
                assert caller.names() == (["warning"] if name in chosen else ["forecast", "warning"])
        found = status(running)["policy"]
        for record in running.records():
            if "decision" in record and record["action"] == "mcp.tools/call":
                name = record["subject"]["id"].rpartition("/")[2]
                revision = found["rollout"]["revision"] if name in chosen else found["revision"]
                assert record["decision"]["revision"] == revision
        assert found["rollout"]["share"] == 0.5
        told_of = running.records()[0]["activation"]
        assert told_of["policy"] == found["revision"]
        assert told_of["rollout"] == {"policy": found["rollout"]["revision"], "parts_per_million": 500_000}
        infos = {name for name in metrics(running) if name.startswith("tollgate_bundle_info")}
        revisions = (found["revision"], found["rollout"]["revision"])
        assert infos == {f'tollgate_bundle_info{{revision="{revision}"}}' for revision in revisions}
        refused = next(record for record in running.records() if record["kind"] == "refusal")
        told = tollgate(shell, running, "explain", refused["exchange"])
        assert found["rollout"]["revision"] in told.out


def test_a_signed_bundle_can_be_the_candidate_and_one_of_a_stranger_cannot(tmp_path: Path) -> None:
    (tmp_path / "mine.jwks.json").write_text(json.dumps({"keys": [KEY.jwk()]}))
    packed = tmp_path / "candidate.tar.gz"
    packed.write_bytes(good())  # lets in whom its data call a friend: here nobody
    trust = {"signers": [{"name": "mine", "jwks": {"file": str(tmp_path / "mine.jwks.json")}}]}
    with serving(tmp_path) as (running, _):
        policy = {
            **running.settings["policy"],
            "signers": ["mine"],
            "rollout": {"percent": "100%", "bundle": str(packed)},
        }
        running.reload(trust={**running.settings["trust"], **trust}, policy=policy)
        assert Caller(running).call("forecast") == "denied"
        revision = running.app.snapshot.revision
        packed.write_bytes(packed_by(OTHER))
        with pytest.raises(BundleRefused):
            running.reload()
        assert running.app.snapshot.revision == revision
        assert Caller(running).call("forecast") == "denied"


def packed_by(key: Any) -> bytes:
    return bundle_of(signed(files(), key))


def test_a_rollout_that_grows_takes_nobodys_candidate_away(tmp_path: Path) -> None:
    candidate = bundle(tmp_path, "candidate", CLOSED)
    with serving(tmp_path, rollout={"percent": "30%", "bundle": candidate}) as (running, _):
        callers = {name: Caller(running, running.issuer.token(name)) for name in (f"c{n}" for n in range(12))}
        before = {name for name, caller in callers.items() if caller.call("forecast") == "denied"}
        in_force = running.settings["policy"]["bundle"]
        running.reload(policy={"bundle": in_force, "rollout": {"percent": "60%", "bundle": candidate}})
        after = {name for name, caller in callers.items() if caller.call("forecast") == "denied"}
        assert 0 < len(before) < len(after)
        assert before < after


def test_report_mode_lets_pass_what_policy_denies_and_records_that_it_would_not(
    tmp_path: Path, shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tollgate"), serving(tmp_path, CLOSED, mode="report") as (running, server):
        assert "policy.mode is report" in caplog.text
        caller = Caller(running)
        assert [caller.call("forecast"), caller.call("warning")] == ["ok", "ok"]
        assert server.called == ["forecast", "warning"]
        kinds = ("intent", "outcome")
        decided = [record["decision"] for record in running.records() if record["kind"] in kinds]
        wanted = [("deny", "no_forecast", "report")] * 2 + [("allow", "open", "report")] * 2
        assert [(each["effect"], each["rule"], each["mode"]) for each in decided] == wanted
        assert caller.names() == ["forecast", "warning"], "a list is not filtered"
        listed = running.last("outcome")
        assert (listed["filtered"], listed["would_deny"]) == ({"shown": 2, "hidden": 0}, 1)
        assert metrics(running)['tollgate_would_deny_total{route="weather"}'] == 2
        assert status(running)["policy"]["mode"] == "report"
        exchange = next(record["exchange"] for record in running.records() if record["kind"] == "outcome")
        told = tollgate(shell, running, "explain", exchange).out
        assert "would have denied" in told
        explained = tollgate(shell, running, "explain", listed["exchange"], "--json").json
        assert (explained["would_deny"], explained["filtered"]["hidden"]) == (1, 0)


def test_report_mode_lets_no_fault_of_the_engine_pass(tmp_path: Path) -> None:
    with serving(tmp_path, BROKEN, mode="report") as (running, server):
        assert Caller(running).call("forecast") == "policy_unavailable"
        assert server.called == []
        assert running.last("refusal")["decision"]["mode"] == "report"


def test_report_mode_ends_with_a_reload(tmp_path: Path) -> None:
    with serving(tmp_path, CLOSED, mode="report") as (running, _):
        caller, in_force = Caller(running), running.settings["policy"]["bundle"]
        assert caller.call("forecast") == "ok"
        running.reload(policy={"bundle": in_force})
        assert caller.call("forecast") == "denied"
        assert running.last("refusal")["decision"]["mode"] == "enforce"
        modes = [record["activation"].get("mode") for record in running.records() if record["kind"] == "activation"]
        assert modes == ["report", None]


def test_all_three_together(tmp_path: Path) -> None:
    """Report over shadow over roll-out: what is compared is what decided, and what is obeyed is nothing."""
    candidate = bundle(tmp_path, "candidate", CLOSED)
    sections = {
        "mode": "report",
        "rollout": {"percent": "100%", "bundle": candidate},
        "shadow": {"bundle": bundle(tmp_path, "third", OPEN), "timeout": "20s"},
    }
    with serving(tmp_path, **sections) as (running, _):
        assert Caller(running).call("forecast") == "ok"
        counted(running, 1)
        (item,) = shown(running)["differences"]
        assert item["kinds"] == ["deny_to_allow", "rule", "reason"]
        assert running.last("outcome")["decision"]["rule"] == "no_forecast"
