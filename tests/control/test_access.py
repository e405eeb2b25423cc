"""The admin token's file, sessions and one-time tokens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.control.access import (
    ONE_TIME_SECONDS,
    SESSION_SECONDS,
    SESSIONS,
    Access,
    TokenRefused,
    checked,
    token_from,
)


class MovedClock:
    now = 100.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def test_a_token_is_made_when_there_is_none_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "var" / "admin.token"
    old = os.umask(0)
    try:
        token = token_from(path)
    finally:
        os.umask(old)
    assert len(token) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert token_from(path) == token, "the second start reads it"
    assert token_from(tmp_path / "other") != token


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602])
def test_a_token_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin.token"
    token_from(path)
    path.chmod(mode)
    with pytest.raises(TokenRefused, match="delete it"):
        token_from(path)


@pytest.mark.parametrize("token", ["", "admin", "changeme" * 3, "a" * 64, "x y" * 20, "ä" * 40, "x" * 1000])
def test_a_token_that_could_be_guessed_or_sent_wrongly_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(TokenRefused):
        checked(token, "environment TOKEN")
    path = tmp_path / "admin.token"
    path.touch(0o600)
    path.write_text(token)
    with pytest.raises(TokenRefused, match=r"admin\.token"):
        token_from(path)


def test_a_place_where_no_token_can_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenRefused, match="cannot be made"):
        token_from(tmp_path / "file" / "admin.token")


def test_the_stored_hash_is_no_token() -> None:
    access = Access("t" * 43, MovedClock())
    assert access.bearer("t" * 43)
    assert not access.bearer(access._token_hash.hex())
    assert not access.bearer("")
    assert not access.bearer("t" * 44)
    assert not access.bearer("\udcff" * 43)


def test_sessions_and_one_time_tokens_end() -> None:
    clock = MovedClock()
    access = Access("t" * 43, clock)
    late = access.one_time()
    session = access.redeem(access.one_time())
    assert session is not None
    assert access.session(session)
    clock.now += ONE_TIME_SECONDS
    assert access.redeem(late) is None
    clock.now += SESSION_SECONDS - ONE_TIME_SECONDS
    assert not access.session(session)


def test_the_number_of_sessions_is_bounded() -> None:
    access = Access("t" * 43, MovedClock())
    sessions = [access.open("t" * 43) for _ in range(SESSIONS + 5)]
    alive = [session for session in sessions if session is not None and access.session(session)]
    assert len(alive) == SESSIONS
    assert alive == sessions[5:]
    assert access.open("wrong") is None
