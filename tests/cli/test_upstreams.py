"""`tollgate upstreams`, and the API behind it, against a running gateway whose upstreams are real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Running, gateway

from gateway.core.reasons import StoreFailed
from tests.cli.rig_cli import Ran, Shell
from tests.flows.replicas import replicas
from tests.flows.test_upstreams_failing import get, settings

BREAKER = {"failures": 2, "open": "1h", "open_most": "1h"}


def told(shell: Shell, running: Running, *words: str) -> Ran:
    where = ["--admin", running.admin_url, "--token-file", str(running.folder / "admin.token")]
    return shell("upstreams", *words, *where)


def api(running: Running, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {running.admin_token}", "content-type": "application/json"}
    content = None if document is None else json.dumps(document)
    answer = httpx2.request(method, running.admin_url + path, headers=headers, content=content)
    return answer.status_code, answer.json()


def test_upstreams_are_listed_with_breakers_and_addresses(tmp_path: Path, shell: Shell) -> None:
    with replicas("a", "b") as (a, b), gateway(tmp_path, **settings(tmp_path, a, b, breaker=BREAKER)) as running:
        a.behaves("500")
        b.behaves("500")
        assert [get(running).status for _ in range(3)] == [500, 500, 503]
        rows = [row.split() for row in told(shell, running, "list").out.splitlines()]
        assert rows[1] == ["files", "open", "2", "failures", "in", "a", "row", a.url]
        assert sorted(row[0] for row in rows[2:]) == ["in", "in"]
        [found] = told(shell, running, "list", "--json").json["upstreams"]
        assert (found["breaker"]["state"], found["breaker"]["hold"]) == ("open", "auto")
        assert 0 < found["breaker"]["wait_ms"] <= 3_600_000
        assert {item["address"] for item in found["addresses"]} == {a.address, b.address}


def test_what_is_opened_or_closed_stays_so_until_it_is_let_go(tmp_path: Path, shell: Shell) -> None:
    with replicas("a") as [a]:
        wanted = settings(tmp_path, a, breaker=BREAKER)
        with gateway(tmp_path, **wanted) as running:
            assert get(running).status == 200
            opened = told(shell, running, "open", "files", "--why", "maintenance")
            assert (opened.code, opened.out.strip().startswith("files: open, until")) == (0, True)
            refused = get(running)
            assert (refused.status, refused.json()["reason"]) == (503, "breaker_open")
            assert running.last("refusal")["refusal"]["rule"] == "held open by an administrator"
            running.reload(upstreams=wanted["upstreams"])
            assert get(running).status == 503, "a reload does not undo it"
        with gateway(tmp_path, **wanted) as running:
            assert get(running).status == 503, "nor does a restart"
            assert told(shell, running, "close", "files").code == 0
            a.behaves("500")
            assert [get(running).status for _ in range(5)] == [500] * 5, "closed whatever it answers"
            assert told(shell, running, "auto", "files").code == 0
            assert [get(running).status for _ in range(3)] == [500, 500, 503]
            acts = [record for record in running.records() if record.get("action") == "breaker.hold"]
            assert [record["hold"]["state"] for record in acts] == ["open", "close", "auto"]
            assert acts[0]["hold"] == {"upstream": "files", "state": "open", "why": "maintenance"}
            assert acts[0]["subject"]["id"] == "admin"
        assert json.loads((tmp_path / "var" / "breakers.json").read_text()) == {}


def test_what_cannot_be_held_is_said(tmp_path: Path, shell: Shell) -> None:
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a)) as running:
        path = "/api/v1/upstreams/files/breaker"
        assert api(running, "POST", path, {"state": "open"})[0] == 409
        assert api(running, "POST", "/api/v1/upstreams/nobody/breaker", {"state": "open"})[0] == 404
        for wrong in (
            {},
            {"state": "shut"},
            {"state": ["open"]},
            {"state": "open", "if": 1},
            {"state": "open", "why": 1},
        ):
            assert api(running, "POST", path, wrong)[0] == 400
        assert api(running, "GET", "/api/v1/upstreams?x=1")[0] == 400
        assert api(running, "GET", path)[0] == 405
        failed = told(shell, running, "open", "files")
        assert (failed.code, "has no breaker" in failed.err) == (1, True)
        assert told(shell, running, "list").out.splitlines()[1].split()[:2] == ["files", "-"]


def test_a_damaged_file_of_what_is_held_stops_the_start(tmp_path: Path) -> None:
    with replicas("a") as [a]:
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "breakers.json").write_text("{")
        wanted = settings(tmp_path, a, breaker=BREAKER)
        with pytest.raises(StoreFailed, match=r"breakers\.json cannot be read"), gateway(tmp_path, **wanted):
            raise AssertionError("it started")
