"""What a running gateway wrote is found again by each of its members, and the index reads it without parsing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import gateway, routes_to

from gateway.log.entries import EntryReader
from gateway.stores import facets
from gateway.stores.facets import PortionReader

LIMITS = [{"name": "many", "key": ["subject.id"], "rate": "1000/minute"}]


def use(url: str, token: str) -> None:
    """Something of most kinds: forwarded, streamed, listed, denied, refused."""
    headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    era = {"mcp-protocol-version": "2025-06-18"}

    def rpc(method: str, **params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    for _ in range(3):
        chat = {"model": "small-1", "messages": [{"role": "user", "content": "Oslo?"}]}
        assert httpx2.post(f"{url}/openai/v1/chat/completions", headers=headers, json=chat).status_code == 200
        assert httpx2.post(
            f"{url}/openai/v1/chat/completions", headers=headers, json=chat | {"stream": True}
        ).is_success
        httpx2.post(f"{url}/weather", headers=headers | era, json=rpc("tools/list"))
        arguments = {"name": "get_forecast", "arguments": {"city": "Oslo"}}
        httpx2.post(f"{url}/weather", headers=headers | era, json=rpc("tools/call", **arguments))
        httpx2.post(f"{url}/weather", headers=headers | era, json=rpc("tools/call", name="delete_station"))
        httpx2.get(f"{url}/weather")
        httpx2.get(f"{url}/nowhere")


def test_every_record_is_found_by_its_exchange_subject_action_route_kind_effect_and_reason(
    tmp_path: Path, bases: dict[str, str]
) -> None:
    with gateway(tmp_path, **routes_to(bases), limits=LIMITS) as running:
        use(running.url, running.issuer.token())
        records = running.records()
        with httpx2.Client(
            base_url=running.admin_url, headers={"authorization": f"Bearer {running.admin_token}"}
        ) as admin:
            for at, name in enumerate((*facets.MEMBERS, "exchange")):
                asked = [(*facets.facet_of(record), record.get("exchange"))[at] for record in records]
                for value in {value for value in asked if value is not None}:
                    found = admin.get("/api/v1/records", params={name: value, "limit": 500}).json()["records"]
                    expected = [record for record, own in zip(records, asked, strict=True) if own == value]
                    assert found == expected[::-1], (name, value)
            explained = admin.get(f"/api/v1/decisions/{records[-1]['exchange']}").json()
            assert records[-1] in explained["records"]


def test_intents_and_outcomes_of_a_running_gateway_are_not_parsed(
    tmp_path: Path, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(tmp_path, **routes_to(bases), limits=LIMITS) as running:
        use(running.url, running.issuer.token())
        kinds = [record["kind"] if "refusal" not in record else "refused" for record in running.records()]
    entries = list(EntryReader(tmp_path / "var" / "log").read(0, len(kinds)))
    usual = [entry for entry, kind in zip(entries, kinds, strict=True) if kind in ("intent", "outcome")]
    assert len(usual) > 12

    def no(record: Any) -> Any:
        raise AssertionError(f"parsed: {record}")

    monkeypatch.setattr(facets, "facet_of", no)
    assert len(PortionReader().read(usual).facets) >= 6
