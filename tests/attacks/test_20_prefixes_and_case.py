"""Routes match whole segments, and Host whatever its case, with one route or a thousand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.snapshot import Route, RouteTable
from tests.wire.front_rig import Listener, listening, request

ROW = 20


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


def route(name: str, path: str, host: str = "") -> Route:
    return Route(name=name, path=path, host=host, upstream="u", auth="required", body="opaque")


def routed(front: Listener, table: RouteTable, target: bytes, host: bytes = b"gw.example") -> str:
    """The route of the Head that the front made of a real request."""
    front.ask(request(b"GET", target, b"Connection: close", host=host))
    head = front.seen[-1].head
    found = table.match(head.authority, head.path)
    return "" if found is None else found.name


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/pki/ca/prod", "prod"), (b"/pki/ca/prod/", "prod"), (b"/pki/ca/prod/x", "prod"),
        (b"/pki/ca/prod?x", "prod"), (b"/pki/ca/prod-x", "ca"), (b"/pki/ca/prodx", "ca"), (b"/pki/ca/prod.x", "ca"),
        (b"/pki/ca/PROD", "ca"), (b"/pki/ca/prod%20", "ca"), (b"/pki/ca/prod;x", "ca"), (b"/pki/cab", ""),
        (b"/pki", ""), (b"/PKI/ca", ""), (b"/pki/%63a", ""),
    ],
)  # fmt: skip
def test_a_sibling_is_not_a_child(front: Listener, target: bytes, name: str) -> None:
    table = RouteTable((route("ca", "/pki/ca"), route("prod", "/pki/ca/prod")))
    assert routed(front, table, target) == name


@pytest.mark.parametrize("count", [1, 1000])
def test_a_host_is_found_whatever_its_case(front: Listener, count: int) -> None:
    table = RouteTable(tuple(route(f"r{number}", "/a", f"Host-{number}.Example") for number in range(count)))
    last = count - 1
    for host in (f"host-{last}.example", f"HOST-{last}.EXAMPLE", f"hOsT-{last}.eXaMpLe:8080"):
        assert routed(front, table, b"/a/b", host.encode()) == f"r{last}"
    assert routed(front, table, b"/a/b", b"host-x.example") == ""
