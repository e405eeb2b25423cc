"""A rule over the path never sees the query, and the query never moves the path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.snapshot import Route, RouteTable
from tests.wire.front_rig import Listener, listening, request

ROW = 21
TABLE = RouteTable(
    tuple(
        Route(path, path, "", "u", "required", "opaque") for path in ("/admin", "/public")
    )  # a route's name is its path
)


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/admin?x=/public", "/admin", "x=/public"),
        (b"/admin?/public", "/admin", "/public"),
        (b"/admin?../public", "/admin", "../public"),
        (b"/admin?x=/public?/public", "/admin", "x=/public?/public"),
        (b"/admin?", "/admin", ""),
        (b"/admin?%2fpublic", "/admin", "%2fpublic"),
        (b"/public?x=/admin", "/public", "x=/admin"),
    ],
)
def test_the_path_ends_where_the_query_begins(front: Listener, target: bytes, path: str, query: str) -> None:
    front.ask(request(b"GET", target, b"Connection: close"))
    head = front.seen[-1].head
    found = TABLE.match(head.authority, head.path)
    assert found is not None
    assert (head.path, head.query, found.name) == (path, query, path)
    assert head.target.encode() == target


def test_an_encoded_question_mark_belongs_to_the_path(front: Listener) -> None:
    front.ask(request(b"GET", b"/admin%3fx=/public", b"Connection: close"))
    head = front.seen[-1].head
    assert (head.path, head.query) == ("/admin%3fx=/public", "")
    assert TABLE.match(head.authority, head.path) is None
