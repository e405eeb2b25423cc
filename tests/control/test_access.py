"""The admin token's file, sessions and one-time tokens."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
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
from tests.starts import ROUNDS, started_together


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


def test_starts_at_the_same_time_have_the_same_whole_token(tmp_path: Path) -> None:
    for number, got in enumerate(started_together(token_from, tmp_path, ".token")):
        kept = (tmp_path / f"{number}.token").read_text()
        assert {token + "\n" for token in got} == {kept}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.token" for n in range(ROUNDS))


def test_a_token_that_is_there_in_the_meantime_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    faster = token_from(tmp_path / "other")

    def entropy(size: int) -> bytes:
        path.touch(0o600)
        path.write_text(faster)
        return os.urandom(size)

    assert token_from(path, entropy) == faster
    assert path.read_text() == faster


def fill(path: str, said: multiprocessing.Queue[str]) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))  # the disk is full in the middle of the token
    try:
        said.put(token_from(Path(path)))
    except (TokenRefused, OSError) as error:
        said.put(str(error))


def test_a_token_that_cannot_be_written_whole_is_not_there_and_the_next_start_makes_one(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    path, said = tmp_path / "admin.token", spawn.Queue()
    start = spawn.Process(target=fill, args=(str(path), said))
    start.start()
    assert "cannot be made: File too large" in said.get(timeout=60)
    start.join(30)
    assert list(tmp_path.iterdir()) == []
    assert len(token_from(path)) >= 43


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
