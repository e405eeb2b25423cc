"""Agent cards for the tests of trust/: a card with something in every corner, signers, and ways to sign them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateway.core.canonical import encode
from gateway.trust.cards import Voucher
from gateway.trust.jose import KeySet, Signer, read_jwk, signer
from gateway.trust.jose_detached import sign_detached

ACME = signer(ec.generate_private_key(ec.SECP256R1()), "acme-1")
OTHER = signer(ed25519.Ed25519PrivateKey.generate(), "other-1")
THIEF = signer(ed25519.Ed25519PrivateKey.generate(), "thief-1")


def card(**more: Any) -> dict[str, Any]:
    """A card of v1.0 without anything empty: every form of it has the same bytes."""
    return {
        "name": "concierge — ünïcode",
        "description": "Books tables.",
        "version": "1.0.0",
        "supportedInterfaces": [
            {"url": "http://agent.internal:9001/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        ],
        "provider": {"url": "https://acme.example", "organization": "ACME"},
        "capabilities": {
            "streaming": False,
            "extensions": [{"uri": "urn:x", "required": True, "params": {"depth": [1, 25, {"a": False}], "z": "ü"}}],
        },
        "securitySchemes": {
            "oauth": {
                "oauth2SecurityScheme": {
                    "flows": {"clientCredentials": {"tokenUrl": "https://idp.example/t", "scopes": {"book": "Books"}}}
                }
            },
            "key": {"apiKeySecurityScheme": {"location": "header", "name": "x-key"}},
        },
        "securityRequirements": [{"schemes": {"oauth": {"list": ["book"]}}}],
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [
            {"id": "book", "name": "Book", "description": "Books.", "tags": ["dinner"], "examples": ["For two"]}
        ],
        **more,
    }


def legacy(**more: Any) -> dict[str, Any]:
    """A card of v0.3."""
    return {
        "name": "old",
        "description": "An older agent.",
        "version": "1",
        "url": "http://agent.internal:9001/",
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": ["text"],
        "defaultOutputModes": ["text"],
        "securitySchemes": {"k": {"type": "apiKey", "in": "header", "name": "x-key"}, "m": {"type": "mutualTLS"}},
        "security": [{"k": []}],
        "skills": [{"id": "s", "name": "S", "description": "d", "tags": ["t"]}],
        **more,
    }


def signed(found: dict[str, Any], *by: Signer, payload: bytes | None = None, jku: str = "") -> dict[str, Any]:
    """The card with a signature of each over its canonical JSON as it stands, or over `payload`."""
    bare = {name: value for name, value in found.items() if name != "signatures"}
    over = payload if payload is not None else encode(bare)
    return {**bare, "signatures": [*found.get("signatures", []), *(sign_detached(over, item, jku=jku) for item in by)]}


def keys(*by: Signer, **more: Any) -> KeySet:
    return KeySet(read_jwk({**item.jwk(), **more}) for item in by)


def jwks(*by: Signer, **more: Any) -> bytes:
    return json.dumps({"keys": [{**item.jwk(), **more} for item in by]}).encode()


def acme(*by: Signer, **more: Any) -> Sequence[Voucher]:
    """The one trusted signer, with these keys."""
    return [Voucher("acme", keys(*(by or (ACME,)), **more))]
