"""Recorded decisions are read back with exactly what is known of their inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.core.access import access_request
from gateway.core.exchange import Call
from gateway.core.whatif import EVERYTHING
from gateway.log.decisions import DecisionReader
from gateway.log.verify import verify
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.sources import source_of
from tests.recorded import BEGIN, VKEY, decided, write_log

READERS = source_of({"p.rego": 'package tollgate\n\ndecision := "reader" in input.subject.properties.roles\n'})


def at(document: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        if not isinstance(document, dict) or name not in document:
            return None
        document = document[name]
    return document


def test_what_is_said_to_be_known_is_what_policy_saw(tmp_path: Path) -> None:
    for level in ("none", "shape", "full"):
        made = list(decided(EmbeddedEngine(READERS), 60, level))
        questions = {}
        for exchange in made:
            assert isinstance(exchange.asked, Call)
            questions[exchange.id] = json.loads(json.dumps(access_request(exchange, exchange.asked).document))
        found = list(DecisionReader(write_log(tmp_path / level, iter(made))).read())
        assert [item.exchange for item in found] == [exchange.id for exchange in made]
        for item in found:
            asked = questions[item.exchange]
            if level == "full":
                assert item.document == asked
            if level != "none":
                assert item.known == EVERYTHING
            for place in item.known:
                if not item.withheld:
                    assert at(item.document, place) == at(asked, place), place
        timed = sum(("context", "time") in item.known for item in found)
        assert timed == (60 if level == "none" else 0)


def test_a_window_of_time_is_kept_to(tmp_path: Path) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(READERS), 100, "none"))  # five in each second from BEGIN on
    assert BEGIN == 1_795_348_800
    reader = DecisionReader(log, "2026-11-22T12:00:02.000000Z", "2026-11-22T12:00:04.000000Z")
    assert len(list(reader.read())) == 10


def test_a_capture_too_large_for_an_entry_is_read_from_its_blob(tmp_path: Path) -> None:
    made = decided(EmbeddedEngine(READERS), 6, "full", arguments=lambda n: {"text": f"{n} " * 40_000})
    log = write_log(tmp_path, made)
    blobs = sorted((log / "blob").iterdir())
    assert len(blobs) == 6
    assert verify(log, [VKEY]).ok
    found = list(DecisionReader(log).read())
    assert all(len(at(item.document, ("context", "arguments", "text"))) == 80_000 for item in found)
    blobs[0].write_bytes(blobs[0].read_bytes().replace(b"weather", b"whether", 1))
    blobs[1].unlink()
    report = verify(log, [VKEY])
    assert [problem.where for problem in report.problems] == ["blob", "blob"]
    again = list(DecisionReader(log).read())
    assert [item.unusable for item in again].count("the capture's blob is missing or was changed") == 2
    assert all(item.document == {} for item in again if item.unusable)


def test_a_record_that_is_odd_is_unusable_and_not_guessed_at(tmp_path: Path) -> None:
    reader = DecisionReader(tmp_path)
    base: dict[str, Any] = {"kind": "intent", "exchange": "e", "time": "t", "decision": {"effect": "allow"}}
    for more in (
        {},
        {"request": {"capture": {"level": "full", "input": []}}},
        {"request": {"capture": {"level": "odd", "input": {}}}},
        {"request": {}, "shortened": True},
        {"request": {"capture": {"blob": "sha256:../../etc/passwd", "bytes": 1}}},
    ):
        found = reader.recorded(3, {**base, **more})
        assert found.unusable, more
        assert found.allow


def test_a_decision_of_an_engine_that_failed_is_marked(tmp_path: Path) -> None:
    reader = DecisionReader(tmp_path)
    base: dict[str, Any] = {"exchange": "e", "time": "t", "request": {}}
    denied = {**base, "kind": "refusal", "decision": {"effect": "deny"}, "refusal": {"reason": "policy_unavailable"}}
    passed = {**base, "kind": "intent", "decision": {"effect": "allow", "fail_open": True}}
    assert reader.recorded(0, denied).failed
    assert reader.recorded(0, passed).failed
    assert not reader.recorded(0, {**denied, "refusal": {"reason": "denied"}}).failed
