from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.core.canonical import parse
from gateway.identity.apikey import ApiKeyError, ApiKeys, mint
from tests.identity.issuer import HandClock, api_keys, ask, caller, known, refused

KEY, HASH = mint("ci-bot", lambda n: bytes(range(n)))
ENTRY: dict[str, Any] = {"id": "ci-bot", "sha256": HASH}


def key(value: str) -> tuple[bytes, bytes]:
    return b"x-api-key", value.encode()


def rewrite(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_a_minted_key_has_the_published_form_and_its_hash_is_of_all_of_it() -> None:
    made, hashed = mint("a-1")
    head, _, rest = made.partition("_a-1_")
    assert (head, len(rest)) == ("tg", 43)
    assert hashed == hashlib.sha256(made.encode()).hexdigest()
    assert mint("a-1")[0] != made


def test_a_known_key_says_who_calls_by_its_id(tmp_path: Path) -> None:
    clock = HandClock()
    entry = {**ENTRY, "subject": "nightly", "type": "service", "org": "acme", "roles": ["reader"], "agent": "jenkins"}
    entry["team"] = "red"
    found = known(ask(caller(clock=clock, api_keys=api_keys(tmp_path / "k", [entry], clock)), key(KEY)))
    assert (found.id, found.type, found.org, found.agent) == ("key:ci-bot", "service", "acme", "jenkins")
    assert found.team == "red"
    assert (found.roles, found.routes, found.expires) == (("reader",), None, None)


def test_a_key_bound_to_routes_carries_them(tmp_path: Path) -> None:
    clock = HandClock()
    keys = api_keys(tmp_path / "k", [{**ENTRY, "routes": ["weather"]}], clock)
    assert known(ask(caller(clock=clock, api_keys=keys), key(KEY))).routes == frozenset({"weather"})


@pytest.mark.parametrize(
    "sent",
    [
        "tg_ci-bot_" + "B" * 43,
        KEY[:-1],
        KEY + "A",
        KEY.replace("ci-bot", "ci-cat"),
        KEY.upper(),
        KEY + "\n",
        "tg_",
        "tg_ci-bot_",
        "tg_unknown_" + KEY[-43:],
    ],
)
def test_any_other_key_is_refused(tmp_path: Path, sent: str) -> None:
    clock = HandClock()
    keys = api_keys(tmp_path / "k", [ENTRY], clock)
    refused(ask(caller(clock=clock, api_keys=keys), key(sent)))


def test_without_a_file_no_key_is_known() -> None:
    assert refused(ask(caller(), key(KEY))).rule == "api_key"


@pytest.mark.parametrize("expires", ["2026-11-17T09:00:00Z", 1_794_999_999, 1_795_000_000.0])
def test_an_expired_key_is_refused(tmp_path: Path, expires: object) -> None:
    clock = HandClock()
    keys = api_keys(tmp_path / "k", [{**ENTRY, "expires": expires}], clock)
    refused(ask(caller(clock=clock, api_keys=keys), key(KEY)))


def test_a_key_expires_while_it_is_in_use(tmp_path: Path) -> None:
    clock = HandClock()
    who = caller(clock=clock, api_keys=api_keys(tmp_path / "k", [{**ENTRY, "expires": clock.time() + 10}], clock))
    found = known(ask(who, key(KEY)))
    clock.pass_(9.5)
    assert who.alive(found)
    clock.pass_(0.5)
    assert not who.alive(found)
    refused(ask(who, key(KEY)))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"id": "a"}, "not a list"),
        (["a"], "not a mapping"),
        ([{**ENTRY, "admin": True}], "admin is not a member"),
        ([{"id": "ci-bot"}], "sha256"),
        ([{"id": "CI", "sha256": HASH}], "id is not"),
        ([{"id": "a_b", "sha256": HASH}], "id is not"),
        ([{**ENTRY, "sha256": HASH.upper()}], "sha256"),
        ([{**ENTRY, "sha256": KEY}], "sha256"),
        ([{**ENTRY, "sha256": 12}], "in quotes"),
        ([ENTRY, ENTRY], "twice"),
        ([ENTRY, {"id": "ci-bot", "sha256": "0" * 64}], "twice"),
        ([ENTRY, {"id": "other", "sha256": HASH}], "twice"),
        ([{**ENTRY, "roles": "admin"}], "roles is not a list"),
        ([{**ENTRY, "roles": [7]}], "roles"),
        ([{**ENTRY, "roles": [None]}], "roles"),
        ([{**ENTRY, "routes": "weather"}], "routes is not a list"),
        ([{**ENTRY, "org": 7}], "org"),
        ([{**ENTRY, "org": "a\nb"}], "org"),
        ([{**ENTRY, "type": "anonymous"}], "type"),
        ([{**ENTRY, "type": "a b"}], "type"),
        ([{**ENTRY, "expires": "tomorrow"}], "expires"),
        ([{**ENTRY, "expires": "2027-01-31T00:00:00"}], "expires"),
        ([{**ENTRY, "expires": True}], "expires"),
    ],
)
def test_a_file_with_a_doubtful_entry_is_refused_whole(tmp_path: Path, entries: object, says: str) -> None:
    with pytest.raises(ApiKeyError, match=says):
        api_keys(tmp_path / "k", entries, HandClock())


