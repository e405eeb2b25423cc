"""Agent cards signed and verified by the official SDK, unmodified. One JSON request on stdin, one answer on stdout.

`{"do": "sign", "card", "jwk", "header"}` gives the card as the SDK's server would show it. `{"do": "verify", "card",
"jwks"}` and `{"do": "fetch", "url", "credential"}` say whether a client of the SDK believes it; fetched, the keys come
from where the signature's `jku` says.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from typing import Any

import httpx
import jwt
from a2a.client import A2ACardResolver
from a2a.client.card_resolver import parse_agent_card
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.utils.signing import SignatureVerificationError, create_agent_card_signer, create_signature_verifier
from google.protobuf.json_format import MessageToDict

ALGORITHMS = ["EdDSA", "ES256", "ES384", "RS256", "PS256"]


def sign(asked: dict[str, Any]) -> Any:
    card = parse_agent_card(asked["card"])
    create_agent_card_signer(jwt.PyJWK(asked["jwk"]), asked["header"])(card)
    return agent_card_to_dict(card)


def verify(asked: dict[str, Any]) -> Any:
    known = {jwk["kid"]: jwk for jwk in asked["jwks"]["keys"]}
    try:
        card = parse_agent_card(copy.deepcopy(asked["card"]))
        create_signature_verifier(lambda kid, jku: jwt.PyJWK(known[kid or ""]), ALGORITHMS)(card)
    except SignatureVerificationError as error:
        return {"verified": False, "error": type(error).__name__}
    return {"verified": True}


def fetch(asked: dict[str, Any]) -> Any:
    named: list[tuple[str, str]] = []

    def key(kid: str | None, jku: str | None) -> jwt.PyJWK:
        named.append((jku or "", kid or ""))
        return next(jwt.PyJWK(item) for item in httpx.get(jku or "").json()["keys"] if item["kid"] == kid)

    async def run() -> Any:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {asked['credential']}"}) as http:
            verifier = create_signature_verifier(key, ALGORITHMS)
            return await A2ACardResolver(http, asked["url"]).get_agent_card(signature_verifier=verifier)

    try:
        card = asyncio.run(run())
    except SignatureVerificationError as error:
        return {"verified": False, "error": type(error).__name__}
    return {"verified": True, "jku": named[0][0], "kid": named[0][1], "card": MessageToDict(card)}


asked: dict[str, Any] = json.load(sys.stdin)
json.dump({"sign": sign, "verify": verify, "fetch": fetch}[asked["do"]](asked), sys.stdout)
