"""OPA itself behind the engine: bundles and revisions, a token, undefined, an error in the policy, a slow policy."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gateway import config
from gateway.assembly_policy import close_engine, make_engine
from gateway.core.exchange import Decision
from gateway.core.reasons import EngineFault
from tests.pdp.asking import request, run, settled
from tests.pdp.engine_servers import OpaServer, opa_server

POLICY = """\
package tollgate

decision := true if input.context.arguments.n == 1

later := count([x | some a in numbers.range(1, 20000); some b in numbers.range(1, 20000); x := a * b])

wrong := {"decision": x} if some x in [true, false]

conflict := 1 if true

conflict := 2 if true
"""


def bundle(path: Path, revision: str, root: str, **files: str) -> str:
    manifest = json.dumps({"revision": revision, "roots": [root], "rego_version": 1})
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {".manifest": manifest, **{f"{name}.rego": text for name, text in files.items()}}.items():
            member = tarfile.TarInfo(f"/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return str(path)


def policy(server: OpaServer, **more: Any) -> config.Policy:
    return config.Policy(**{"engine": "opa", "url": server.url, "timeout": 10.0, **more})


def asked(settings: config.Policy, n: int = 1) -> Decision:
    async def story() -> Decision:
        engine = make_engine(settings)
        try:
            found: Decision = await settled(engine.decide(request({"n": n})))
            return found
        finally:
            await close_engine(engine)

    found: Decision = run(story())
    return found


def checked(settings: config.Policy) -> None:
    async def story() -> None:
        engine = make_engine(settings)
        try:
            await engine.check()
        finally:
            await close_engine(engine)

    run(story())


def test_the_revision_of_its_bundle_is_the_decisions(tmp_path: Path) -> None:
    with opa_server(tmp_path, "--bundle", bundle(tmp_path / "a.tar.gz", "r-17", "", a=POLICY)) as server:
        found = asked(policy(server))
        assert (found.allow, found.revision) == (True, "r-17")


def test_of_several_bundles_each_is_named(tmp_path: Path) -> None:
    one = bundle(tmp_path / "one.tar.gz", "r1", "tollgate", a=POLICY)
    two = bundle(tmp_path / "two.tar.gz", "r2", "other", b="package other\n\nx := 1\n")
    with opa_server(tmp_path, "--bundle", one, "--bundle", two) as server:
        assert asked(policy(server)).revision == f"{one}=r1,{two}=r2"[:200]


def test_without_bundles_the_revision_is_what_was_asked(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(POLICY)
    with opa_server(tmp_path, str(tmp_path / "a.rego")) as server:
        assert asked(policy(server)).revision == f"{server.url} tollgate/decision"


@pytest.mark.parametrize(
    ("query", "n", "rule", "fault"),
    [
        ("tollgate/decision", 2, "undefined", False),
        ("tollgate/nothing", 1, "undefined", False),
        ("nowhere/at/all", 1, "undefined", False),
        ("tollgate", 1, "status 500", True),  # the whole package, in which a rule has two values
        ("tollgate/conflict", 1, "status 500", True),
        ("tollgate/wrong", 1, "status 500", True),
    ],
)
def test_what_is_no_decision_is_a_deny(tmp_path: Path, query: str, n: int, rule: str, fault: bool) -> None:
    (tmp_path / "a.rego").write_text(POLICY)
    with opa_server(tmp_path, str(tmp_path / "a.rego")) as server:
        found = asked(policy(server, query=query), n)
        assert (found.allow, found.rule, found.fault) == (False, rule, fault)


def test_a_policy_that_takes_long_is_a_deny_at_the_deadline(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(POLICY)
    with opa_server(tmp_path, str(tmp_path / "a.rego")) as server:
        found = asked(policy(server, query="tollgate/later", timeout=0.2))
        assert (found.allow, found.rule, found.fault) == (False, "late", True)
        assert found.ms < 1000


def test_a_token_is_shown_and_a_wrong_one_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(POLICY)
    (tmp_path / "authz.rego").write_text(
        'package system.authz\n\ndefault allow := false\n\nallow if input.identity == "s3cret"\n\n'
        'allow if { input.path == ["health"]; count(input.params) == 0 }\n'  # the test's own look whether it is up
    )
    files = [str(tmp_path / "a.rego"), str(tmp_path / "authz.rego")]
    with opa_server(tmp_path, "--authentication=token", "--authorization=basic", *files) as server:
        right = config.Secret("test", None, "s3cret")
        assert asked(policy(server, token=right)).allow is True
        checked(policy(server, token=right))
        for token in (None, config.Secret("test", None, "another")):
            found = asked(policy(server, token=token))
            assert (found.allow, found.fault) == (False, True)
            assert found.rule in ("status 401", "status 403")
            with pytest.raises(EngineFault):
                checked(policy(server, token=token))


def test_a_socket_file_that_is_not_there_is_a_fault_that_says_so(tmp_path: Path) -> None:
    found = asked(config.Policy(engine="opa", url=f"unix:{tmp_path}/no.sock"[:100], timeout=1.0))
    assert (found.allow, found.fault) == (False, True)
    assert found.rule.startswith("unreachable: ")
