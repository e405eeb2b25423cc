"""What the log keeps of requests, as the configuration says it: strictly, and nothing unless it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config


def read(tmp_path: Path, audit: str, route: str = "") -> config.Settings:
    (tmp_path / "policies").mkdir(exist_ok=True)
    text = f"""
admin: {{token: {{file: {tmp_path}/token}}}}
policy: {{bundle: {tmp_path}/policies}}
upstreams: {{tools: {{url: "http://127.0.0.1:9", protocol: mcp}}}}
routes: [{{name: tools, match: {{path: /tools}}, upstream: tools{route}}}]
audit: {audit}
"""
    (tmp_path / "gateway.yaml").write_text(text)
    return config.load(tmp_path / "gateway.yaml", {})


def test_nothing_is_kept_by_default(tmp_path: Path) -> None:
    found = read(tmp_path, "{}")
    assert found.audit.capture == "none"
    assert found.routes[0].capture is None
    assert found.audit.mask == config.Mask()


def test_levels_and_masks_are_read(tmp_path: Path) -> None:
    found = read(
        tmp_path, "{capture: full, mask: {paths: [context.arguments.*.iban], names: [nick]}}", ", capture: shape"
    )
    assert (found.audit.capture, found.routes[0].capture) == ("full", "shape")
    assert found.audit.mask == config.Mask(paths=("context.arguments.*.iban",), names=("nick",))


@pytest.mark.parametrize(
    ("audit", "key"),
    [
        ("{capture: all}", "audit.capture"),
        ("{mask: {paths: [arguments.iban]}}", "audit.mask.paths"),
        ("{mask: {paths: [subject.id]}}", "audit.mask.paths"),
        ("{mask: {paths: [context..iban]}}", "audit.mask.paths"),
        ("{mask: {names: ['']}}", "audit.mask.names"),
        ("{mask: {emails: sometimes}}", "audit.mask.emails"),
        ("{mask: {passwords: false}}", "audit.mask.passwords"),
    ],
)
def test_a_mask_that_would_not_apply_is_an_error(tmp_path: Path, audit: str, key: str) -> None:
    with pytest.raises(config.ConfigError) as refused:
        read(tmp_path, audit)
    assert key in str(refused.value)
