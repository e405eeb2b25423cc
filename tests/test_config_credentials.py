"""The keys by which the gateway is admitted at upstreams, asks for scopes, or lets an upstream ask for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.config import ConfigError

NO_PLACES = [
    "secret/tokens", "callers/ann#token", "{subject}", "callers/x{subject}#token", "callers/{subject}x#token",
    "{subject}/{subject}#token", "../{subject}#token", "/{subject}#token", "a//{subject}#token", "{subject}/..#token",
    "a%2fb/{subject}#token", "{agent}#token",
]  # fmt: skip
FETCHED = "token_url: https://idp.example/t, client_id: gw, client_secret: {env: SECRET}"


def text(upstream: str = "", route: str = "", credentials: str = "") -> str:
    given = f", credentials: {{{credentials}}}" if credentials else ""
    return f"""\
policy: {{bundle: policies}}
upstreams:
  shop: {{url: "https://shop.example/mcp", protocol: mcp{given}{", " + upstream if upstream else ""}}}
routes:
  - {{name: shop, match: {{path: /shop}}, upstream: shop{", " + route if route else ""}}}
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policies").mkdir()
    Path("tokens.yaml").write_text("")


def read(document: str) -> config.Settings:
    return config.read(document, "gateway.yaml", {"SECRET": "canary-1f"})


def only(document: str) -> str:
    with pytest.raises(ConfigError) as told:
        read(document)
    assert "canary-1f" not in str(told.value)
    return str(told.value)


def test_there_are_four_ways_and_a_secret_of_each_prints_nowhere() -> None:
    ways = [
        "value: {env: SECRET}",
        f"client_credentials: {{{FETCHED}}}",
        f"token_exchange: {{{FETCHED}, actor: {{env: SECRET}}}}",
        "per_caller: {file: tokens.yaml}",
    ]
    for way, secrets in zip(ways, (1, 1, 2, 0), strict=True):
        found = read(text(credentials=way)).upstreams["shop"].credentials
        assert found is not None
        assert found.header == "Authorization"
        assert [secret.reveal() for secret in found.secrets()] == ["canary-1f"] * secrets
        assert "canary-1f" not in repr(found)
    own = read(text(credentials=f"token_exchange: {{{FETCHED}, actor: own}}")).upstreams["shop"].credentials
    assert own is not None
    assert own.token_exchange is not None
    assert own.token_exchange.actor == "own"


@pytest.mark.parametrize(
    "credentials",
    [
        "header: X-Key",
        "value: {env: SECRET}, per_caller: {file: tokens.yaml}",
        f"client_credentials: {{{FETCHED}}}, token_exchange: {{{FETCHED}}}",
    ],
)
def test_exactly_one_way_is_needed(credentials: str) -> None:
    assert "exactly one of value, client_credentials, token_exchange, per_caller" in only(text(credentials=credentials))


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        (f"scheme: Token, client_credentials: {{{FETCHED}}}", "a fetched token is sent as Bearer"),
        (f"client_credentials: {{{FETCHED.replace('https', 'http')}}}", "secrets and tokens over plain http"),
        (f"token_exchange: {{{FETCHED.replace('https', 'http')}}}", "secrets and tokens over plain http"),
        (f"token_exchange: {{{FETCHED}, actor: theirs}}", "actor"),
        (f"client_credentials: {{{FETCHED}, scope: 'a  b'}}", "scope"),
        (f"header: Host, client_credentials: {{{FETCHED}}}", "the gateway sets itself"),
        ("per_caller: {file: nowhere.yaml}", "no such file"),
        ("per_caller: {vault: 'callers/{subject}#token'}", "there is no vault to read it from"),
        ("per_caller: {file: tokens.yaml, vault: 'callers/{subject}#token'}", "exactly one of file, vault"),
        ("per_caller: {refresh: 5m}", "exactly one of file, vault"),
        *((f"per_caller: {{vault: '{place}'}}", "not a path in a vault with {subject}") for place in NO_PLACES),
        (f"client_credentials: {{{FETCHED.replace('{env: SECRET}', 'plain')}}}", "never stands in the configuration"),
    ],
)
def test_what_cannot_be_meant_is_refused(credentials: str, said: str) -> None:
    assert said in only(text(credentials=credentials))


def test_plain_http_is_for_a_token_endpoint_on_this_machine() -> None:
    read(text(credentials=f"client_credentials: {{{FETCHED.replace('https://idp.example', 'http://127.0.0.1:9')}}}"))


@pytest.mark.parametrize("credentials", [f"token_exchange: {{{FETCHED}}}", "per_caller: {file: tokens.yaml}"])
def test_what_is_done_for_each_caller_needs_callers(credentials: str) -> None:
    assert "credentials for each caller" in only(text(route="auth: anonymous", credentials=credentials))


def test_a_transparent_upstream_is_written_out_twice() -> None:
    assert "asks its callers itself" in only(text("auth: transparent"))
    found = read(text("auth: transparent", "auth: anonymous"))
    assert found.upstreams["shop"].auth == "transparent"


@pytest.mark.parametrize(
    "credentials",
    ["value: {env: SECRET}", f"client_credentials: {{{FETCHED}}}", "header: X-A, per_caller: {file: tokens.yaml}"],
)
def test_a_transparent_upstream_has_no_authorization_of_ours(credentials: str) -> None:
    said = only(text("auth: transparent", "auth: anonymous", credentials))
    assert "credentials beside auth: transparent" in said
    read(text("auth: transparent", "auth: anonymous", "header: X-Ours, value: {env: SECRET}"))


def test_a_resource_is_what_a_transparent_upstream_calls_itself() -> None:
    assert "a resource without auth: transparent" in only(text("resource: https://mcp.example/mcp"))
    read(text("auth: transparent, resource: https://mcp.example/mcp", "auth: anonymous"))


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("auth: anonymous, scopes: [a]", "scopes of callers who need no credential"),
        ("auth: anonymous, action_scopes: {mcp.tools/call: [a]}", "scopes of callers who need no credential"),
        ("scopes: [offline_access]", "offline_access is no scope of a resource"),
        ("action_scopes: {mcp.tools/call: [a, offline_access]}", "offline_access is no scope of a resource"),
        ("action_scopes: {tools/call: [a]}", "cannot be used"),
        ("action_scopes: {http.GET: [a]}", "no action of mcp"),
        ("action_scopes: {mcp.tool/call: [a]}", "did you mean mcp.tools/call?"),
        ("action_scopes: {mcp.tools/Call: [a]}", "did you mean mcp.tools/call?"),
        ("action_scopes: {mcp.zzz: [a]}", "no action of mcp; write mcp..."),
        ("scopes: ['a b']", "not a scope"),
        ("scopes: ['a\"b']", "not a scope"),
    ],
)
def test_scopes_are_asked_for_where_somebody_is_asked(route: str, said: str) -> None:
    assert said in only(text(route=route))
    read(text(route="scopes: [a], action_scopes: {mcp.tools/call: [b, c]}"))
