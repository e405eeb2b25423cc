"""The configuration: read strictly, every error with file, line and key, secrets that never show."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Address, ConfigError, Rate, Secret, Settings, json_schema, load, read, read_plain, reference
from gateway.config_schema import Either, ListOf, MapOf, Of, OrWord
from gateway.identity.apikey import ApiKeys, mint
from gateway.identity.claims import path

REPOSITORY = Path(__file__).resolve().parent.parent
MINIMAL = """\
upstreams:
  weather: {url: "http://127.0.0.1:9001/mcp", protocol: mcp}
routes:
  - {name: weather, match: {path: /weather}, upstream: weather}
"""


@pytest.fixture(autouse=True)
def _a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)


def settings(text: str, **environ: str) -> Settings:
    return read(text, "gateway.yaml", environ)


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, "gateway.yaml", environ)
    return [str(problem) for problem in caught.value.problems]


def only(text: str, **environ: str) -> str:
    [problem] = problems(text, **environ)
    return problem


def test_an_empty_file_gives_the_documented_defaults() -> None:
    found = settings("")
    assert (found.listen, found.public_url) == (Address("127.0.0.1", 8080), "http://127.0.0.1:8080")
    assert found.admin.public_url == "http://127.0.0.1:8081"
    assert (found.front.header_bytes, found.front.judged_body_bytes, found.drain) == (32768, 4194304, 30.0)
    assert (found.policy.timeout, found.audit.checkpoint.records, found.routes) == (0.25, 1000, ())


def test_a_route_gets_the_body_its_protocol_asks_for() -> None:
    text = MINIMAL.replace("routes:", "  files: {url: http://127.0.0.1:9002, protocol: http}\nroutes:")
    found = settings(text + "  - {name: files, match: {path: /files}, upstream: files}\n")
    assert [(route.name, route.body) for route in found.routes] == [("weather", "json"), ("files", "opaque")]


def test_everything_wrong_is_told_at_once_in_order_with_file_line_and_key() -> None:
    text = "listen: 8080\nfront: {headers: many, body_bytes: 4MB}\nrouts: []\ndrain: 30\n"
    found = problems(text)
    assert [item.split(": ")[:2] for item in found] == [
        ["gateway.yaml:1", "listen"],
        ["gateway.yaml:2", "front.headers"],
        ["gateway.yaml:2", "front.body_bytes"],
        ["gateway.yaml:3", "routs"],
        ["gateway.yaml:4", "drain"],
    ]
    assert "did you mean routes?" in found[3]


def test_a_duplicate_key_is_an_error_that_names_both_lines() -> None:
    assert only("drain: 30s\nfront: {}\ndrain: 10s\n") == (
        "gateway.yaml:3: drain: the key is there twice, first in line 1; keep one of them"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts: &a []\norigins: []\n", "anchors"),
        ("hosts: &a []\norigins: *a\n", "aliases"),
        ("drain: !!str 30s\n", "tags"),
        ("front: {<<: {}}\n", "merges"),
        ("%YAML 1.1\n---\ndrain: 30s\n", "directives"),
        ("drain: 30s\n---\ndrain: 10s\n", "second document"),
        ("1: 2\n", "a key must be a string"),
        ("- a\n", "a list where a section is expected"),
        ("front: [\n", "not YAML"),
        ("drain: 30s\x07\n", "control character"),
        ("node: 'a\u2028b'\n", "invisible line separator"),
        ("hosts: " + "[" * 60 + "]" * 60 + "\n", "deeper than 32 levels"),
    ],
)
def test_what_two_yaml_readers_could_understand_differently_is_refused(text: str, said: str) -> None:
    assert any(said in problem for problem in problems(text))


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    found = settings("node: yes\nfront: {headers: 010, exchanges: 0x10}\n")
    assert (found.node, found.front.headers, found.front.exchanges) == ("yes", 10, 16)
    assert "a truth value" in only("node: true\n")


def test_an_http_version_without_quotes_says_that_quotes_are_missing() -> None:
    assert "in quotes" in only(MINIMAL.replace("protocol: mcp", "protocol: mcp, http: 1.1"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("sso: {}", "sso"),
        ("events: nats://127.0.0.1", "events"),
        ("stores: {records: postgresql://127.0.0.1}", "stores.records"),
        ("audit: {sinks: []}", "audit.sinks"),
    ],
)
def test_a_key_of_a_later_version_is_refused_by_name(text: str, key: str) -> None:
    problem = only(text + "\n")
    assert f" {key}: " in problem
    assert "not in this version" in problem


@pytest.mark.parametrize(
    ("value", "seconds"), [("250ms", 0.25), ("30s", 30.0), ("5m", 300.0), ("2h", 7200.0), ("1d", 86400.0)]
)
def test_a_duration_has_its_unit(value: str, seconds: float) -> None:
    assert settings(f"drain: {value}\n").drain == seconds


@pytest.mark.parametrize("value", ["30", "30 s", "-1s", "1.5s", "1w", "0s", "s", "''", "[30s]"])
def test_anything_else_is_no_duration(value: str) -> None:
    assert " drain: " in only(f"drain: {value}\n")


@pytest.mark.parametrize("value", ["4MB", "64", "64kib", "1.5MiB", "0B", "9999GiB"])
def test_a_size_is_written_in_binary_units_only(value: str) -> None:
    assert " front.body_bytes: " in only(f"front: {{body_bytes: {value}}}\n")


def test_a_limit_has_a_rate_or_a_concurrency_and_known_keys() -> None:
    head = "limits:\n  - {name: a, key: [subject.id]"
    assert settings(head + ", rate: 100/minute, burst: 20}\n").limits[0].rate == Rate(100, 60)
    assert settings(head + ", concurrent: 5}\n").limits[0].concurrent == 5
    assert "exactly one of rate, concurrent" in only(head + "}\n")
    assert "exactly one of rate, concurrent" in only(head + ", rate: 1/second, concurrent: 5}\n")
    assert "burst belongs to rate" in only(head + ", concurrent: 5, burst: 2}\n")
    assert "not a rate" in only(head + ", rate: 100/fortnight}\n")
    assert "limits.a.key[0]" in only("limits:\n  - {name: a, key: [subject.name], concurrent: 5}\n")


def test_the_environment_overrides_any_key_and_elements_of_lists_by_their_name() -> None:
    found = settings(
        MINIMAL,
        TOLLGATE__admin__listen="127.0.0.1:9091",
        TOLLGATE__routes__weather__auth="anonymous",
        TOLLGATE__upstreams__weather__http="2",
        TOLLGATE__hosts="[gw.example, other.example]",
        TOLLGATE__front__headers="50",
        TOLLGATE__upstreams__other="{url: 'http://127.0.0.1:1', protocol: http}",
        TOLLGATE_LISTEN="not ours",
    )
    assert found.admin.listen.port == 9091
    assert (found.routes[0].auth, found.upstreams["weather"].http) == ("anonymous", "2")
    assert (found.hosts, found.front.headers) == (("gw.example", "other.example"), 50)
    assert found.upstreams["other"].protocol == "http"


@pytest.mark.parametrize(
    "variable",
    [
        "TOLLGATE__admin__lissten",
        "TOLLGATE__routes__nobody__auth",
        "TOLLGATE__drain__x",
        "TOLLGATE__",
        "TOLLGATE__a____b",
    ],
)
def test_an_unknown_override_is_an_error_that_names_the_variable(variable: str) -> None:
    text = MINIMAL + "drain: 30s\n"
    assert only(text, **{variable: "anonymous"}).startswith(f"environment {variable}: ")


def test_a_secret_comes_from_the_environment_or_a_file_only() -> None:
    Path("token").write_text("from-a-file\n")
    text = MINIMAL.replace("protocol: mcp", "protocol: mcp, credentials: {header: Authorization, value: VALUE}")

    def value(reference: str, **environ: str) -> str:
        found = settings(text.replace("VALUE", reference), **environ).upstreams["weather"].credentials
        assert found is not None
        assert found.value is not None
        return found.value.reveal()

    assert value("{env: WEATHER}", WEATHER="from-the-environment") == "from-the-environment"
    assert value("{file: token}") == "from-a-file"
    plain = only(text.replace("VALUE", "canary-7f3a"))
    assert "never stands in the configuration" in plain
    assert "canary" not in plain
    assert "not a path in a vault and a field" in only(text.replace("VALUE", "{vault: secret/weather}"))
    assert "there is no vault" in only(text.replace("VALUE", "{vault: 'secret/weather#token'}"))
    assert "WEATHER is not set" in only(text.replace("VALUE", "{env: WEATHER}"))
    assert "cannot be read" in only(text.replace("VALUE", "{file: nowhere}"))
    assert "not a secret" in only(text.replace("VALUE", "{env: A, file: b}"))
    read(text.replace("VALUE", "{env: WEATHER}"), "gateway.yaml", {}, secrets=False)


def test_a_credential_that_would_break_the_request_head_is_refused_unseen() -> None:
    text = MINIMAL.replace("protocol: mcp", "protocol: mcp, credentials: {header: x-key, value: {env: WEATHER}}")
    problem = only(text, WEATHER="canary\r\nhost: evil")
    assert "no header may have" in problem
    assert "canary" not in problem
    assert "the gateway sets itself" in only(text.replace("x-key", "Host"), WEATHER="a")


def test_a_secret_never_prints_copies_or_pickles() -> None:
    secret = Secret("environment WEATHER", value="canary-7f3a")
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>80}",
        str(copy.deepcopy([secret])),
        str({"a": secret}),
    ]
    assert not any("canary" in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    text = MINIMAL.replace("protocol: mcp", "protocol: mcp, credentials: {header: x-key, value: {env: WEATHER}}")
    found = settings(text, WEATHER="canary-7f3a")
    assert "canary" not in repr(found)
    assert "canary" not in repr(dataclasses.asdict(found))
    assert secret == Secret("environment WEATHER", value="canary-7f3a")
    assert secret != Secret("environment WEATHER", value="another")


def test_beyond_loopback_needs_tls_and_a_public_url() -> None:
    for key, url in (("listen: 0.0.0.0:8080", "public_url"), ("admin: {listen: '[::]:8081'}", "admin.public_url")):
        found = problems(key + "\n")
        assert any("without TLS" in item for item in found)
        assert any(f"without {url}" in item for item in found)
    assert "not https" in only("listen: 0.0.0.0:8080\nbehind_tls_proxy: true\npublic_url: http://gw.example\n")
    found_settings = settings("listen: 0.0.0.0:8080\nbehind_tls_proxy: true\npublic_url: https://gw.example\n")
    assert found_settings.public_url == "https://gw.example"
    for loopback in ("127.0.0.1:1", "127.3.2.1:1", "localhost:1", "'[::1]:1'"):
        settings(f"listen: {loopback}\n")


@pytest.mark.parametrize(
    "value", ["8080", "gw.example:80", ":80", "127.0.0.1", "127.0.0.1:70000", "::1:80", "010.0.0.1:1"]
)
def test_an_address_is_an_ip_address_or_localhost_with_a_port(value: str) -> None:
    assert " listen: " in only(f"listen: '{value}'\n")


def test_both_planes_cannot_share_an_address() -> None:
    assert "the same as listen" in only("listen: 127.0.0.1:8081\n")
    settings("listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\n")


@pytest.mark.parametrize(
    "path",
    [
        "weather",
        "/weather/",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a%2fb",
        "/a;b",
        "/a?b",
        "/a#b",
        "/a\\b",
        "/.well-known/x",
        "/ä",
    ],
)
def test_a_route_has_one_plain_path(path: str) -> None:
    assert "routes.weather.match.path" in only(MINIMAL.replace("path: /weather", f"path: '{path}'"))


def test_a_route_that_matches_everything_is_written_as_a_slash_or_as_a_host_alone() -> None:
    assert settings(MINIMAL.replace("/weather", "/")).routes[0].match.path == ""
    assert settings(MINIMAL.replace("path: /weather", "host: Tools.Example")).routes[0].match.host == "tools.example"
    assert "empty" in only(MINIMAL.replace("{path: /weather}", "{}"))


def test_names_and_references_are_checked() -> None:
    assert "no upstream has that name" in only(MINIMAL.replace("upstream: weather", "upstream: wether"))
    assert "the name cannot be used" in only(
        MINIMAL.replace("weather: {url", "Weather: {url").replace("upstream: weather", "upstream: Weather")
    )
    twice = MINIMAL + "  - {name: weather, match: {path: /other}, upstream: weather}\n"
    assert "the name is there twice" in only(twice)
    same = MINIMAL + "  - {name: other, match: {path: /weather}, upstream: weather}\n"
    assert "the same as that of route weather" in only(same)
    apart = MINIMAL + "  - {name: other, match: {path: /weather, host: a.example}, upstream: weather}\n"
    assert len(settings(apart).routes) == 2


def test_options_fit_the_protocol() -> None:
    assert "opaque on a route to mcp" in only(MINIMAL.replace("upstream: weather", "upstream: weather, body: opaque"))
    http = MINIMAL.replace("protocol: mcp", "protocol: http")
    assert "tool_error on a route to http" in only(
        http.replace("upstream: weather", "upstream: weather, deny_as: tool_error")
    )
    assert settings(http.replace("upstream: weather", "upstream: weather, body: json")).routes[0].body == "json"


@pytest.mark.parametrize(
    ("protocol", "accepted"),
    [
        ("mcp", ("error", "hidden", "tool_error")),
        ("a2a", ("error", "hidden")),
        ("openai", ("error",)),
        ("anthropic", ("error",)),
        ("http", ("error",)),
    ],
)
def test_a_deny_may_only_look_as_the_protocol_can_say_it(protocol: str, accepted: tuple[str, ...]) -> None:
    for deny_as in ("error", "hidden", "tool_error"):
        text = MINIMAL.replace("protocol: mcp", f"protocol: {protocol}")
        text = text.replace("upstream: weather}", f"upstream: weather, deny_as: {deny_as}}}")
        if deny_as in accepted:
            assert settings(text).routes[0].deny_as == deny_as
        else:
            said = only(text)
            assert said.startswith(
                f"gateway.yaml:4: routes.weather.deny_as: {deny_as} on a route to {protocol}, which cannot say it; "
            )
            assert said.endswith("use " + " or ".join(accepted))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a",
        "http://",
        "http://a b",
        "http://u:p@a",
        "http://a/?q",
        "http://a/#f",
        "http://a/x/",
        "http://a:0",
        "//a",
        "http://a/../b",
        "http://a/%2e",
        "http://a\\b",
        "http://a:",
    ],
)
def test_an_upstream_url_is_plain(url: str) -> None:
    text = MINIMAL.replace('"http://127.0.0.1:9001/mcp"', json.dumps(url))
    assert "upstreams.weather.url" in only(text)


@pytest.mark.parametrize("claim", ["realm_access.roles", r"https://acme\.example/roles", r"a\\b", "a b"])
def test_a_claim_may_stand_below_others(claim: str) -> None:
    head = "trust:\n  issuers:\n  - name: idp\n    issuer: https://idp.example\n    audience: tollgate\n"
    issuer = settings(f"{head}    jwks: {{url: 'https://idp.example/jwks'}}\n    roles: {claim}\n").trust.issuers[0]
    assert issuer.roles is not None
    assert (
        path(issuer.roles.claim or "")
        == {
            "realm_access.roles": ("realm_access", "roles"),
            r"https://acme\.example/roles": ("https://acme.example/roles",),
            r"a\\b": ("a\\b",),
            "a b": ("a b",),
        }[claim]
    )


@pytest.mark.parametrize("claim", [".roles", "roles.", "a..b", r"a\b", "a\\", ".".join("abcdefghi")])
def test_a_path_to_a_claim_has_one_reading(claim: str) -> None:
    head = "trust:\n  issuers:\n  - name: idp\n    issuer: https://idp.example\n    audience: tollgate\n"
    said = problems(f"{head}    jwks: {{url: 'https://idp.example/jwks'}}\n    org: {{claim: {json.dumps(claim)}}}\n")
    assert any("trust.issuers.idp.org" in problem for problem in said)


def test_a_claim_that_is_a_url_says_that_its_dots_are_escaped() -> None:
    head = "trust:\n  issuers:\n  - name: idp\n    issuer: https://idp.example\n    audience: tollgate\n"
    said = problems(f"{head}    jwks: {{url: 'https://idp.example/jwks'}}\n    roles: https://acme.example/roles\n")
    assert any(r"https://acme\.example/roles" in problem for problem in said)


def test_an_issuer_needs_one_source_of_keys_and_no_symmetric_algorithm() -> None:
    head = "trust:\n  issuers:\n  - name: idp\n    issuer: https://idp.example\n    audience: tollgate\n"
    found = settings(head + "    jwks: {url: 'https://idp.example/jwks'}\n    org: {const: acme}\n").trust.issuers[0]
    assert (found.audience, found.algorithms) == (("tollgate",), ("EdDSA", "ES256", "RS256"))
    assert found.org is not None
    assert (found.org.const, found.org.claim) == ("acme", None)
    assert "exactly one of url, file" in only(head + "    jwks: {}\n")
    assert "plain http" in only(head + "    jwks: {url: 'http://idp.example/jwks'}\n")
    assert "trust.issuers.idp.algorithms[0]" in only(
        head + "    jwks: {url: 'https://idp.example/jwks'}\n    algorithms: [HS256]\n"
    )
    assert "the key is missing" in only(
        head.replace("    audience: tollgate\n", "") + "    jwks: {url: 'https://a/b'}\n"
    )


def test_files_read_at_start_must_be_there() -> None:
    assert "no such folder" in only("policy: {bundle: nowhere}\n")
    Path("bundle.tar.gz").write_bytes(b"")
    assert "nobody may sign" in only("policy: {bundle: bundle.tar.gz}\n")
    assert "trust.api_keys.file" in only("trust: {api_keys: {file: keys.yaml}}\n")
    assert len(problems("tls: {cert: a, key: b}\n")) == 2


def test_a_file_that_is_not_there_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="tollgate check --example"):
        load(Path("nowhere.yaml"), {})
    Path("latin.yaml").write_bytes(b"drain: 30s\nnode: \xe4\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: not UTF-8"):
        load(Path("latin.yaml"), {})


def keys(kind: Any, path: str = "") -> Iterator[str]:
    if isinstance(kind, (ListOf, MapOf)):
        yield from keys(kind.kind, path)
    elif isinstance(kind, Of):
        for item in dataclasses.fields(kind.section):
            yield f"{path}{item.name}"
            yield from keys(item.metadata["kind"], f"{path}{item.name}.")
    elif isinstance(kind, OrWord):
        yield from keys(kind.kind.section, path) if isinstance(kind.kind, Either) else ()
    elif isinstance(kind, Either):
        return


def test_the_reference_configuration_lists_every_key_with_its_default_and_why() -> None:
    text = (REPOSITORY / "config" / "gateway.yaml").read_text()
    assert text == reference(), "write it again: tollgate check --reference > config/gateway.yaml"
    found: set[str] = set()
    stack: list[tuple[int, str]] = []
    for line in text.splitlines()[5:]:
        plain = re.sub(r"^# ", "", line)
        match = re.match(r"^( *(?:- )?)([a-z0-9_]+):", plain)
        assert match, line
        assert "# " in plain[1:] or match[2] == "weather", f"no reason: {line}"
        depth = len(match[1])
        stack = [item for item in stack if item[0] < depth]
        stack.append((depth, match[2]))
        found.add(".".join(name for _, name in stack).replace("upstreams.weather.", "upstreams."))
    assert set(keys(Of(Settings))) - found == set()
    assert found - set(keys(Of(Settings))) == {"upstreams.weather"}


def test_the_defaults_in_the_reference_are_the_defaults() -> None:
    shown, empty = settings(reference()), settings("")
    for item in dataclasses.fields(Settings):
        if item.name not in ("upstreams", "routes", "limits"):
            assert getattr(shown, item.name) == getattr(empty, item.name), item.name
    small = settings(MINIMAL)
    assert shown.upstreams == small.upstreams
    assert shown.routes == small.routes


def test_the_json_schema_knows_the_same_keys() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == {item.name for item in dataclasses.fields(Settings)}
    text = json.dumps(schema)
    assert '"sso"' not in text
    assert '"required": ["protocol"]' in text


def test_a_file_of_keys_follows_the_same_schema_as_the_configuration() -> None:
    text = b"- {id: ci, expires: 2027-01-31T00:00:00Z, org: no, n: 010, x: null, f: 1.5, t: true}\n- [a, 'b: c']\n"
    assert read_plain(text) == [
        {"id": "ci", "expires": "2027-01-31T00:00:00Z", "org": "no", "n": 10, "x": None, "f": 1.5, "t": True},
        ["a", "b: c"],
    ]
    assert read_plain(b"") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"- &a {id: ci}\n- *a\n", "line 1: [0]: anchors"),
        (b"- {id: ci,\n   id: ci}\n", "line 2: [0].id: the key is there twice"),
        (b"- id: !!str ci\n", "tags"),
        (b"--- a\n--- b\n", "second document"),
        (b"- [\n", "not YAML"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_file_of_keys_with_two_readings_is_refused_and_never_quoted(text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"line|utf-8") as caught:
        read_plain(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("expires", ["2027-01-31T00:00:00Z", "2027-01-31T01:00:00+01:00", "2027-01-31", "1801353600"])
def test_a_date_needs_no_quotes_in_a_file_of_keys(expires: str, tmp_path: Path) -> None:
    key, digest = mint("ci")
    file = tmp_path / "keys.yaml"
    file.write_text(f"- id: ci\n  sha256: '{digest}'\n  expires: {expires}\n")
    keys = ApiKeys(file, read_plain, AtTheStartOf2026())
    found = keys.judge(key.encode(), hashlib.sha256(key.encode()).digest())
    assert found is not None
    assert found.expires == 1_801_353_600


class AtTheStartOf2026:
    def time(self) -> float:
        return 1_767_225_600.0

    def monotonic(self) -> float:
        return 0.0


KEYS = "{url: 'https://keys.example/jwks'}"


def test_who_signs_requests_is_known_by_keys_or_by_listed_directories() -> None:
    found = settings(
        f"trust:\n  signatures:\n  - {{name: partners, jwks: {KEYS}, subject: planner, roles: [reader]}}\n"
        "  - {name: bots, directories: ['https://agent.example'], covers: authority, max_age: 24h, nonce: optional}\n"
    ).trust.signatures
    assert [(item.name, item.covers, item.nonce, item.max_age) for item in found] == [
        ("partners", "request", "required", 60.0), ("bots", "authority", "optional", 86400.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("{name: a}", "exactly one of jwks, directories"),
        (f"{{name: a, jwks: {KEYS}, directories: ['https://b.example']}}", "exactly one of jwks, directories"),
        ("{name: a, directories: ['https://b.example'], tag: x}", "web-bot-auth"),
        ("{name: a, directories: ['https://b.example/path']}", "directories[0]"),
        ("{name: a, directories: ['http://b.example']}", "plain http"),
        ("{name: a, jwks: {url: 'http://b.example/k'}}", "plain http"),
        (f"{{name: a, jwks: {KEYS}, max_age: 25h}}", "more than 24h"),
        (f"{{name: a, jwks: {KEYS}, covers: nothing}}", "covers"),
        ("{name: a, jwks: {}}", "exactly one of url, file"),
    ],
)
def test_a_signers_entry_that_says_two_things_or_nothing_is_refused(entry: str, wrong: str) -> None:
    assert wrong in only(f"trust:\n  signatures:\n  - {entry}\n")


def test_two_entries_cannot_speak_for_one_name_or_one_directory() -> None:
    """`agent:idp/x` would be two callers."""
    issuer = f"  issuers:\n  - {{name: idp, issuer: 'https://idp.example', audience: a, jwks: {KEYS}}}\n"
    assert "an issuer has the same name" in only(f"trust:\n{issuer}  signatures:\n  - {{name: idp, jwks: {KEYS}}}\n")
    twice = "".join(f"  - {{name: {name}, directories: ['https://b.example']}}\n" for name in "ab")
    assert "listed twice" in only(f"trust:\n  signatures:\n{twice}")


def test_a_proof_is_young_and_a_registered_descriptor_is_there() -> None:
    assert settings("trust: {dpop: {nonce: required, max_age: 2m}}").trust.dpop.max_age == 120.0
    assert "more than 10m" in only("trust: {dpop: {max_age: 11m}}")
    assert "no such file" in only("trust: {descriptors: [{name: a, file: /nowhere/a.jws}]}")


def test_a_descriptor_is_asked_of_callers_and_signed_by_somebody() -> None:
    route = "routes:\n- {name: weather, match: {path: /weather}, upstream: weather, descriptor: required"
    upstream = "upstreams: {weather: {url: 'http://127.0.0.1:1', protocol: http}}\n"
    signer = f"trust: {{signers: [{{name: acme, jwks: {KEYS}}}]}}\n"
    assert settings(signer + upstream + route + "}\n").routes[0].descriptor == "required"
    assert "nobody may sign one" in only(upstream + route + "}\n")
    assert "anonymous callers" in only(signer + upstream + route + ", auth: anonymous}\n")


def test_a_signer_has_keys_somewhere() -> None:
    assert "jwks, jku or both" in only("trust: {signers: [{name: acme}]}")
    assert "plain http" in only("trust: {signers: [{name: acme, jwks: {url: 'http://a.example/k'}}]}")
