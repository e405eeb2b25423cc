"""What records are made of: nothing that has two spellings, so that the log may take them as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
from rig import gateway, routes_to

from gateway.log.entry import encode


def floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        assert all(name.isascii() for name in value)
        return [found for item in value.values() for found in floats(item)]
    if isinstance(value, list):
        return [found for item in value for found in floats(item)]
    return [value] if isinstance(value, float) else []


def test_records_hold_no_float_and_no_odd_name_so_both_ways_of_encoding_agree(
    tmp_path: Path, bases: dict[str, str]
) -> None:
    limits = [
        {"name": "per-agent", "key": ["subject.id"], "rate": "3/minute", "burst": 3},
        {"name": "at-once", "key": ["peer"], "concurrent": 9},
    ]
    with gateway(tmp_path, **routes_to(bases), limits=limits) as running:
        headers = {"authorization": f"Bearer {running.issuer.token('åse')}"}
        body = {"model": "small-1", "messages": [{"role": "user", "content": "Å?"}]}
        for path in ("/openai/v1/chat/completions", "/openai/v1/embeddings", "/nowhere", "/echo/v1/models"):
            httpx2.post(running.url + path, headers=headers, json=body)
            httpx2.get(running.url + path, headers=headers)
        records = running.records()
    assert {record["kind"] for record in records} >= {"intent", "outcome", "refusal", "activation"}
    for record in records:
        assert floats(record) == []
        assert encode(record, plain=True) == encode(record)
