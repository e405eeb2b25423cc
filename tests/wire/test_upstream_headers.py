"""Which headers cross the gateway: nothing of the caller's identity goes on, nothing of the answer is lost."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.core.exchange import Call, Exchange, Head, Header
from gateway.core.snapshot import Route, Upstream
from gateway.wire.headers import AnswerHeaders, passes, request_headers

TRACE = "0af7651916cd43dd8448eb211c80319c"


def exchange(
    headers: list[Header], *, call: Call | None = None, cookies: str = "strip", credentials: tuple[Header, ...] = ()
) -> Exchange:
    head = Head("POST", "/r/x", "/r/x", "", "gw.test", "http", tuple(headers), "127.0.0.1")
    upstream = Upstream("u", "mcp", "http", "h", 80, "upstream.test", "/mcp", credentials=credentials)
    return Exchange(
        id="0192c7e0-0000-7000-8000-00000000000a",
        time=0.0,
        started=0.0,
        head=head,
        snapshot=cast(Any, None),
        route=Route("r", "/r", "", "u", "required", "json", cookies=cookies),
        upstream=upstream,
        protocol=cast(Any, None),
        asked=call or Call("http.POST", "endpoint", "/x"),
        trace_id=TRACE,
        span_id="b7ad6b7169203331",
    )


OWN = [
    (b"via", b"1.1 tollgate"),
    (b"x-request-id", b"0192c7e0-0000-7000-8000-00000000000a"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
]


def test_end_to_end_headers_go_in_their_order_behind_the_upstreams_host() -> None:
    given = [(b"host", b"gw.test"), (b"x-b", b"1"), (b"accept", b"*/*"), (b"x-b", b"2"), (b"via", b"1.0 before")]
    assert request_headers(exchange(given)) == [
        (b"host", b"upstream.test"),
        (b"x-b", b"1"),
        (b"accept", b"*/*"),
        (b"x-b", b"2"),
        (b"via", b"1.0 before"),
        *OWN,
    ]


@pytest.mark.parametrize(
    "name", [b"authorization", b"x-api-key", b"api-key", b"proxy-authorization", b"x_api_key", b"api_key"]
)
def test_the_callers_credential_never_goes_on(name: bytes) -> None:
    assert not passes(name, cookies=True)
    assert request_headers(exchange([(name, b"secret")], cookies="pass")) == [(b"host", b"upstream.test"), *OWN]


def test_cookies_go_on_only_where_the_route_passes_them() -> None:
    given = [(b"cookie", b"a=b"), (b"cookie2", b"x")]
    assert (b"cookie", b"a=b") not in request_headers(exchange(given))
    assert (b"cookie", b"a=b") in request_headers(exchange(given, cookies="pass"))
    assert (b"cookie2", b"x") not in request_headers(exchange(given, cookies="pass"))


def test_framing_and_hop_by_hop_headers_do_not_go_on() -> None:
    names = [
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-connection",
        b"http2-settings",
        b"content-length",
        b"expect",
        b"transfer_encoding",
        b"content_length",
    ]
    assert request_headers(exchange([(name, b"1") for name in names])) == [(b"host", b"upstream.test"), *OWN]


def test_the_upstreams_credential_comes_last_and_replaces_whatever_has_its_name() -> None:
    found = request_headers(
        exchange(
            [(b"x-key", b"callers"), (b"authorization", b"callers")],
            call=Call("a", "t", "i", headers=((b"x-key", b"protocols"),)),
            credentials=((b"Authorization", b"Bearer ours"), (b"X-Key", b"ours")),
        )
    )
    assert found[-2:] == [(b"authorization", b"Bearer ours"), (b"x-key", b"ours")]
    assert [name for name, _ in found].count(b"x-key") == 1
    assert [name for name, _ in found].count(b"authorization") == 1


def test_what_the_protocol_sets_replaces_and_what_it_drops_is_gone() -> None:
    call = Call(
        "a", "t", "i", headers=((b"mcp-name", b"true"),), drop_headers=frozenset({b"mcp-session-id"}), judged=True
    )
    given = [(b"mcp-name", b"claimed"), (b"mcp-session-id", b"s"), (b"accept-encoding", b"gzip")]
    found = request_headers(exchange(given, call=call))
    assert [value for name, value in found if name == b"mcp-name"] == [b"true"]
    assert b"mcp-session-id" not in dict(found)
    assert [value for name, value in found if name == b"accept-encoding"] == [b"identity"]
    unjudged = request_headers(exchange(given))
    assert [value for name, value in unjudged if name == b"accept-encoding"] == [b"gzip"]


def test_the_trace_goes_on_with_our_span_and_the_callers_word_on_sampling() -> None:
    def sent(headers: list[Header], call: Call | None = None) -> list[bytes]:
        return [value for name, value in request_headers(exchange(headers, call=call)) if name == b"traceparent"]

    ours = b"00-" + TRACE.encode() + b"-b7ad6b7169203331-"
    parent = b"00-" + TRACE.encode() + b"-00f067aa0ba902b7-01"
    assert sent([]) == [ours + b"00"]
    assert sent([(b"traceparent", parent)]) == [ours + b"01"]
    assert sent([(b"traceparent", parent[:-1] + b"0")]) == [ours + b"00"]
    assert sent([(b"traceparent", b"00-" + b"1" * 32 + b"-00f067aa0ba902b7-01")]) == [ours + b"00"]
    assert sent([], Call("a", "t", "i", traceparent=parent.decode())) == [ours + b"01"]


class Given:
    """An answer's head."""

    status = 200
    address = ""
    complete = b""

    def __init__(self, *headers: Header) -> None:
        self.headers = list(headers)

    async def chunk(self) -> bytes:
        return b""

    async def aclose(self) -> None:
        pass


