"""Secrets and keys in a vault, against a server of the published API's shape (vault_shape.py says what that proves)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

pytest.importorskip("hvac", reason="the extra `vault` is not installed")

from gateway import config
from gateway.assembly_keys import make_ring, open_vault
from gateway.core.tokens import Vouched
from gateway.log.note import LogKeys, VerifierKey
from gateway.log.verify import verify
from gateway.trust.jose import read_jwks, read_token, sign_compact
from gateway.trust.keys import KeyRing, KeyRingError
from gateway.trust.vault import ANSWER_BYTES, Vault, VaultFailed, VaultSettings
from tests.cli.rig_cli import write_log
from tests.trust.vault_shape import TOKEN, Shape, vault_shape


@pytest.fixture
def shape(tmp_path: Path) -> Iterator[Shape]:
    with vault_shape(tmp_path) as found:
        yield found


def opened(shape: Shape, token: str = TOKEN, **more: object) -> Vault:
    return Vault(VaultSettings(shape.url, token, ca=str(shape.ca), **more))  # type: ignore[arg-type]


def test_a_secret_is_the_field_of_its_newest_version(shape: Shape) -> None:
    shape.secrets["tollgate/weather"] = {"token": "from-the-vault", "other": "x"}
    assert opened(shape).read("tollgate/weather", "token") == "from-the-vault"
    assert shape.asked == [("GET", "/v1/secret/data/tollgate/weather", "", None)]


def test_a_namespace_and_another_mount_are_asked(shape: Shape) -> None:
    with pytest.raises(VaultFailed):
        opened(shape, namespace="teams/gateway", mount="kv/prod").read("a", "b")
    assert shape.asked == [("GET", "/v1/kv/prod/data/a", "teams/gateway", None)]


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({}, "is not in the vault"),
        ({"a": None}, "is not in the vault"),
        ({"a": {}}, "no text field b"),
        ({"a": {"b": 5}}, "no text field b"),
        ({"a": {"b": {"c": "canary-7f3a"}}}, "no text field b"),
    ],
)
def test_what_is_not_a_text_is_no_secret(shape: Shape, secrets: dict[str, dict[str, object] | None], said: str) -> None:
    shape.secrets.update(secrets)
    with pytest.raises(VaultFailed, match=said) as caught:
        opened(shape).read("a", "b")
    assert "canary" not in str(caught.value)


def test_a_token_that_may_not_says_so_and_is_not_quoted(shape: Shape) -> None:
    with pytest.raises(VaultFailed, match="may not use the secret a") as caught:
        opened(shape, token="hvs.wrong-canary").read("a", "b")
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(VaultSettings(shape.url, "canary"))


@pytest.mark.parametrize(
    "instead",
    [
        (200, b"not json", {}),
        (200, b"[]", {}),
        (200, b'{"data": {}}', {}),
        (500, b'{"errors": ["canary-7f3a"]}', {}),
        (503, b'{"errors": ["Vault is sealed"]}', {}),
        (302, b"", {"location": "/v1/secret/data/elsewhere"}),
        (200, b'{"data": {"data": {"b": "' + b"x" * ANSWER_BYTES + b'"}}}', {}),
    ],
    ids=["text", "list", "empty", "error", "sealed", "redirect", "large"],
)
def test_an_answer_of_another_kind_is_a_failure_with_a_name(
    shape: Shape, instead: tuple[int, bytes, dict[str, str]]
) -> None:
    shape.instead = lambda method, path: instead
    with pytest.raises(VaultFailed) as caught:
        opened(shape).read("a", "b")
    assert "canary" not in str(caught.value)
    assert ("larger than" in str(caught.value)) == (len(instead[1]) > ANSWER_BYTES)
    assert len(shape.asked) == 1, "nothing is followed or asked again"


def test_a_vault_that_is_not_there_or_has_another_certificate_is_a_failure(shape: Shape, tmp_path: Path) -> None:
    with pytest.raises(VaultFailed, match="does not answer"):
        Vault(VaultSettings("https://localhost:1", TOKEN, ca=str(shape.ca))).read("a", "b")
    with pytest.raises(VaultFailed, match="does not answer: SSLError"):
        Vault(VaultSettings(shape.url, TOKEN)).read("a", "b")
    assert shape.asked == []


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_no_proxy_of_the_environment_is_asked(shape: Shape, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    shape.secrets["a"] = {"b": "c"}
    assert opened(shape).read("a", "b") == "c"


def test_a_key_is_made_in_the_vault_and_signs_there(shape: Shape) -> None:
    vault = opened(shape)
    reference, public = vault.make("tollgate-log")
    assert reference == "tollgate-log:1"
    again, other = vault.make("tollgate-log")
    assert again == "tollgate-log:2"
    assert public != other
    first, second = shape.keys["tollgate-log"]
    assert vault.sign(reference, b"text") == first.sign(b"text")
    assert vault.sign(again, b"text") == second.sign(b"text")
    created = [
        body for method, path, _, body in shape.asked if (method, path) == ("POST", "/v1/transit/keys/tollgate-log")
    ]
    assert created == [{"type": "ed25519", "exportable": False}]


def test_a_key_of_another_kind_is_refused(shape: Shape) -> None:
    shape.keys["mine"], shape.kind = [Ed25519PrivateKey.generate()], "rsa-2048"
    with pytest.raises(VaultFailed, match="not an ed25519 key"):
        opened(shape).make("mine")
    assert len(shape.keys["mine"]) == 1


@pytest.mark.parametrize(
    "signature", ["vault:v2:" + "A" * 86 + "==", "vault:v1:AAAA", "v1:" + "A" * 86 + "==", "", None, "vault:v1:\u00fc"]
)
def test_a_signature_of_another_version_or_size_is_none(shape: Shape, signature: str | None) -> None:
    vault = opened(shape)
    reference, _ = vault.make("mine")
    shape.instead = lambda method, path: (200, json.dumps({"data": {"signature": signature}}).encode(), {})
    with pytest.raises(VaultFailed):
        vault.sign(reference, b"text")


CONFIGURATION = """\
node: gw-1
vault: {{url: "{url}", token: {{env: VAULT_TOKEN}}, ca: "{ca}"}}
keys: {{passphrase: {{vault: "tollgate/keys#passphrase"}}, transit: {{log: tollgate-log}}}}
upstreams:
  files:
    url: http://127.0.0.1:9
    protocol: http
    credentials: {{header: x-key, value: {{vault: "tollgate/files#key"}}}}