@pytest.mark.parametrize("content", [b"not json", b"\xff\xfe", b'{"a": 1, "a": 2}', b"[" * 100])
def test_a_file_that_cannot_be_read_strictly_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.yaml"
    path.write_bytes(content)
    with pytest.raises(ApiKeyError, match=r"keys\.yaml"):
        ApiKeys(path, parse, HandClock())


def test_no_error_about_the_file_quotes_a_hash(tmp_path: Path) -> None:
    with pytest.raises(ApiKeyError) as caught:
        api_keys(tmp_path / "k", [ENTRY, {"id": "other", "sha256": HASH}], HandClock())
    assert HASH not in str(caught.value)


def test_an_empty_list_of_routes_is_no_route_and_not_every_route(tmp_path: Path) -> None:
    clock = HandClock()
    keys = api_keys(tmp_path / "k", [{**ENTRY, "routes": []}], clock)
    assert known(ask(caller(clock=clock, api_keys=keys), key(KEY))).routes == frozenset()


def test_a_key_gone_from_the_file_is_refused_and_its_streams_are_dead(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "k"
    keys = api_keys(path, [ENTRY], clock)
    who = caller(clock=clock, api_keys=keys)
    found = known(ask(who, key(KEY)))
    assert who.alive(found)
    rewrite(path, "[]")
    keys.poll()
    assert not who.alive(found)
    refused(ask(who, key(KEY)))


def test_a_key_whose_rights_changed_ends_what_was_opened_with_the_former_ones(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "k"
    keys = api_keys(path, [{**ENTRY, "roles": ["admin"]}], clock)
    who = caller(clock=clock, api_keys=keys)
    found = known(ask(who, key(KEY)))
    rewrite(path, f'[{{"id": "ci-bot", "sha256": "{HASH}", "roles": []}}]')
    keys.poll()
    assert not who.alive(found)
    assert known(ask(who, key(KEY))).roles == ()


def test_a_change_elsewhere_in_the_file_leaves_a_key_alive(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "k"
    keys = api_keys(path, [ENTRY], clock)
    who = caller(clock=clock, api_keys=keys)
    found = known(ask(who, key(KEY)))
    rewrite(path, f'[{{"id": "new", "sha256": "{"1" * 64}"}}, {{"id": "ci-bot", "sha256": "{HASH}"}}]')
    keys.poll()
    assert who.alive(found)
    assert known(ask(who, key(KEY))) is found


@pytest.mark.parametrize("text", ["not json", '[{"id": "ci-bot"}]', '{"a": 1, "a": 2}'])
def test_a_file_that_went_bad_leaves_the_former_keys_and_says_why(tmp_path: Path, text: str) -> None:
    clock = HandClock()
    path = tmp_path / "k"
    keys = api_keys(path, [ENTRY], clock)
    who = caller(clock=clock, api_keys=keys)
    rewrite(path, text)
    keys.poll()
    known(ask(who, key(KEY)))
    assert keys.problem
    rewrite(path, "[]")
    keys.poll()
    assert not keys.problem
    refused(ask(who, key(KEY)))


def test_a_file_that_vanished_leaves_the_former_keys(tmp_path: Path) -> None:
    clock = HandClock()
    keys = api_keys(tmp_path / "k", [ENTRY], clock)
    (tmp_path / "k").unlink()
    keys.poll()
    known(ask(caller(clock=clock, api_keys=keys), key(KEY)))
    assert keys.problem


def test_the_watch_reads_a_changed_file_by_itself(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "k"
    keys = api_keys(path, [ENTRY], clock)
    rounds = 0

    async def sleep(seconds: float) -> None:
        nonlocal rounds
        assert seconds <= 1.0  # ruling 4: within a second
        rounds += 1
        if rounds == 2:
            rewrite(path, "[]")
        if rounds == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keys.watch(sleep))
    refused(ask(caller(clock=clock, api_keys=keys), key(KEY)))
