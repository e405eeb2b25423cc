from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.core.tokens import Vouched
from gateway.trust.jose import read_jwks, read_token, sign_compact, signer
from gateway.trust.keys import PURPOSES, KeyRing, KeyRingError


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def put(directory: Path, name: str, data: bytes, mode: int = 0o600) -> Path:
    path = directory / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


def named(purpose: str, key: ed25519.Ed25519PrivateKey) -> str:
    return f"{purpose}-{signer(key).kid[:16]}.pem"


def test_a_new_key_is_on_disk_for_its_owner_alone_and_is_read_again(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    made = ring.ensure("log")
    path = tmp_path / "keys" / f"log-{made.kid}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert isinstance(load_pem_private_key(path.read_bytes(), None), ed25519.Ed25519PrivateKey)
    again = KeyRing(tmp_path / "keys").current("log")
    assert again is not None
    assert (again.kid, again.public) == (made.kid, made.public)
    assert not [item for item in path.parent.iterdir() if item.name.startswith(".")]


def test_the_kid_begins_the_thumbprint(tmp_path: Path) -> None:
    made = KeyRing(tmp_path).new("tokens")
    assert made.private is not None
    assert signer(made.private).kid.startswith(made.kid)


def test_ensure_makes_a_key_once(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    assert ring.ensure("log") is ring.ensure("log")
    assert ring.current("cards") is None
    assert len(ring.list()) == 1


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose_has_its_own_keys(tmp_path: Path, purpose: str) -> None:
    ring = KeyRing(tmp_path)
    ring.new(purpose)
    assert [key.purpose for key in ring.list()] == [purpose]
    assert [other for other in PURPOSES if ring.current(other) is not None] == [purpose]


def test_another_purpose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError, match="no purpose"):
        KeyRing(tmp_path).new("../log")
    assert list(tmp_path.iterdir()) == []


def test_the_newest_key_signs_and_the_former_stays_published(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    first = ring.new("tokens")
    signed = sign_compact({"a": 1}, first.signer()).encode()
    second = ring.rotate("tokens")
    reread = KeyRing(tmp_path)
    current = reread.current("tokens")
    assert current is not None
    assert current.kid == second.kid
    published = json.dumps(reread.jwks())
    assert [key["kid"] for key in json.loads(published)["keys"]] == [second.kid, first.kid]
    known = read_jwks(published.encode())
    assert isinstance(known.verify(read_token(signed), frozenset({"EdDSA"})), Vouched)


def test_what_is_published_has_no_private_part_and_not_the_logs_key(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.ensure("log")
    ring.ensure("tokens")
    published = json.dumps(ring.jwks())
    assert '"d"' not in published
    assert len(json.loads(published)["keys"]) == 1
    assert "private" not in repr(ring.current("tokens"))


def test_a_signature_of_the_ring_verifies_with_the_raw_public_key(tmp_path: Path) -> None:
    made = KeyRing(tmp_path).ensure("log")
    ed25519.Ed25519PublicKey.from_public_bytes(made.public).verify(made.sign(b"note"), b"note")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o601, 0o610])
def test_a_key_that_others_may_use_refuses_to_start_and_says_the_remedy(tmp_path: Path, mode: int) -> None:
    made = KeyRing(tmp_path).new("log")
    path = tmp_path / f"log-{made.kid}.pem"
    path.chmod(mode)
    with pytest.raises(KeyRingError, match=f"chmod 600 .*{path.name}"):
        KeyRing(tmp_path)
    path.chmod(0o400)
    assert KeyRing(tmp_path).current("log") is not None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o722])
def test_a_directory_that_others_may_write_refuses_to_start(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "keys"
    KeyRing(directory).new("log")
    directory.chmod(mode)
    with pytest.raises(KeyRingError, match="chmod 700"):
        KeyRing(directory)


def test_a_link_in_a_keys_place_refuses_to_start(tmp_path: Path) -> None:
    directory, other = tmp_path / "keys", tmp_path / "elsewhere"
    made = KeyRing(directory).new("log")
    path = directory / f"log-{made.kid}.pem"
    path.rename(other)
    path.symlink_to(other)
    with pytest.raises(KeyRingError, match="no links"):
        KeyRing(directory)


def test_a_directory_that_is_a_link_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "keys").symlink_to(tmp_path / "real")
    with pytest.raises(KeyRingError, match="no links"):
        KeyRing(tmp_path / "keys")


KEY = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("log-short.pem", pem(KEY), "is named"),
        ("secret-AAAAAAAAAAAAAAAA.pem", pem(KEY), "is named"),
        (named("log", KEY).upper().replace("PEM", "pem"), pem(KEY), "is named"),
        ("log-AAAAAAAAAAAAAAAA.pem", pem(KEY), "another key"),
        ("log-AAAAAAAAAAAAAAAA.pem", b"", "not a PKCS#8"),
        ("log-AAAAAAAAAAAAAAAA.pem", b"garbage", "not a PKCS#8"),
        ("log-AAAAAAAAAAAAAAAA.pem", pem(KEY, b"password"), "is encrypted"),
        ("log-AAAAAAAAAAAAAAAA.pem", pem(KEY)[:60], "not a PKCS#8"),
        ("log-AAAAAAAAAAAAAAAA.pem", pem(ec.generate_private_key(ec.SECP256R1())), "not an Ed25519"),
    ],
    ids=["short", "purpose", "capitals", "another", "empty", "garbage", "encrypted", "cut", "not Ed25519"],
)
def test_a_file_that_is_not_what_its_name_says_refuses_to_start(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    put(tmp_path, name, data)
    with pytest.raises(KeyRingError, match=says) as caught:
        KeyRing(tmp_path)
    assert "PRIVATE KEY" not in str(caught.value)


def test_a_single_key_that_was_brought_along_is_the_current_one(tmp_path: Path) -> None:
    put(tmp_path, named("log", KEY), pem(KEY))
    found = KeyRing(tmp_path).current("log")
    assert found is not None
    assert found.kid == signer(KEY).kid[:16]


def test_with_two_keys_and_no_word_which_signs_it_refuses_to_start(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    first = ring.new("log")
    second = ring.new("log")
    (tmp_path / "ring.json").unlink()
    with pytest.raises(KeyRingError, match="write the kid that signs"):
        KeyRing(tmp_path)
    (tmp_path / "log.current").write_text(first.kid + "\n")
    found = KeyRing(tmp_path)
    assert found.ensure("log").kid == first.kid
    assert [key.kid for key in found.published("log")] == [first.kid, second.kid]
    assert not (tmp_path / "log.current").exists(), "the table says it from here on"


@pytest.mark.parametrize("word", [b"AAAAAAAAAAAAAAAA", b"", b"\xff\xfe"])
def test_a_current_key_that_is_not_there_refuses_to_start(tmp_path: Path, word: bytes) -> None:
    KeyRing(tmp_path).new("log")
    (tmp_path / "ring.json").unlink()
    (tmp_path / "log.current").write_bytes(word)
    with pytest.raises(KeyRingError, match=r"log\.current"):
        KeyRing(tmp_path)


def test_an_unwritten_key_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyRingError, match="No space left"):
        ring.new("log")
    assert ring.current("log") is None
    assert KeyRing(tmp_path).current("log") is None