BACK = [(b"via", b"1.1 tollgate"), (b"x-request-id", b"0192c7e0-0000-7000-8000-00000000000a")]
DATE = (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT")


def test_an_answers_headers_come_back_as_they_are() -> None:
    back = AnswerHeaders(lambda: 0.0)
    given = [
        (b"server", b"x"),
        DATE,
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"via", b"1.1 other"),
        (b"request-id", b"v"),
        (b"ratelimit", b"r"),
    ]
    assert back(Given(*given), exchange([])) == [*given, *BACK]


def test_there_is_exactly_one_date() -> None:
    now = 1_795_348_800.9
    back = AnswerHeaders(lambda: now)
    assert back(Given(), exchange([]))[0] == DATE
    now += 0.2
    assert back(Given(), exchange([]))[0] == (b"date", b"Sun, 22 Nov 2026 12:00:01 GMT")
    assert back(Given(DATE, (b"date", b"second")), exchange([])) == [DATE, *BACK]


def test_the_upstreams_request_id_goes_out_under_another_name() -> None:
    found = AnswerHeaders(lambda: 0.0)(Given(DATE, (b"x-request-id", b"theirs")), exchange([]))
    assert found == [DATE, (b"x-upstream-request-id", b"theirs"), *BACK]


def test_set_cookie_comes_back_only_where_the_route_passes_cookies() -> None:
    given = Given(DATE, (b"set-cookie", b"a=b"))
    back = AnswerHeaders(lambda: 0.0)
    assert back(given, exchange([])) == [DATE, *BACK]
    assert back(given, exchange([], cookies="pass")) == [DATE, (b"set-cookie", b"a=b"), *BACK]


def test_what_an_exchange_is_given_is_never_changed() -> None:
    found = exchange([(b"x-b", b"1")], call=Call("a", "t", "i", headers=((b"x-c", b"2"),)))
    before = repr((found.head, found.asked, found.limit_headers))
    request_headers(found)
    assert before == repr((found.head, found.asked, found.limit_headers))
