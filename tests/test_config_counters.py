"""`stores.counters`: memory, an address, or a section; a password never in an address."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import config
from gateway.config_yaml import ConfigError

MINIMAL = "stores:\n  counters: "


def read(text: str, environ: dict[str, str] | None = None) -> config.Settings:
    return config.read(MINIMAL + text + "\n", "gateway.yaml", environ or {})


def counters(text: str, environ: dict[str, str] | None = None) -> config.Counters:
    found = read(text, environ).stores.counters
    assert isinstance(found, config.Counters)
    return found


def test_without_a_word_limits_and_budgets_are_counted_in_memory() -> None:
    assert read("memory").stores.counters == "memory"
    assert config.read("", "gateway.yaml", {}).stores.counters == "memory"


def test_an_address_alone_is_strict() -> None:
    found = counters("redis://cache.internal")
    assert (found.url.hosts, found.url.tls, found.url.database) == ((("cache.internal", 6379),), False, 0)
    assert (found.mode, found.wait, found.prefix, found.password) == ("strict", 0.25, "tollgate", None)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://127.0.0.1:7000/3", ((("127.0.0.1", 7000),), False, "", 3)),
        ("redis://a,b:7001,c", ((("a", 6379), ("b", 7001), ("c", 6379)), False, "", 0)),
        ("rediss://tollgate@cache.internal", ((("cache.internal", 6379),), True, "tollgate", 0)),
        ("redis://[::1]:7000", ((("::1", 7000),), False, "", 0)),
        ("redis://[::1]", ((("::1", 6379),), False, "", 0)),
    ],
)
def test_addresses_in_their_forms(url: str, wanted: tuple[Any, ...]) -> None:
    found = counters(f'"{url}"').url
    assert (found.hosts, found.tls, found.username, found.database) == wanted


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://user:secret@cache", "a password never stands in an address"),
        ("redis://:secret@cache", "a password never stands in an address"),
        ("http://cache", "not a redis:// or rediss:// address"),
        ("redis://cache?db=1", "not a redis:// or rediss:// address"),
        ("redis://cache:0", "a port that is none"),
        ("redis://cache:70000", "a port that is none"),
        ("redis://cache/x", "the database is not a number"),
        ("redis://", "not a host name"),
        ("redis://a,,b", "not a host name"),
        ("redis://us er@cache", "not a redis:// or rediss:// address"),
    ],
)
def test_an_address_with_two_readings_or_a_password_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        read(f'"{url}"')
    assert "secret" not in str(refused.value).replace("{env: NAME}", "")


def test_the_section_takes_a_password_from_where_secrets_are() -> None:
    text = (
        "{url: redis://cache, mode: lease, password: {env: WORD}, wait: 1s, prefix: eu, lease: {share: 2%, lasts: 2m}}"
    )
    found = counters(text, {"WORD": "open sesame"})
    assert found.password is not None
    assert found.password.reveal() == "open sesame"
    assert "sesame" not in repr(found)
    assert (found.mode, found.wait, found.prefix, found.lease.share, found.lease.lasts) == (
        "lease",
        1.0,
        "eu",
        0.02,
        120.0,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{mode: strict}", "stores.counters.url: the key is missing"),
        ("{url: redis://cache, mode: loose}", "not one of strict, lease"),
        ("{url: redis://cache, tls: {ca: a.pem}}", "tls belongs to a rediss"),
        ("{url: redis://cache, lease: {share: 1%}}", "lease belongs to mode: lease"),
        ("{url: redis://cache, mode: lease, lease: {share: 60%}}", "lease.share"),
        ("{url: redis://cache, wait: 1ms}", "wait is not from 10ms to 10s"),
        ("{url: redis://cache, password: secret}", "a secret never stands in the configuration"),
        ("{url: redis://cache, urls: x}", "unknown key"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text)


def test_an_address_may_come_from_the_environment() -> None:
    found = config.read("", "gateway.yaml", {"TOLLGATE__stores__counters": "redis://cache"}).stores.counters
    assert isinstance(found, config.Counters)
    assert found.url.hosts == (("cache", 6379),)