"""


@pytest.fixture
def written(shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIGURATION.format(url=shape.url, ca=shape.ca))
    shape.secrets["tollgate/keys"] = {"passphrase": "correct horse"}
    shape.secrets["tollgate/files"] = {"key": "kept-in-the-vault"}
    return path


def loaded(path: Path) -> config.Settings:
    return config.load(path, {"VAULT_TOKEN": TOKEN}, vault=open_vault)


def test_any_secret_of_the_configuration_may_be_in_the_vault(shape: Shape, written: Path) -> None:
    settings = loaded(written)
    credentials = settings.upstreams["files"].credentials
    assert credentials is not None
    assert [secret.reveal() for secret in credentials.secrets()] == ["kept-in-the-vault"]
    assert "kept-in-the-vault" not in repr(settings)
    shape.secrets["tollgate/files"] = {"key": "another"}
    assert loaded(written) != settings, "a reload sees that it changed"


def test_a_secret_that_the_vault_does_not_give_is_an_error_with_its_place(shape: Shape, written: Path) -> None:
    del shape.secrets["tollgate/files"]
    with pytest.raises(config.ConfigError) as caught:
        loaded(written)
    [problem] = caught.value.problems
    assert "upstreams.files.credentials.value.vault" in str(problem)
    assert "the secret tollgate/files is not in the vault" in str(problem)


def test_without_secrets_the_vault_is_not_asked(shape: Shape, written: Path) -> None:
    config.load(written, {}, secrets=False)
    assert shape.asked == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("https://", "http://vault.example:1/"), "secrets over plain http"),
        (("vault: {url", "# vault: {url"), "there is no vault"),
        (("token: {env: VAULT_TOKEN}", 'token: {vault: "a#b"}'), "not a secret"),
        (('"tollgate/files#key"', "tollgate/files"), "not a path in a vault and a field"),
        (('"tollgate/files#key"', '"../sys/seal#key"'), "not a path in a vault and a field"),
        (("log: tollgate-log", "cards: tollgate-cards"), "cards"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    shape: Shape, written: Path, change: tuple[str, str], said: str
) -> None:
    written.write_text(written.read_text().replace(*change))
    with pytest.raises(config.ConfigError, match=said):
        loaded(written)
    assert all("sys" not in path for _, path, _, _ in shape.asked)


def test_the_rings_keys_of_a_purpose_are_made_and_sign_in_the_vault_and_rotate_there(
    shape: Shape, written: Path
) -> None:
    ring = make_ring(loaded(written), lambda: 1e9)
    first = ring.ensure("log")
    second = ring.rotate("log", by="os:ann")
    assert [key.entry.transit for key in ring.list("log")] == ["tollgate-log:1", "tollgate-log:2"]
    assert not list(Path("var/keys").glob("log-*.pem"))
    for key in (first, second):
        key.public_key().verify(key.sign(b"x"), b"x")
    files = ring.ensure("cards")
    assert files.private is not None
    assert [path.name for path in Path("var/keys").glob("*.pem")] == [f"cards-{files.kid}.pem"]
    again = make_ring(loaded(written), lambda: 1e9).current("log")
    assert again is not None
    assert again.sign(b"x") == second.sign(b"x")


def test_a_token_signed_in_the_vault_is_one_like_any_other(shape: Shape, written: Path) -> None:
    written.write_text(written.read_text().replace("log: tollgate-log", "tokens: mine"))
    ring = make_ring(loaded(written), lambda: 1e9)
    token = sign_compact({"sub": "x"}, ring.ensure("tokens").signer()).encode()
    known = read_jwks(json.dumps(ring.jwks()).encode())
    assert isinstance(known.verify(read_token(token), frozenset({"EdDSA"})), Vouched)


def test_a_log_signed_in_the_vault_verifies(shape: Shape, written: Path) -> None:
    key = make_ring(loaded(written), lambda: 1e9).ensure("log")
    vkey = write_log(Path("var"), LogKeys((key,)), 3)
    assert vkey == str(VerifierKey.of("gw-1", key.public_key()))
    assert verify(Path("var/log"), [vkey]).ok
    assert any(path == "/v1/transit/sign/tollgate-log" for _, path, _, _ in shape.asked)


def test_a_signature_by_another_key_of_the_vault_is_not_passed_on(shape: Shape, written: Path) -> None:
    key = make_ring(loaded(written), lambda: 1e9).ensure("log")
    shape.keys["tollgate-log"] = [Ed25519PrivateKey.generate()]
    with pytest.raises(OSError, match="not of the log key"):
        key.sign(b"x")


def test_a_vault_that_is_away_refuses_new_keys_and_a_ring_without_one_its_keys(shape: Shape, written: Path) -> None:
    settings = loaded(written)
    ring = make_ring(settings, lambda: 1e9)
    made = ring.ensure("log")
    with pytest.raises(KeyRingError, match="in a vault"):
        KeyRing(settings.data_dir / "keys", passphrase=b"correct horse")
    assert [key.kid for key in KeyRing(settings.data_dir / "keys", private=False).list("log")] == [made.kid]
    shape.instead = lambda method, path: (503, b'{"errors": ["Vault is sealed"]}', {})
    with pytest.raises(KeyRingError, match="no new log key"):
        ring.rotate("log")
    assert ring.current("log") == made
