"""The demo's agent has a signed card, and the demo's configuration requires and verifies it."""

from __future__ import annotations

from pathlib import Path

import httpx
import yaml

from gateway.demo.started import upstreams
from tests.rig import ROOT, Issuer, base_settings, gateway, routes_to


def test_the_agents_card_is_verified_before_its_first_message(tmp_path: Path) -> None:
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    with upstreams() as bases:
        trust = base_settings(tmp_path, Issuer(tmp_path))["trust"]
        trust["signers"] = demo["trust"]["signers"]
        trust["signers"][0]["jwks"]["url"] = bases["concierge"] + "/jwks.json"
        whole = routes_to(bases)
        whole["upstreams"]["concierge"]["card"] = demo["upstreams"]["concierge"]["card"]
        assert whole["upstreams"]["concierge"]["card"]["required"] is True
        with gateway(tmp_path, trust=trust, **whole) as running:
            message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "A table for two"}]}
            response = httpx.post(
                running.url + "/concierge/rest/message:send",
                headers={"authorization": f"Bearer {running.issuer.token()}", "a2a-version": "1.0"},
                json={"message": message},
            )
            assert response.status_code == 200
            agent = running.last("intent")["descriptor"]["agent"]
            assert (agent["signer"], agent["kid"]) == ("demo", "demo")
