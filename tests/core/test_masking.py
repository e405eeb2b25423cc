"""Secrets are found by their names, by configured paths and by their looks, and nothing of them is kept."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.core.masking import Masker, Masking, describe, luhn, parse_paths, places

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp\n-----END PRIVATE KEY-----"
TG = "tg_ann_" + "Zx9-_" * 8 + "abc"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Passwd",
        "db_password",
        "dbPassword",
        "client-secret",
        "clientSecret",
        "secret",
        "token",
        "accessToken",
        "refresh_token",
        "X-Api-Key",
        "apiKey",
        "apikey",
        "api_key",
        "private_key",
        "Authorization",
        "cookie",
        "cvv",
        "aws_secret_access_key",
        "card_number",
        "credentials",
        "auth",
        "passphrase",
        "session_key",
        "SECRET",
        "API_KEY",
    ],
)
def test_a_member_named_like_a_secret_is_one(name: str) -> None:
    assert Masker().secret(name)
    found, masked = Masker().mask({name: "hunter2 hunter2"})
    assert found == {name: {"masked": "name", "type": "string", "chars": 15}}
    assert masked == [(name,)]


@pytest.mark.parametrize(
    "name", ["city", "max_tokens", "prompt_tokens", "secretary", "keyboard", "author", "key", "tokenizer", "passenger"]
)
def test_other_names_are_none(name: str) -> None:
    assert not Masker().secret(name)
    assert Masker().mask({name: "Oslo"}) == ({name: "Oslo"}, [])


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        (JWT, "jwt"),
        (PEM, "private_key"),
        (TG, "api_key"),
        ("sk-ant-" + "api03-" + "A1b2C3d4" * 4, "api_key"),
        ("ghp_" + "a1B2" * 9, "api_key"),
        ("AKIA" + "ABCDEFGH12345678", "api_key"),
        ("4111 1111 1111 1111", "card"),
        ("5555-5555-5555-4444", "card"),
        ("378282246310005", "card"),
    ],
)
def test_what_looks_like_a_secret_is_masked_alone_and_within_text(secret: str, what: str) -> None:
    found, masked = Masker().mask({"note": [secret, f"here: {secret} and more"]})
    assert found == {
        "note": [
            {"masked": what, "type": "string", "chars": len(secret)},
            f"here: [masked {what} {len(secret)}] and more",
        ]
    }
    assert masked == [("note", "0"), ("note", "1")]


@pytest.mark.parametrize(
    "text",
    [
        '{"user":"ann","password":"my pass word"}',
        '{\\"password\\":\\"my pass word\\"}',
        "{'password': 'my pass word'}",
        "mysql --password='my pass word' -u ann",
        "password=my&x=1",
        "GET /x?access_token=my",
        "Authorization: Bearer mypassword12",
    ],
)
def test_secrets_within_text_are_found_by_the_name_before_them(text: str) -> None:
    found, masked = Masker().mask({"text": text})
    assert " pass word" not in json.dumps(found), found
    assert "=my" not in json.dumps(found), found
    assert "mypassword" not in json.dumps(found)
    assert masked == [("text",)]


def test_numbers_are_cards_by_their_check_digit_only() -> None:
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    found, masked = Masker().mask({"a": 4111111111111111, "b": 4111111111111112, "c": 1700000000000, "d": True})
    assert found == {
        "a": {"masked": "card", "type": "number", "chars": 16}, "b": 4111111111111112, "c": 1700000000000, "d": True,
    }  # fmt: skip
    assert masked == [("a",)]


def test_addresses_are_masked_when_asked() -> None:
    text = "write to ann@mail.example today"
    assert Masker().mask({"to": text}) == ({"to": text}, [])
    found, masked = Masker(Masking(emails=True)).mask({"to": text})
    assert (found, masked) == ({"to": "write to [masked email 16] today"}, [("to",)])


def test_configured_paths_and_names_are_masked_and_a_star_is_any_one() -> None:
    masking = Masking(parse_paths(["context.arguments.customer.*", "context.arguments.lines.*.iban"]), ("Birth-Day",))
    document: Any = {
        "context": {
            "arguments": {
                "customer": {"name": "Ann", "address": {"city": "Oslo"}},
                "lines": [{"iban": "NO93", "sum": 1}, {"sum": 2}],
                "birthday": "1970-01-01",
                "city": "Oslo",
            }
        }
    }
    before = json.dumps(document)
    found, masked = Masker(masking).mask(document)
    assert json.dumps(document) == before
    assert found == {
        "context": {
            "arguments": {
                "customer": {
                    "name": {"masked": "path", "type": "string", "chars": 3},
                    "address": {"masked": "path", "type": "object", "members": 1},
                },
                "lines": [{"iban": {"masked": "path", "type": "string", "chars": 4}, "sum": 1}, {"sum": 2}],
                "birthday": {"masked": "name", "type": "string", "chars": 10},
                "city": "Oslo",
            }
        }
    }
    assert places(describe(masked)) == tuple(sorted(masked))
    assert len(masked) == 4


def test_a_name_that_is_a_secret_itself_is_not_kept() -> None:
    found, masked = Masker().mask({"keys": {TG: 1}})
    assert TG not in json.dumps(found)
    assert masked == [("keys",)]


def test_a_capture_that_does_not_say_what_it_masked_masked_everything() -> None:
    assert places(None) == ((),)
    assert places([["a"], "b"]) == ((),)
    assert places([]) == ()


def test_what_is_hard_to_read_costs_no_more_than_its_length() -> None:
    """A caller must not be able to stop the gateway with a text."""
    masker = Masker(Masking(emails=True))
    size = 128 * 1024
    for unit in (
        'token:"',
        "eyJ",
        "a@",
        "4",
        "4 ",
        "-----BEGIN PRIVATE KEY-----",
        "password",
        'token:\\"',
        "sk-",
        "x@a.",
    ):
        began = time.process_time()
        masker.text(unit * (size // len(unit)))
        assert time.process_time() - began < 1.0, unit
