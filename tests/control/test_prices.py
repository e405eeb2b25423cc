"""The price list on the admin plane: what is in force, in the digits that were written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.ledger.prices import PriceTable
from tests.control.plane_rig import plane
from tests.ledger.pricing import prices


def test_the_list_in_force_is_shown_as_it_was_written(tmp_path: Path) -> None:
    async def story() -> None:
        async with plane(tmp_path) as rig:
            found = (await rig.get("/api/v1/prices")).json
            assert (found["listed"], found["currency"], found["revision"]) == (True, "usd", "sha256:test")
            model, free = found["rows"]
            assert (model["pattern"], model["input"], model["output"], model["cached"]) == ("m*", "0.15", "2", "0.15")
            assert [(level["above"], level["input"]) for level in model["tiers"]] == [(9, "1")]
            assert free == {"kind": "tools", "pattern": "a/*", "per_call": "0"}

    asyncio.run(story())


def test_every_member_of_a_row_is_shown() -> None:
    listed = prices(
        "models: [{model: m, upstream: u, valid_from: 2026-01-01, valid_until: 2026-01-31, input: 1, output: 2, "
        "per_call: 0.000000000001, services: {flex: {input: 0.000001, output: 1}}, max_output_tokens: 5}]\n"
        "tools: [{tool: t, per_call: 0.5, reported_up_to: 10}]"
    )
    model, tool = listed.listing()
    assert isinstance(model, dict)
    assert (model["upstream"], model["valid_from"], model["valid_until"]) == ("u", "2026-01-01", "2026-01-31")
    assert (model["per_call"], model["max_output_tokens"]) == ("0.000000000001", 5)
    assert isinstance(model["services"], dict)
    assert isinstance(model["services"]["flex"], dict)
    assert model["services"]["flex"]["input"] == "0.000001"
    assert tool == {"kind": "tools", "pattern": "t", "per_call": "0.5", "reported_up_to": "10"}
    assert PriceTable().listing() == []
