"""Tokens that are kept for each caller: whose they are, and which file is believed."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.exchange import Principal
from gateway.core.reasons import Reason, Refusal
from gateway.identity.kept_tokens import KeptTokenError, KeptTokens
from gateway.pdp.yamldata import parse_yaml
from tests.stages.exchanges import ANN, exchange


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def kept(path: Path, scheme: str = "Bearer", header: str = "Authorization") -> KeptTokens:
    return KeptTokens(path, header, scheme, lambda data: parse_yaml(data.decode()))


def shown(tokens: KeptTokens, principal: Principal | None) -> object:
    return tokens.headers(exchange(principal=principal))


def test_each_caller_is_shown_as_itself_and_nobody_else(tmp_path: Path) -> None:
    tokens = kept(written(tmp_path, "user:idp/ann: anns-token\nkey:ci: cis-token\n"))
    assert shown(tokens, ANN) == ((b"authorization", b"Bearer anns-token"),)
    assert shown(tokens, Principal("key:ci", "agent")) == ((b"authorization", b"Bearer cis-token"),)
    for stranger in ("user:idp/Ann", "user:idp/ann ", "user:idp/an", "agent:idp/ann", "anonymous", ""):
        found = shown(tokens, replace(ANN, id=stranger))
        assert isinstance(found, Refusal)
        assert (found.reason, found.rule) == (Reason.DENIED, "no_kept_token")
        assert "token" not in found.text.replace("No token is kept", "")
    assert isinstance(shown(tokens, None), Refusal)


def test_a_token_may_go_into_another_header_as_it_stands(tmp_path: Path) -> None:
    tokens = kept(written(tmp_path, "user:idp/ann: raw\n"), "", "X-Upstream-Key")
    assert shown(tokens, ANN) == ((b"x-upstream-key", b"raw"),)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeptTokenError, match="chmod 600"):
        kept(written(tmp_path, "user:idp/ann: secret-1\n", mode))


@pytest.mark.parametrize(
    "text",
    ["- secret-1", "secret-1", "a: [secret-1]", "a: {b: secret-1}", 'a: ""', 'a: " secret-1"', 'a: "secret-1\\n"',
     'a: "secret-1\\r\\nx: y"', "a: 7", "a: null", "a: secret-1\na: secret-2", '"": secret-1', '"a\\u0000": secret-1',
     'a: "secret-1\\u00fc"', "a: &x secret-1\nb: *x", "a: [", "\ta: secret-1"],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused_whole_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeptTokenError) as told:
        kept(written(tmp_path, "user:idp/ann: anns-token\n" + text if text[0] in 'a"' else text))
    assert "secret" not in str(told.value)
    assert "anns-token" not in str(told.value)


def test_a_changed_file_is_read_again_and_a_bad_one_leaves_the_former_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "user:idp/ann: one\n")
    tokens = kept(path)
    written(tmp_path, "user:idp/ann: two-and-longer\n")
    tokens.poll()
    assert shown(tokens, ANN) == ((b"authorization", b"Bearer two-and-longer"),)
    with caplog.at_level(logging.WARNING):
        for bad in ("user:idp/ann: [secret-1]\n", "a: &x secret-1\n"):
            written(tmp_path, bad)
            tokens.poll()
            assert shown(tokens, ANN) == ((b"authorization", b"Bearer two-and-longer"),)
            assert tokens.problem
        path.chmod(0o644)
        tokens.poll()
        assert "chmod" in tokens.problem
        path.unlink()
        tokens.poll()
    assert "secret-1" not in caplog.text
    written(tmp_path, "key:ci: other\n")
    tokens.poll()
    assert isinstance(shown(tokens, ANN), Refusal)
    assert tokens.problem == ""


def test_an_empty_file_is_nobodys_token(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert os.stat(path).st_size == 0
    assert isinstance(shown(kept(path), ANN), Refusal)
