"""Tools that somebody signed for: reached without an administrator, as long as the manifest names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from changing import Caller, Changing, changing, outcome, pinned, tool
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp import types
from rig import Issuer, Running, base_settings, gateway, until

from gateway.trust.jose import Signer, signer
from gateway.trust.manifests import sign_manifest

ACME = signer(Ed25519PrivateKey.generate(), "acme-1")
THIEF = signer(Ed25519PrivateKey.generate(), "acme-1")


def listed(*tools: types.Tool) -> list[dict[str, Any]]:
    return [item.model_dump(by_alias=True, exclude_none=True) for item in tools]


def sign(folder: Path, manifest: dict[str, Any], by: Signer = ACME) -> None:
    """Replaces the file as a deployment would: all at once."""
    fresh = folder / "manifest.new"
    fresh.write_text(json.dumps(sign_manifest(manifest, by)))
    fresh.replace(folder / "weather.manifest.json")


def settings(folder: Path, server: Changing, pin: str = "required") -> dict[str, Any]:
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.rego").write_text("package tollgate\n\ndecision := true\n")
    (folder / "acme.jwks.json").write_text(json.dumps({"keys": [ACME.jwk()]}))
    manifest = {"signers": ["acme"], "manifest": {"file": str(folder / "weather.manifest.json")}}
    signers = [{"name": "acme", "jwks": {"file": str(folder / "acme.jwks.json")}}]
    issuers = base_settings(folder, Issuer(folder))["trust"]["issuers"]
    for issuer in issuers:
        issuer["jwks"] = {"file": str(folder / "issuer.jwks.json")}
    return {
        **pinned(server.url, pin, **manifest),
        "policy": {"bundle": str(folder / "policy")},
        "trust": {"issuers": issuers, "signers": signers},
    }


def again(running: Running) -> str:
    return running.call(running.app.descriptors.pins.refresh("weather"))


def test_what_is_signed_is_reached_and_nothing_else(tmp_path: Path) -> None:
    with changing() as server:
        server.tools = [tool(), tool("other")]
        sign(tmp_path, {"tools": listed(tool())})
        with gateway(tmp_path, **settings(tmp_path, server)) as running:
            caller = Caller(running)
            assert (caller.names(), caller.call(), caller.call("other")) == (
                ["forecast"],
                "ok",
                "descriptor_unverified",
            )
            assert running.last("intent")["descriptor"]["tool"]["by"] == "signer:acme"
            assert outcome(caller.ask("prompts/get", name="packing")) == "descriptor_unverified"


def test_a_new_release_and_its_new_manifest_need_nobody(tmp_path: Path) -> None:
    with changing() as server:
        sign(tmp_path, {"tools": listed(tool())})
        with gateway(tmp_path, **settings(tmp_path, server)) as running:
            caller = Caller(running)
            assert caller.call() == "ok"
            server.tools = [tool(description="Better.")]
            assert (caller.names(), caller.call()) == ([], "descriptor_changed")
            sign(tmp_path, {"tools": listed(tool(description="Better."))})
            assert again(running) == ""
            assert (caller.names(), caller.call()) == (["forecast"], "ok")
            sign(tmp_path, {"tools": []})
            assert again(running) == ""
            assert (caller.names(), caller.call()) == ([], "descriptor_unverified")


def test_a_manifest_that_does_not_count_signs_nothing_and_says_why(tmp_path: Path) -> None:
    with changing() as server:
        sign(tmp_path, {"tools": listed(tool())})
        with gateway(tmp_path, **settings(tmp_path, server)) as running:
            caller = Caller(running)
            assert caller.call() == "ok"
            sign(tmp_path, {"tools": listed(tool())}, THIEF)
            assert "does not count" in again(running)
            assert (caller.call(), caller.names()) == ("descriptor_unverified", [])
            sign(tmp_path, {"tools": listed(tool()), "expires": "2020-01-01T00:00:00Z"})
            assert "expired" in again(running)
            assert caller.call() == "descriptor_unverified"
            sign(tmp_path, {"tools": listed(tool())})
            assert again(running) == ""
            assert caller.call() == "ok"


def test_a_manifest_that_is_gone_is_believed_while_the_gateway_runs_and_no_longer(tmp_path: Path) -> None:
    with changing() as server:
        sign(tmp_path, {"tools": listed(tool())})
        whole = settings(tmp_path, server)
        with gateway(tmp_path, **whole) as running:
            assert Caller(running).call() == "ok"
            (tmp_path / "weather.manifest.json").unlink()
            assert "cannot be had" in again(running)
            assert Caller(running).call() == "ok"
        (tmp_path / "weather.manifest.json").write_text("{}")
        with gateway(tmp_path, **whole) as running:
            assert Caller(running).call() == "descriptor_unverified"


def test_a_signer_who_is_no_longer_trusted_takes_its_word_along(tmp_path: Path) -> None:
    with changing() as server:
        sign(tmp_path, {"tools": listed(tool())})
        with gateway(tmp_path, **settings(tmp_path, server)) as running:
            assert Caller(running).call() == "ok"
            running.reload(**pinned(server.url, "required"))
            assert Caller(running).call() == "descriptor_unverified"
            assert Caller(running).names() == []


def test_an_approval_stands_beside_a_manifest(tmp_path: Path) -> None:
    with changing() as server:
        server.tools = [tool(), tool("other")]
        sign(tmp_path, {"tools": listed(tool())})
        with gateway(tmp_path, **settings(tmp_path, server)) as running:
            caller = Caller(running)
            assert caller.call("other") == "descriptor_unverified"
            item = running.app.descriptors.registry.find("tool", "weather", "other")
            assert item is not None

            async def unrecorded(made: Any) -> None:
                """The record is the admin plane's business."""

            pins = running.app.descriptors.pins
            running.call(pins.approve([("tool", "weather", "other", item.digest)], "admin", unrecorded))
            assert (caller.call("other"), caller.call()) == ("ok", "ok")
            sign(tmp_path, {"tools": []})
            again(running)
            assert (caller.call("other"), caller.call()) == ("ok", "descriptor_unverified")


def test_the_manifest_is_read_anew_by_itself(tmp_path: Path) -> None:
    with changing() as server:
        sign(tmp_path, {"tools": []})
        whole = settings(tmp_path, server)
        whole["upstreams"]["weather"]["tools"]["refresh"] = "1s"
        with gateway(tmp_path, **whole) as running:
            assert Caller(running).call() == "descriptor_unverified"
            sign(tmp_path, {"tools": listed(tool())})
            registry = running.app.descriptors.registry
            until(lambda: registry.find("tool", "weather", "forecast").by == "signer:acme", what="the manifest")  # type: ignore[union-attr]
            assert Caller(running).call() == "ok"
