"""Bundles: what is built passes, what is changed does not, and every rule says its number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.bundles import BundleRefused, LabFinding, Terms
from gateway.core.canonical import digest
from gateway.core.reasons import Malformed
from gateway.pdp.apart import SeparateLab
from gateway.trust.bundle import Verifier, read_unverified
from gateway.trust.bundle_build import Plan, build, pack, sign
from gateway.trust.bundle_hash import file_hash
from gateway.trust.bundle_tar import unpack
from tests.trust.bundle_rig import KEY, NOW, POLICY, TESTS, files, good, manifest, packed, rules, signed, verified

FOREVER = """package tollgate_test

import rego.v1

numbers_up := numbers.range(1, 9000)

test_x if { some i in numbers_up; some j in numbers_up; some k in numbers_up; i * j * k < 0 }
"""
FAILING = TESTS.replace('as ["a"]', 'as ["b"]')
ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan({"policy.rego": POLICY, "policy_test.rego": TESTS}, {"friends": ["a"]}, "7", None)

CASES: list[tuple[str, Callable[[], bytes], int]] = [
    ("a patch", lambda: packed(signed(files() | {"patch.json": b"{}"})), 9),
    ("a wasm module", lambda: packed(signed(files() | {"policy.wasm": b"\0asm"})), 9),
    ("YAML", lambda: packed(signed(files() | {"data.yaml": b"a: yes"})), 9),
    ("no manifest", lambda: packed(signed(files(manifest=None))), 10),
    ("a manifest that asks for more", lambda: good(delta=True), 10),
    ("no revision", lambda: good(revision=""), 10),
    ("a revision that is not plain", lambda: good(revision="7\u202e"), 10),
    ("an older Rego", lambda: good(rego_version=0), 10),
    ("an older Rego for one file", lambda: good(file_rego_versions={"/policy.rego": 0}), 10),
    ("wasm to be asked", lambda: good(wasm=[{"entrypoint": "x", "module": "y"}]), 10),
    ("roots of no kind", lambda: good(roots="tollgate"), 10),
    ("roots that overlap", lambda: good(roots=["tollgate", "tollgate/x", "friends", "tollgate_test"]), 11),
    ("a package outside of its roots", lambda: good(roots=["friends", "tollgate_test"]), 11),
    ("data outside of its roots", lambda: good(roots=["tollgate", "tollgate_test"]), 11),
    ("data that begins like a root", lambda: good(roots=["tollgate", "tollgate_test", "friend"]), 11),
    ("data that is a list", lambda: packed(signed(files(data=b'["a"]'))), 14),
    ("a number beyond all", lambda: packed(signed(files(data=b'{"friends":10000000000000000000000}'))), 14),
    ("one place twice", lambda: packed(signed(files() | {"friends/data.json": b'{"b": 1}'})), 14),
    ("a policy that is not UTF-8", lambda: packed(signed(files(policy=b"package tollgate\n# \xff"))), 14),
    ("no policy", lambda: packed(signed(files(policy=None))), 15),
    ("a policy that does not compile", lambda: packed(signed(files(policy=POLICY.encode() + b"x if {"))), 15),
    ("a policy that nobody asks", lambda: packed(signed(files(policy=b"package other\n\nx := 1\n"))), 15),
    ("a builtin that is not here", lambda: packed(signed(files(policy=POLICY.encode() + b"x := http.send({})"))), 15),
    ("a test that fails", lambda: packed(signed(files(tests=FAILING.encode()))), 16),
    ("a test that cannot be read", lambda: packed(signed(files(tests=b"package tollgate_test\n\ntest_x if {"))), 16),
]


@pytest.mark.parametrize(("make", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bundle_that_says_something_wrong_is_refused_by_its_rule(make: Callable[[], bytes], rule: int) -> None:
    with pytest.raises(BundleRefused) as refused:
        verified(make())
    assert refused.value.rule in ((15, 16) if rule == 16 else (rule,)), refused.value
    assert f"rule {refused.value.rule}: " in str(refused.value)


def test_a_good_bundle_is_read_as_it_is() -> None:
    tarball = good(7, roots=["tollgate", "friends", "/tollgate_test/"])
    found = verified(tarball)
    assert (found.revision, found.number, found.signer, found.kid) == ("r7", 7, "mine", "mine")
    assert found.digest == digest(tarball)
    assert found.roots == ("tollgate", "friends", "tollgate_test")
    assert found.modules == {"policy.rego": POLICY}
    assert found.tests == {"policy_test.rego": TESTS}
    assert found.data == {"friends": ["a"]}


def test_roots_must_be_among_those_that_the_configuration_allows() -> None:
    tarball = good(7, roots=["tollgate", "tollgate_test", "friends"])
    assert verified(tarball, None, rules(roots=("tollgate", "tollgate_test", "friends"))).number == 7
    with pytest.raises(BundleRefused) as refused:
        verified(tarball, None, rules(roots=("tollgate", "friends/acme")))
    assert refused.value.rule == 11


def test_what_is_built_is_the_same_bytes_each_time_and_passes_every_rule() -> None:
    made = sign(build(PLAN), KEY)
    assert made == sign(build(PLAN), KEY)
    assert verified(made).number == 7
    code = "import sys; from tests.trust.test_bundle import *; sys.stdout.write(digest(sign(build(PLAN), KEY)))"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    assert other.stdout == digest(made)


def test_a_signature_is_put_in_place_of_the_one_there_is() -> None:
    made = sign(sign(build(PLAN), KEY), KEY, scope="production")
    assert verified(made, None, rules(scope="production")).scope == "production"
    assert sorted(unpack(made)) == [".manifest", ".signatures.json", "data.json", "policy.rego", "policy_test.rego"]


def test_what_cannot_be_taken_is_not_built() -> None:
    for plan, rule in (
        (Plan(PLAN.modules, {}, "v1", None), 12),
        (Plan(PLAN.modules, {}, "", 1), 10),
        (Plan(PLAN.modules, {}, "1", 1, expires="tomorrow"), 10),
        (Plan(PLAN.modules, {}, "1", 1, roots=("a", "a/b")), 11),
        (Plan(PLAN.modules, {"x": 1e400}, "1", 1), 14),
    ):
        with pytest.raises(BundleRefused) as refused:
            build(plan)
        assert refused.value.rule == rule


def test_a_hash_is_of_what_a_document_says_with_its_numbers_as_they_are_written() -> None:
    """The wanted values were made by OPA 1.4.2's `opa sign` over these very files."""
    document = (
        b'{"f":1.0e2,"n":-0,"s":"\\u003c\\u0026\\u003e\\u2028\\b\\f \xc3\xa9 \x7f","sub":{"k":[1,2.0]},"x":1.50}\n'
    )
    assert file_hash("data.json", document) == "c0e5223497b2647aeadc0ac86e247f51acb83e54b002792ee1a65f27689024f7"
    said = b'{"revision":"7","roots":["tollgate","x","s","sub","f","n","tollgate_test"],"rego_version":1,'
    said += b'"metadata":{"tollgate":{"number":7}}}\n'
    assert file_hash(".manifest", said) == "936df1e862d5951ea1e39ef1a33c3a4976231a5ce164eff3973a714d4a26a03b"
    same = '{ "x" : 1.50, "sub":{"k":[1,2.0]}, "s":"<&>\u2028\\b\\f é \\u007f", "n":-0, "f":1.0e2 }'.encode()
    assert file_hash("data.json", same) == file_hash("data.json", document)
    assert file_hash("data.json", same) != file_hash("data.json", same.replace(b"1.50", b"1.5"))
    assert file_hash("x.rego", b"{ }") != file_hash("x.rego", b"{}")
    assert file_hash("a/data.json", b"{ }") == file_hash("a/data.json", b"{}")


