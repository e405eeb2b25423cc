"""Routes: longest path on segment borders, hosts apart, nothing decoded, nothing merged."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Exchange, Head
from gateway.core.snapshot import NO_UPSTREAM, Route, RouteTable, Upstream
from gateway.stages.forward import target
from tests.stages.exchanges import exchange


def route(name: str, path: str, host: str = "") -> Route:
    return Route(name, path, host, "shop", "required", "opaque")


TABLE = RouteTable(
    (
        route("weather", "/weather"),
        route("deep", "/weather/deep"),
        route("tools", "", "tools.example"),
        route("six", "/six", "[::1]"),
        route("hosted", "/weather", "tools.example"),
    )
)


@pytest.mark.parametrize(
    ("authority", "path", "name"),
    [
        ("gw.example", "/weather", "weather"),
        ("gw.example:8080", "/weather/", "weather"),
        ("gw.example", "/weather/deep/er", "deep"),
        ("gw.example", "/weather/deeper", "weather"),
        ("gw.example", "/weatherx", None),
        ("gw.example", "/Weather", None),
        ("gw.example", "/%77eather", None),
        ("gw.example", "//weather", None),
        ("gw.example", "/", None),
        ("tools.example", "/anything", "tools"),
        ("tools.example:443", "/weather/x", "hosted"),
        ("tools.example", "/weather/deep", "deep"),
        ("tools.example.evil", "/anything", None),
        ("[::1]:8080", "/six", "six"),
        ("[::1]", "/six", "six"),
        ("[::2]", "/six", None),
        ("", "/anything", None),
    ],
)
def test_the_longest_path_wins_on_segment_borders(authority: str, path: str, name: str | None) -> None:
    found = TABLE.match(authority, path)
    assert (found.name if found else None) == name


def test_a_route_for_all_paths_keeps_them() -> None:
    table = RouteTable((route("all", ""), route("some", "/some")))
    assert [found.name for path in ("/", "/x", "/some", "/something") if (found := table.match("h", path))] == [
        "all", "all", "some", "all",
    ]  # fmt: skip


def sent(raw: str, path: str, base: str) -> str:
    given: Exchange = exchange()
    given.route = route("r", path)
    given.upstream = Upstream("shop", "http", "http", "127.0.0.1", 9, "127.0.0.1:9", base)
    plain, _, query = raw.partition("?")
    given.head = Head("GET", raw, plain, query, "gw.example", "http", (), "192.0.2.7")
    return target(given)


@pytest.mark.parametrize(
    ("raw", "path", "base", "wanted"),
    [
        ("/weather", "/weather", "/mcp", "/mcp"),
        ("/weather/", "/weather", "/mcp", "/mcp/"),
        ("/weather/x?y", "/weather", "/mcp", "/mcp/x?y"),
        ("/weather?y=%2F", "/weather", "/mcp", "/mcp?y=%2F"),
        ("/weather?", "/weather", "/mcp", "/mcp?"),
        ("/weather/a%20b;c", "/weather", "/mcp", "/mcp/a%20b;c"),
        ("/weather", "/weather", "", "/"),
        ("/weather?y", "/weather", "", "/?y"),
        ("/weather/", "/weather", "", "/"),
        ("/x/y?z", "", "", "/x/y?z"),
        ("/x", "", "/base", "/base/x"),
        ("/", "", "/base", "/base/"),
    ],
)
def test_no_slash_is_added_or_merged_on_the_way(raw: str, path: str, base: str, wanted: str) -> None:
    assert sent(raw, path, base) == wanted


def test_nobody_is_an_upstream_for_what_has_no_route() -> None:
    assert (NO_UPSTREAM.host, NO_UPSTREAM.port) == ("", 0)
