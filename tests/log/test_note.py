"""Signed notes, keys, checkpoints and proofs as text: one spelling each, and only the right key counts."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Malformed
from gateway.log.note import Checkpoint, Note, Proof, VerifierKey, parse_skey, sign_note, skey

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
CHECKPOINT = Checkpoint("gw.example/log", 7, bytes(32))


def test_keys_come_back_from_their_text() -> None:
    key = VerifierKey.of("gw.example", KEY)
    assert VerifierKey.parse(str(key)) == key
    name, private = parse_skey(skey("gw.example", KEY))
    assert (name, VerifierKey.of(name, private)) == ("gw.example", key)


@pytest.mark.parametrize(
    "text", ["", "gw", "gw+12345678", "gw+00000000+AQ==", "gw+zz+" + base64.b64encode(b"\x01" + bytes(32)).decode()]
)
def test_what_is_no_vkey_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        VerifierKey.parse(text)


def test_a_vkey_of_another_algorithm_is_refused() -> None:
    text = str(VerifierKey.of("gw", KEY))
    data = bytearray(base64.b64decode(text.split("+", 2)[2]))
    data[0] = 2
    with pytest.raises(Malformed):
        VerifierKey.parse("+".join([*text.split("+", 2)[:2], base64.b64encode(bytes(data)).decode()]))


def test_a_vkey_whose_id_is_of_another_name_is_refused() -> None:
    with pytest.raises(Malformed, match="id"):
        VerifierKey.parse(str(VerifierKey.of("gw", KEY)).replace("gw+", "wg+", 1))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb"])
def test_a_key_name_with_a_space_or_a_plus_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        VerifierKey.of(name, KEY)


def test_only_the_key_that_signed_verifies() -> None:
    note = Note.parse(CHECKPOINT.signed(KEY))
    right, wrong = VerifierKey.of("gw.example/log", KEY), VerifierKey.of("gw.example/log", OTHER)
    assert note.signer([wrong, right]) == right
    assert note.signer([wrong]) is None
    assert note.signer([VerifierKey.of("another", KEY)]) is None
    assert Checkpoint.parse(note.text) == CHECKPOINT


def test_a_second_signature_is_ignored_if_unknown_and_judged_if_known() -> None:
    mine, theirs = CHECKPOINT.signed(KEY), sign_note(CHECKPOINT.text, "witness", OTHER)
    both = mine + theirs.rpartition(b"\n\n")[2]
    keys = [VerifierKey.of("gw.example/log", KEY)]
    assert Note.parse(both).signer(keys) == keys[0]
    broken = mine + sign_note("other text\n", "witness", OTHER).rpartition(b"\n\n")[2]
    assert Note.parse(broken).signer(keys) == keys[0]
    assert Note.parse(broken).signer([*keys, VerifierKey.of("witness", OTHER)]) is None


@given(st.integers(0, len(CHECKPOINT.signed(KEY)) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_checkpoint_passes(at: int, flip: int) -> None:
    data = bytearray(CHECKPOINT.signed(KEY))
    data[at] ^= flip
    try:
        signer = Note.parse(bytes(data)).signer([VerifierKey.of("gw.example/log", KEY)])
    except Malformed:
        signer = None
    assert signer is None


def test_base64_has_one_spelling() -> None:
    """The last letter before the padding has bits that mean nothing; they must be zero."""
    note = CHECKPOINT.signed(KEY)
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = note.rindex(b"=") - 1
    with pytest.raises(Malformed, match="canonical"):
        Note.parse(note[:at] + bytes([letters[letters.index(note[at]) ^ 1]]) + note[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        b"gw\n7\n\n",
        b"gw\n07\n" + base64.b64encode(bytes(32)) + b"\n",
        b"gw\n+7\n" + base64.b64encode(bytes(32)) + b"\n",
        b"gw\n7\n" + base64.b64encode(bytes(31)) + b"\n",
        b"\n7\n" + base64.b64encode(bytes(32)) + b"\n",
        b"gw\n7\n" + base64.b64encode(bytes(32)),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(text)


def test_extension_lines_are_let_through() -> None:
    assert Checkpoint.parse(CHECKPOINT.text.encode() + b"more\n") == CHECKPOINT


@given(st.integers(0, 2**40), st.lists(st.binary(min_size=32, max_size=32), max_size=40), st.binary(max_size=50))
def test_proofs_come_back_from_their_text(index: int, hashes: list[bytes], extra: bytes) -> None:
    proof = Proof(index, tuple(hashes), CHECKPOINT.signed(KEY), extra)
    assert Proof.parse(str(proof)) == proof


def test_a_proof_reads_as_the_specification_says() -> None:
    text = str(Proof(5, (bytes(32), bytes(31) + b"\x01"), b"note\n", b"more"))
    zeros = "A" * 43 + "="
    assert text == f"c2sp.org/tlog-proof@v1\nextra bW9yZQ==\nindex 5\n{zeros}\n{zeros[:-2]}E=\n\nnote\n"


@pytest.mark.parametrize(
    "text",
    ["", "c2sp.org/tlog-proof@v2\nindex 0\n\nnote\n", "c2sp.org/tlog-proof@v1\n\nnote\n"]
    + [f"c2sp.org/tlog-proof@v1\nindex {index}\n\nnote\n" for index in ("-1", "01", "x", "", "1 ")]
    + ["c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nnote\n", "c2sp.org/tlog-proof@v1\nindex 0\n"],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        Proof.parse(text)