@pytest.mark.parametrize("document", [b'{"a":1,"a":1}', b'"\\ud800"', b"\xff", b"NaN", b"{", b"[" * 100_000])
def test_a_document_that_readers_disagree_on_has_no_hash(document: bytes) -> None:
    with pytest.raises(Malformed):
        file_hash("data.json", document)


def test_tests_run_in_a_process_that_ends_with_its_time() -> None:
    """The policy's own test would take minutes here; the gateway's process is not held up by it."""
    found = SeparateLab(1.0).examine({"policy.rego": POLICY}, {"policy_test.rego": FOREVER}, {}, run=True)
    assert len(found.failed) == 1
    assert "longer than 1 s" in found.failed[0]


def test_tests_run_in_a_process_that_ends_with_its_memory() -> None:
    greedy = FOREVER.replace("9000", "2000000000")
    found = SeparateLab(60.0).examine({"policy.rego": POLICY}, {"policy_test.rego": greedy}, {}, run=True)
    assert len(found.failed) == 1
    assert "memory" in found.failed[0]


def test_a_bundle_taken_up_again_is_asked_for_everything_but_its_time_and_tests() -> None:
    asked: list[bool] = []

    class Lab:
        def examine(self, modules: object, tests: object, data: object, *, run: bool) -> LabFinding:
            asked.append(run)
            return LabFinding("")

    past = good(7, metadata={"tollgate": {"number": 7, "expires": "2020-01-01T00:00:00Z"}})
    verifier = Verifier(rules, Lab(), lambda: NOW)
    assert verifier.verify(past, Terms(tests=False)).number == 7
    assert asked == [False]
    with pytest.raises(BundleRefused):
        Verifier(lambda: rules(scope="other"), Lab(), lambda: NOW).verify(past, Terms(tests=False))


def test_a_bundle_for_questions_needs_no_signature_and_says_nothing_of_one() -> None:
    found = read_unverified(packed(files()))
    assert (found.signer, found.kid, found.number) == ("", "", 7)
    with pytest.raises(BundleRefused):
        read_unverified(packed(files() | {"patch.json": b"{}"}))


def test_names_that_do_not_fit_are_not_packed() -> None:
    with pytest.raises(BundleRefused) as refused:
        pack({"x" * 300: b""})
    assert refused.value.rule == 3


def test_the_manifest_may_carry_what_is_not_ours() -> None:
    own = {"tollgate": {"number": 9}, "ci": {"job": 12}}
    assert verified(good(9, metadata=own)).number == 9
    assert json.loads(manifest(9, metadata=own))["metadata"]["ci"] == {"job": 12}
