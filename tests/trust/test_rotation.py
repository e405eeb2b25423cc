"""The life of a key in the ring: next, current, retired, kept, revoked; two processes on one directory."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from gateway.core.reasons import Malformed
from gateway.trust import keytable
from gateway.trust.jose_ed25519 import encoded_public
from gateway.trust.keys import KeyRing, KeyRingError, State
from tests.identity.issuer import HandClock

WEEK = 7 * 24 * 3600


def ring(path: Path, clock: HandClock, **more: object) -> KeyRing:
    return KeyRing(path, now=clock.time, **more)  # type: ignore[arg-type]


def shown(found: KeyRing, purpose: str) -> list[tuple[str, str]]:
    return [(key.kid, str(found.state(key))) for key in found.published(purpose)]


def kids(found: KeyRing) -> list[str]:
    keys = found.jwks()["keys"]
    assert isinstance(keys, list)
    return [str(key["kid"]) for key in keys if isinstance(key, dict)]


def test_the_first_key_signs_and_the_second_is_published_before_it_does(tmp_path: Path) -> None:
    found = ring(tmp_path, HandClock())
    first, second = found.new("cards"), found.new("cards")
    assert found.current("cards") == first
    assert found.next("cards") == second
    assert shown(found, "cards") == [(first.kid, "current"), (second.kid, "next")]
    assert kids(found) == [first.kid, second.kid]


def test_there_is_one_next_key_at_most(tmp_path: Path) -> None:
    found = ring(tmp_path, HandClock())
    found.new("cards")
    found.new("cards")
    files = sorted(tmp_path.iterdir())
    with pytest.raises(KeyRingError, match="next cards key already"):
        found.new("cards")
    assert sorted(tmp_path.iterdir()) == files, "a key was made that nobody wants"


def test_a_rotation_lets_the_next_key_sign_and_publishes_the_former_for_its_overlap(tmp_path: Path) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock)
    first, second = found.new("cards"), found.new("cards")
    assert found.rotate("cards", overlap_s=3600).kid == second.kid
    assert shown(found, "cards") == [(second.kid, "current"), (first.kid, "retired")]
    clock.pass_(3599)
    assert not found.refresh()
    assert kids(found) == [second.kid, first.kid]
    clock.pass_(1)
    assert found.refresh(), "the end of an overlap is a change"
    assert not found.refresh()
    assert kids(found) == [second.kid]
    assert {key.kid for key in found.trusted("cards")} == {first.kid, second.kid}
    former = next(key for key in found.list("cards") if key.kid == first.kid)
    assert found.state(former) is State.KEPT
    former.public_key().verify(first.sign(b"said long ago"), b"said long ago")


def test_without_a_next_key_a_rotation_makes_one(tmp_path: Path) -> None:
    found = ring(tmp_path, HandClock())
    first = found.new("log")
    second = found.rotate("log")
    assert second.kid != first.kid
    assert shown(found, "log") == [(second.kid, "current"), (first.kid, "retired")]
    with pytest.raises(KeyRingError, match="no tokens key yet"):
        found.rotate("tokens")


def test_a_revoked_key_is_neither_published_nor_trusted_and_stays_so(tmp_path: Path) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock)
    first, second = found.new("cards"), found.rotate("cards")
    assert found.revoke("cards", first.kid).kid == second.kid
    assert kids(found) == [second.kid]
    assert [key.kid for key in found.trusted("cards")] == [second.kid]
    with pytest.raises(KeyRingError, match="revoked already"):
        found.revoke("cards", first.kid)
    again = ring(tmp_path, clock)
    assert [again.state(key) for key in again.list("cards")] == [State.REVOKED, State.CURRENT]


def test_revoking_the_key_that_signs_puts_another_in_its_place_at_once(tmp_path: Path) -> None:
    found = ring(tmp_path, HandClock())
    first = found.new("log")
    waiting = found.new("log")
    assert found.revoke("log", first.kid).kid == waiting.kid
    third = found.revoke("log", waiting.kid)
    assert found.current("log") == third
    assert [key.kid for key in found.published("log")] == [third.kid]


@pytest.mark.parametrize("kid", ["AAAAAAAAAAAAAAAA", "", "../../etc/passwd"])
def test_a_key_that_is_not_there_cannot_be_revoked(tmp_path: Path, kid: str) -> None:
    found = ring(tmp_path, HandClock())
    found.new("cards")
    with pytest.raises(KeyRingError, match="there is no cards key"):
        found.revoke("cards", kid)


def test_what_one_process_did_another_follows(tmp_path: Path) -> None:
    clock = HandClock()
    served, shell = ring(tmp_path, clock), ring(tmp_path, clock)
    first = served.ensure("cards")
    shell.refresh()
    before = served.revision
    second = shell.rotate("cards")
    assert served.current("cards") == first
    assert served.refresh()
    assert served.revision == before + 1
    current = served.current("cards")
    assert current is not None
    assert current.kid == second.kid
    current.public_key().verify(current.sign(b"x"), b"x")
    assert not served.refresh()


def test_a_process_that_changes_the_ring_sees_what_others_did_before(tmp_path: Path) -> None:
    clock = HandClock()
    one, other = ring(tmp_path, clock), ring(tmp_path, clock)
    first = one.new("cards")
    waiting = other.new("cards")
    assert other.next("cards") == waiting
    assert one.rotate("cards").kid == waiting.kid
    assert {key.kid for key in other.list()} == {first.kid, waiting.kid}


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    ring(tmp_path, clock).ensure("cards")
    threads = [threading.Thread(target=lambda: ring(tmp_path, clock).rotate("cards")) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ring(tmp_path, clock)
    assert len(found.list("cards")) == 13
    assert [event.serial for event in found.events(0)] == list(range(1, 13))
    assert [found.state(key) for key in found.list("cards")].count(State.CURRENT) == 1


@pytest.mark.parametrize("damage", [b"", b"{}", b"not json", b'{"v":1,"keys":[],"events":[],"more":1}'])
def test_a_table_that_cannot_be_read_changes_nothing_and_refuses_a_start(tmp_path: Path, damage: bytes) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock)
    made = found.ensure("cards")
    table = tmp_path / "ring.json"
    whole = table.read_bytes()
    table.write_bytes(damage)
    assert not found.refresh()
    assert found.current("cards") == made
    with pytest.raises(KeyRingError, match="damaged"):
        ring(tmp_path, clock)
    table.write_bytes(whole)
    assert found.refresh()
    assert found.current("cards") == made


def test_a_table_that_others_may_write_is_refused(tmp_path: Path) -> None:
    ring(tmp_path, HandClock()).ensure("cards")
    (tmp_path / "ring.json").chmod(0o622)
    with pytest.raises(KeyRingError, match="chmod 600"):
        ring(tmp_path, HandClock())


def test_a_table_whose_key_lost_its_private_half_refuses_where_it_must_sign(tmp_path: Path) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock)
    first, second = found.new("cards"), found.rotate("cards")
    (tmp_path / f"cards-{first.kid}.pem").unlink()
    again = ring(tmp_path, clock)
    assert [key.kid for key in again.published("cards")] == [second.kid, first.kid], "it need not sign any more"
    with pytest.raises(KeyRingError, match="private half"):
        next(key for key in again.list("cards") if key.kid == first.kid).sign(b"x")
    (tmp_path / f"cards-{second.kid}.pem").unlink()
    with pytest.raises(KeyRingError, match="missing"):
        ring(tmp_path, clock)


def test_the_public_half_in_the_table_must_be_the_keys(tmp_path: Path) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock)
    made, other = found.ensure("cards"), found.ensure("log")
    table = tmp_path / "ring.json"
    whole = table.read_text()
    document = json.loads(whole)
    for key in document["keys"]:
        if key["kid"] == made.kid:
            key["x"] = encoded_public(other.public)
    table.write_text(json.dumps(document))
    with pytest.raises(KeyRingError, match="that of another key"):
        ring(tmp_path, clock)
    assert not found.refresh()
    assert found.jwks() == {"keys": [made.jwk()]}


def test_without_private_keys_it_lists_and_publishes_and_cannot_sign(tmp_path: Path) -> None:
    clock = HandClock()
    locked = ring(tmp_path, clock, passphrase=b"correct horse")
    made = locked.new("cards")
    found = ring(tmp_path, clock, private=False)
    assert found.jwks() == locked.jwks()
    current = found.current("cards")
    assert current is not None
    with pytest.raises(KeyRingError, match=made.kid):
        current.sign(b"x")


def test_under_a_passphrase_every_key_is_encrypted_and_reads_with_it_alone(tmp_path: Path) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock, passphrase=b"correct horse")
    first = found.new("cards")
    second = found.rotate("cards")
    for kid in (first.kid, second.kid):
        assert (tmp_path / f"cards-{kid}.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    again = ring(tmp_path, clock, passphrase=b"correct horse").current("cards")
    assert again is not None
    assert again.sign(b"x") == second.sign(b"x")
    with pytest.raises(KeyRingError, match="right passphrase"):
        ring(tmp_path, clock, passphrase=b"wrong horse")
    with pytest.raises(KeyRingError, match="is encrypted"):
        ring(tmp_path, clock)


def test_a_plain_key_is_refused_where_there_is_a_passphrase_until_it_is_encrypted(tmp_path: Path) -> None:
    clock = HandClock()
    made = ring(tmp_path, clock).new("cards")
    with pytest.raises(KeyRingError, match="keys encrypt"):
        ring(tmp_path, clock, passphrase=b"correct horse")
    table = ring(tmp_path, clock, passphrase=b"correct horse", private=False)
    assert [path.name for path in table.encrypt()] == [f"cards-{made.kid}.pem"]
    assert table.encrypt() == []
    again = ring(tmp_path, clock, passphrase=b"correct horse").current("cards")
    assert again is not None
    assert again.sign(b"x") == made.sign(b"x")
    assert (tmp_path / f"cards-{made.kid}.pem").stat().st_mode & 0o777 == 0o600


def test_a_signature_of_one_key_is_not_the_others(tmp_path: Path) -> None:
    found = ring(tmp_path, HandClock())
    first = found.new("log")
    second = found.rotate("log")
    with pytest.raises(InvalidSignature):
        second.public_key().verify(first.sign(b"note"), b"note")


def test_every_change_is_an_event_with_who_did_it_and_the_first_start_is_none(tmp_path: Path) -> None:
    clock = HandClock()
    found = ring(tmp_path, clock)
    first = found.ensure("cards")
    assert found.events(0) == []
    second = found.new("cards", by="os:ann")
    found.rotate("cards", by="os:ben")
    third = found.revoke("cards", second.kid, by="os:cid")
    told = [(event.serial, event.action, event.kid, event.former, event.by) for event in found.events(0)]
    assert told == [
        (1, "keys.new", second.kid, "", "os:ann"),
        (2, "keys.rotate", second.kid, first.kid, "os:ben"),
        (3, "keys.rotate", third.kid, second.kid, "os:cid"),
        (4, "keys.revoke", second.kid, "", "os:cid"),
    ]
    assert [event.serial for event in found.events(2)] == [3, 4]


def document() -> dict[str, object]:
    entry = keytable.Entry("cards", keytable.kid_of(bytes(32)), bytes(32), 100)
    other = keytable.Entry("cards", keytable.kid_of(bytes([1] * 32)), bytes([1] * 32), 200)
    table = keytable.Table().added(entry, "").added(other, "os:ann").rotated("cards", 300, WEEK, "os:ann")
    assert keytable.read(keytable.write(table)) == table
    found = json.loads(keytable.write(table))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("keys", "purpose", "other"),
        ("keys", "kid", "AAAAAAAAAAAAAAAA"),
        ("keys", "x", "AAAA"),
        ("keys", "x", "!" * 43),
        ("keys", "x", "A" * 42 + "B"),  # the same bytes in another spelling
        ("keys", "made", -1),
        ("keys", "made", "100"),
        ("keys", "made", True),
        ("keys", "more", 1),
        ("keys", "retired", None),
        ("events", "serial", 7),
        ("events", "by", None),
        ("events", "more", ""),
    ],
)
def test_a_table_is_read_strictly(where: str, name: str, value: object) -> None:
    changed = document()
    changed[where][0][name] = value  # type: ignore[index]
    with pytest.raises(Malformed):
        keytable.read(json.dumps(changed).encode())


def test_a_table_with_two_keys_that_sign_is_damaged() -> None:
    changed = document()
    for key in changed["keys"]:  # type: ignore[attr-defined]
        key.pop("retired", None)
        key.pop("published_until", None)
    with pytest.raises(Malformed, match="more than one current"):
        keytable.read(json.dumps(changed).encode())
    changed["keys"] = [changed["keys"][0]] * 2  # type: ignore[index]
    with pytest.raises(Malformed):
        keytable.read(json.dumps(changed).encode())
