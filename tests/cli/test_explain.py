"""`tollgate explain`: from the files of a log, and from a running gateway."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from rig import gateway, routes_to

from tests.cli.rig_cli import EXCHANGE, Shell


def test_an_exchange_is_explained_from_the_files_alone(shell: Shell, folder: Path, vkey: str) -> None:
    found = shell("explain", EXCHANGE.format(3), "--data-dir", "var")
    assert found.code == 0
    first, *_ = found.out.splitlines()
    assert first == (
        "agent:idp/a1 asked for mcp.tools/call on weather/get_forecast over route weather."
        " Policy allowed it by rule readers: readers may read."
        " It ended with result ok. The caller was answered 200."
    )
    document = shell("explain", EXCHANGE.format(3).upper(), "--data-dir", "var/log", "--json").json
    assert [step["seq"] for step in document["steps"]] == [6, 7]
    unknown = shell("explain", "01990000-0000-7000-8000-ffffffffffff", "--data-dir", "var")
    assert (unknown.code, unknown.out) == (1, "")


def test_what_is_no_exchange_id_is_2(shell: Shell, folder: Path) -> None:
    for ident in ("x", "../../records", EXCHANGE.format(1) + "x"):
        assert shell("explain", ident).code == 2


def test_without_a_gateway_it_says_what_to_do(shell: Shell, folder: Path) -> None:
    no_token = shell("explain", EXCHANGE.format(1), "--admin", "http://127.0.0.1:9")
    assert no_token.code == 1
    assert "--token-file" in no_token.err
    Path("token").write_text("t" * 43)
    nobody = shell("explain", EXCHANGE.format(1), "--admin", "http://127.0.0.1:9", "--token-file", "token")
    assert nobody.code == 1
    assert "no gateway answers at http://127.0.0.1:9" in nobody.err
    assert shell("explain", EXCHANGE.format(1), "--admin", "file:///etc/passwd", "--token-file", "token").code == 2


def test_a_running_gateway_explains_a_request_right_after_its_answer(
    shell: Shell, tmp_path: Path, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        answer = httpx2.get(f"{running.url}/nowhere")
        words = ["--admin", running.admin_url, "--token-file", str(tmp_path / "admin.token")]
        found = shell("explain", answer.headers["x-request-id"], *words, "--json")
        assert found.code == 0, found.err
        assert found.json["state"] == "refused"
        assert found.json["refusal"]["reason"] == "route_unknown"
        monkeypatch.setenv("TOLLGATE_ADMIN", running.admin_url)
        monkeypatch.setenv("TOLLGATE_TOKEN_FILE", str(tmp_path / "admin.token"))
        assert "GET /nowhere" in shell("explain", answer.headers["x-request-id"]).out
        (tmp_path / "wrong.token").write_text("t" * 43)
        wrong = shell("explain", answer.headers["x-request-id"], "--token-file", str(tmp_path / "wrong.token"))
        assert wrong.code == 1
        assert "does not take this token" in wrong.err
        assert "t" * 43 not in wrong.err
