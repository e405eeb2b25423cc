"""Bundles pushed to a running gateway of the rig, over its admin plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
from rig import ISSUER, ROOT, Issuer, Running

from tests.trust.bundle_rig import KEY


def bundle_settings(folder: Path, **policy: Any) -> dict[str, Any]:
    """The rig's, with somebody who may sign: the bundle rig's key."""
    issuer = Issuer(folder)
    keys = folder / "authors.jwks.json"
    keys.write_text(json.dumps({"keys": [KEY.jwk()]}))
    idp = {
        "name": "idp", "issuer": ISSUER, "audience": "tollgate", "jwks": {"file": str(issuer.jwks)},
        "algorithms": ["EdDSA"],
    }  # fmt: skip
    return {
        "trust": {"issuers": [idp], "signers": [{"name": "authors", "jwks": {"file": str(keys)}}]},
        "policy": {"bundle": str(ROOT / "policies" / "rego"), "signers": ["authors"]} | policy,
    }


def push(running: Running, tarball: bytes, *, name: str = "tollgate", activate: bool = False) -> httpx2.Response:
    headers = {"authorization": f"Bearer {running.admin_token}", "content-type": "application/gzip"}
    query = {"name": name}
    if activate:
        headers["if-match"], query["activate"] = "*", "true"
    return httpx2.post(
        f"{running.admin_url}/api/v1/bundles", params=query, content=tarball, headers=headers, timeout=60
    )


def post(
    running: Running, act: str, document: dict[str, Any], *, name: str = "tollgate", tag: str = "*"
) -> httpx2.Response:
    headers = {"authorization": f"Bearer {running.admin_token}", "if-match": tag}
    return httpx2.post(f"{running.admin_url}/api/v1/bundles/{name}/{act}", json=document, headers=headers, timeout=60)
