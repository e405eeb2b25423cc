"""Row 56: an explanation shows what a policy looked at, and never the value of anything that records do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
from changing import META, MODERN, changing, pinned
from rig import gateway

from tests.cli.rig_cli import Shell

ROW = 56
CANARY = "canary-7f3a9c"
POLICY = """\
package tollgate

default decision := {"decision": false, "context": {"reason": "no", "rule": "none"}}

decision := true if {
    some name, value in input.context.arguments
    name == value
    input.context.request.query == "never"
}

decision := true if "blue" in input.context.arguments.tags

decision := true if input.context.request.headers["user-agent"][0] == "nobody"

decision := true if input.context.arguments[input.context.arguments.token] == 1

decision := true if data.tokens[input.context.arguments.token]

decision := true if data.tokens[upper(input.context.arguments.token)]

decision := true if data.tokens[shout]

shout := concat("", ["<", input.context.arguments.token])
"""


def explained(folder: Path, shell: Shell) -> tuple[dict[str, Any], list[str]]:
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.rego").write_text(POLICY)
    arguments = {"token": CANARY, CANARY: CANARY, "tags": ["x", CANARY]}
    with changing() as server:
        sections = {**pinned(server.url, "none"), "policy": {"bundle": str(folder / "policy")}}
        with gateway(folder, **sections) as running:
            headers = {
                "authorization": f"Bearer {running.issuer.token()}", "mcp-protocol-version": MODERN,
                "accept": "application/json, text/event-stream", "mcp-method": "tools/call", "mcp-name": "forecast",
                "user-agent": f"agent {CANARY}",
            }  # fmt: skip
            params = {"name": "forecast", "arguments": arguments, "_meta": META}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            answer = httpx2.post(f"{running.url}/weather?q={CANARY}", json=message, headers=headers, timeout=30)
            ident = answer.headers["x-request-id"]
            admin = {"authorization": f"Bearer {running.admin_token}"}
            found = httpx2.get(f"{running.admin_url}/api/v1/decisions/{ident}", headers=admin, timeout=30)
            words = ["--admin", running.admin_url, "--token-file", str(folder / "admin.token")]
            texts = [found.text, shell("explain", ident, *words).out, shell("explain", ident, *words, "--json").out]
            return found.json(), texts


def test_no_value_of_arguments_headers_and_queries_is_shown(tmp_path: Path, capsys: Any) -> None:
    found, texts = explained(tmp_path, Shell(capsys))
    why = found["why"]
    assert why["input_from"] == "memory", "what was sent is known: it could be shown"
    places = {item["place"] for item in why["reads"]}
    assert "input.context.arguments" in str(places)
    assert "data.tokens[...]" in why["missing"], "that something was looked for is told"
    for text in texts:
        assert CANARY not in text.lower()
