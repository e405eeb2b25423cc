"""The stored hash opens nothing, and a file with a hash that everybody knows is refused at the start."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from gateway.identity.apikey import ApiKeyError, mint
from tests.identity.issuer import HandClock, api_keys, ask, caller, known, refused

ROW = 55
KEY, HASH = mint("bob")


def forms() -> list[bytes]:
    raw = bytes.fromhex(HASH)
    encoded = base64.urlsafe_b64encode(raw).rstrip(b"=")
    again = hashlib.sha256(HASH.encode()).hexdigest()
    return [
        HASH.encode(),
        HASH.upper().encode(),
        raw,
        encoded,
        b"sha256:" + HASH.encode(),
        b"tg_bob_" + HASH.encode(),
        b"tg_bob_" + encoded,
        b"tg_bob_" + HASH.encode()[:43],
        b"tg_" + HASH.encode(),
        again.encode(),
        b"key:bob",
        b"bob",
    ]


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"api-key"])
@pytest.mark.parametrize("form", forms(), ids=range(12))
def test_the_stored_hash_is_no_key_in_any_form(tmp_path: Path, form: bytes, name: bytes) -> None:
    clock = HandClock()
    who = caller(clock=clock, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": HASH}], clock))
    known(ask(who, (b"x-api-key", KEY.encode())))
    refused(ask(who, (name, b"Bearer " + form if name == b"authorization" else form)))


@pytest.mark.parametrize("known_key", ["", "tg_bob_", *(f"tg_bob_{letter * 43}" for letter in "Aax0")])
def test_a_hash_of_an_empty_or_published_key_refuses_to_start(tmp_path: Path, known_key: str) -> None:
    hashed = hashlib.sha256(known_key.encode()).hexdigest()
    with pytest.raises(ApiKeyError, match="make a key of your own"):
        api_keys(tmp_path / "k", [{"id": "bob", "sha256": hashed}], HandClock())


@pytest.mark.parametrize("entry", [{"id": "bob"}, {"id": "bob", "sha256": ""}, {"id": "bob", "sha256": None}])
def test_an_entry_without_a_hash_refuses_to_start(tmp_path: Path, entry: object) -> None:
    with pytest.raises(ApiKeyError, match="sha256"):
        api_keys(tmp_path / "k", [entry], HandClock())
