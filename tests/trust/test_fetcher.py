"""The guarded fetcher over real connections: what comes back, what is too much, what is too late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config import ConfigError, read
from gateway.core.fetching import Fetched, FetchFailed, FetchRefused
from gateway.trust.fetcher import AT_ONCE, GuardedFetcher, Listed, documents, parse
from gateway.wire.fetch import Carrier
from tests.rig import run

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server on loopback; yields its URL. `serve` has read nothing yet."""

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()

    server = await asyncio.start_server(whole, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/document"


def always(answer: bytes, heads: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        writer.write(answer)
        await writer.drain()

    return serve


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client gives up


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header line now and then, as long as the client is there."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not reader.at_eof():
        writer.write(b"a: b\r\n")
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.read(1)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def get(serve: Serve, *, max_bytes: int = 100, deadline_s: float = 5.0) -> Fetched:
    async def story() -> Fetched:
        async with serving(serve) as url:
            return await GuardedFetcher(Carrier()).get(url, max_bytes=max_bytes, deadline_s=deadline_s, configured=True)

    return run(story())


def failed(serve: Serve, *, max_bytes: int = 100, deadline_s: float = 5.0) -> str:
    with pytest.raises(FetchFailed) as caught:
        get(serve, max_bytes=max_bytes, deadline_s=deadline_s)
    return str(caught.value)


def test_any_status_but_a_redirect_is_an_answer_with_its_headers_and_without_its_cookies() -> None:
    answer = b'HTTP/1.1 404 No\r\ncontent-length: 4\r\nETag: "a"\r\nSet-Cookie: id=1\r\nx: 1\r\nx: 2\r\n\r\ngone'
    found = get(always(answer))
    assert (found.status, found.body, found.header("etag")) == (404, b"gone", '"a"')
    assert "set-cookie" not in dict(found.headers)
    assert found.header("x") is None


def test_only_what_was_asked_for_is_sent() -> None:
    heads: list[bytes] = []

    async def story() -> None:
        async with serving(always(OK, heads)) as url:
            fetcher = GuardedFetcher(Carrier())
            await fetcher.get(
                url + "?a=b%20c", max_bytes=9, deadline_s=5, headers=[("Accept", "application/json")], configured=True
            )
            await fetcher.post(
                url, b"grant_type=x", content_type="application/x-www-form-urlencoded", max_bytes=9, deadline_s=5,
                headers=[("Authorization", "Basic eDp5")], configured=True,
            )  # fmt: skip

    run(story())
    names = [[line.partition(b":")[0] for line in head.split(b"\r\n")[1:-2]] for head in heads]
    assert heads[0].startswith(b"GET /document?a=b%20c HTTP/1.1\r\n")
    assert names[0] == [b"host", b"user-agent", b"accept-encoding", b"accept"]
    assert heads[1].startswith(b"POST /document HTTP/1.1\r\n")
    assert names[1] == [
        b"host",
        b"user-agent",
        b"accept-encoding",
        b"authorization",
        b"content-type",
        b"content-length",
    ]


@pytest.mark.parametrize("name", ["Host", "cookie", "Accept-Encoding", "content-type", "User-Agent"])
def test_no_caller_sets_what_the_fetcher_sets(name: str) -> None:
    with pytest.raises(ValueError, match="sets"):
        run(GuardedFetcher(Carrier()).get("https://a.example/", max_bytes=9, deadline_s=5, headers=[(name, "x")]))


@pytest.mark.parametrize(
    "headers", [[("a", "b\r\nc: d")], [("a\r\nb", "c")], [("transfer-encoding", "chunked")], [("content-length", "5")]]
)
def test_no_header_breaks_out_of_its_line(headers: Sequence[tuple[str, str]]) -> None:
    seen: list[bytes] = []

    async def story() -> None:
        async with serving(always(OK, seen)) as url:
            with pytest.raises(FetchFailed):
                await GuardedFetcher(Carrier()).get(url, max_bytes=9, deadline_s=5, headers=headers, configured=True)

    run(story())
    assert seen == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"33\r\n" + b"x" * 51 + b"\r\n32\r\n" + b"x" * 50,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
    ],
)
def test_a_larger_answer_is_none(answer: bytes) -> None:
    assert "larger than 100 bytes" in failed(always(answer))


def test_as_many_bytes_as_allowed_are_taken() -> None:
    assert get(always(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100)).body == b"x" * 100


def test_a_head_without_end_is_cut() -> None:
    assert "too large" in failed(always(b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 100_000))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n folded\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
        b"{}",
        b"",
    ],
)
def test_an_answer_that_is_not_strict_http_is_none(answer: bytes) -> None:
    assert failed(always(answer)).startswith("http://127.0.0.1:")


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"identity, br"])
def test_a_compressed_answer_is_none(coding: bytes) -> None:
    assert "compressed" in failed(
        always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-encoding: " + coding + b"\r\n\r\n{}")
    )


@pytest.mark.parametrize("serve", [silence, drip])
def test_a_slow_server_is_left_at_the_deadline(serve: Serve) -> None:
    assert "within 0.2 s" in failed(serve, deadline_s=0.2)


