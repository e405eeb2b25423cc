"""Row 55, the admin plane's part: the stored hash opens nothing, and a token that somebody knows refuses the start."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from gateway.control.access import Access, TokenRefused, checked, token_from
from tests.control.plane_rig import RealClock

ROW = 55


def test_no_form_of_the_tokens_hash_is_a_token(tmp_path: Path) -> None:
    token = token_from(tmp_path / "admin.token")
    access = Access(token, RealClock())
    session = access.open(token)
    assert session is not None
    for secret in (token, session):
        raw = hashlib.sha256(secret.encode()).digest()
        for form in (
            raw.hex(),
            raw.hex().upper(),
            "sha256:" + raw.hex(),
            base64.b64encode(raw).decode(),
            raw.decode("latin-1"),
        ):
            assert not access.bearer(form)
            assert access.open(form) is None
            assert access.redeem(form) is None
            assert not access.session(form)
    assert not access.session(token), "the token is no session"
    assert not access.bearer(session), "a session is no token"


@pytest.mark.parametrize(
    "known",
    [
        "",
        "admin",
        "password",
        "changeme",
        "sk-1234",
        "0" * 64,
        "a" * 32,
        "admin" * 8,
        "secret" * 8,
        "test" * 20,
        "12345678" * 3,
    ],
)
def test_a_token_that_everybody_knows_refuses_the_start(tmp_path: Path, known: str) -> None:
    with pytest.raises(TokenRefused):
        checked(known, "environment ADMIN")
    path = tmp_path / "admin.token"
    path.touch(0o600)
    path.write_text(known + "\n")
    with pytest.raises(TokenRefused):
        token_from(path)