def test_a_resolver_that_hangs_is_left_at_the_deadline() -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(FetchFailed, match=r"within 0\.1 s"):
        run(GuardedFetcher(Carrier(), Listed(), never).get("https://a.example/", max_bytes=9, deadline_s=0.1))


def test_so_many_fetches_run_at_once_and_the_next_waits_its_turn() -> None:
    async def story() -> None:
        begun, go = 0, asyncio.Event()

        async def resolve(host: str, port: int) -> Sequence[str]:
            nonlocal begun
            begun += 1
            await go.wait()
            return []

        fetcher = GuardedFetcher(Carrier(), Listed(), resolve)
        waiting = [
            asyncio.create_task(fetcher.get("https://a.example/", max_bytes=9, deadline_s=5))
            for _ in range(AT_ONCE + 3)
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == AT_ONCE
        go.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert begun == AT_ONCE + 3
        assert all(isinstance(item, FetchRefused) for item in results)

    run(story())


def test_the_next_address_is_tried_only_while_nothing_was_sent() -> None:
    async def story() -> None:
        seen: list[bytes] = []
        async with serving(always(b"", seen)) as url:  # takes the request and hangs up
            port = parse(url).port

            async def resolve(host: str, port: int) -> Sequence[str]:
                return ["::1", "127.0.0.1", "127.0.0.1"]  # nobody listens on the first

            with pytest.raises(FetchFailed):
                await GuardedFetcher(Carrier(), Listed(), resolve).get(
                    f"http://a.example:{port}/", max_bytes=9, deadline_s=5, configured=True
                )
        assert len(seen) == 1

    run(story())


def test_a_name_that_is_not_there_is_a_failure() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(FetchFailed, match=r"a\.example cannot be resolved"):
        run(GuardedFetcher(Carrier(), Listed(), resolve).get("https://a.example/", max_bytes=9, deadline_s=5))


def test_an_answer_to_a_conditional_request_may_be_not_modified() -> None:
    async def story(headers: Sequence[tuple[str, str]]) -> int:
        async with serving(always(b'HTTP/1.1 304 Same\r\netag: "a"\r\n\r\n')) as url:
            found = await GuardedFetcher(Carrier()).get(
                url, max_bytes=9, deadline_s=5, headers=headers, configured=True
            )
            return found.status

    assert run(story([("If-None-Match", '"a"')])) == 304
    with pytest.raises(FetchFailed, match="304"):
        run(story([]))


def test_an_error_tells_the_origin_and_nothing_else_of_the_url() -> None:
    async def story() -> str:
        async with serving(always(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n")) as url:
            with pytest.raises(FetchFailed) as caught:
                await GuardedFetcher(Carrier()).get(url + "?key=hidden", max_bytes=9, deadline_s=5, configured=True)
            return str(caught.value)

    text = run(story())
    assert "hidden" not in text
    assert "/document" not in text


def test_a_document_is_the_body_of_a_200() -> None:
    async def story(answer: bytes) -> bytes:
        async with serving(always(answer)) as url:
            return await documents(GuardedFetcher(Carrier()), configured=True, max_bytes=9, deadline_s=5)(url)

    assert run(story(OK)) == b"{}"
    with pytest.raises(FetchFailed, match="answered 201"):
        run(story(OK.replace(b"200", b"201")))


def test_a_new_list_is_in_force_at_once() -> None:
    async def story() -> None:
        async with serving(always(OK)) as url:
            fetcher = GuardedFetcher(Carrier())
            with pytest.raises(FetchRefused):
                await fetcher.get(url, max_bytes=9, deadline_s=5)
            fetcher.adopt(Carrier(), Listed.read([parse(url).origin]))
            assert (await fetcher.get(url, max_bytes=9, deadline_s=5)).status == 200

    run(story())


LIST = ["idp.internal", "https://idp.internal:8443", "http://127.0.0.1:9000", "10.0.0.0/8", "::1", "fd00::/8",
        "64:ff9b::/96", "192.168.1.1", "http://[::1]:80", "localhost", "xn--bcher-kva.example"]  # fmt: skip
NO_LIST = ["0.0.0.0/0", "::/0", "10.0.0.1/8", "https://idp.internal/path", "ftp://a.example", "*.example", "a_b c",
           "127.1", "1.2.3.4.5", "https://a@b.example", ":", "http://bücher.example"]  # fmt: skip


def test_the_configuration_takes_what_the_fetcher_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)
    found = read(f"trust: {{fetch: {{allow: {LIST!r}}}}}", "gateway.yaml", {}).trust.fetch.allow
    listed = Listed.read(found)
    assert listed.hosts == {"idp.internal", "localhost", "xn--bcher-kva.example"}
    assert listed.origins == {"https://idp.internal:8443", "http://127.0.0.1:9000", "http://[::1]"}
    assert len(listed.networks) == 5
    for entry in NO_LIST:
        with pytest.raises(ConfigError, match="allow"):
            read(f"trust: {{fetch: {{allow: [{entry!r}]}}}}", "gateway.yaml", {})
