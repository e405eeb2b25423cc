"""What the gateway fetches on its own cannot be led to where only the gateway can go: fifty URLs and more, a real
listening server, and a count of who came.

Whatever would be sent is sent for real, to this server, whichever address was judged: so a URL that slips through is a
connection that is counted, and the test needs no address of anyone else's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gateway.core.fetching import Errand, Fetched, FetchFailed, FetchRefused
from gateway.trust.fetcher import GuardedFetcher, Listed
from gateway.wire.fetch import Carrier
from tests.flows.canned import answer as said
from tests.flows.canned import canned
from tests.rig import Issuer, base_settings, gateway, run
from tests.wire.certificates import Authority

ROW = 38
PUBLIC, METADATA = "93.184.216.34", "169.254.169.254"

SPELLED = [  # the address in the URL
    "https://127.0.0.1/", "https://127.0.0.1:443/jwks.json", "https://127.1.2.3/", "https://0.0.0.0/",
    "https://10.0.0.1/", "https://172.16.0.1/", "https://172.31.255.254/", "https://192.168.1.1/",
    "https://100.64.0.1/", "https://100.100.100.200/latest/", "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/machine/", "https://192.0.0.192/", "https://198.18.0.1/", "https://224.0.0.1/",
    "https://255.255.255.255/", "https://[::1]/", "https://[::]/", "https://[0:0:0:0:0:0:0:1]/", "https://[fe80::1]/",
    "https://[fc00::1]/", "https://[fd00:ec2::254]/", "https://[fd20:ce::254]/", "https://[ff02::1]/",
    "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[::ffff:169.254.169.254]/",
    "https://[::127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::7f00:1]/", "https://[2002:7f00:1::]/", "https://[2002:a9fe:a9fe::1]/",
    "https://[2001:0:7f00:1::]/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/",
]  # fmt: skip
DISGUISED = [  # an address some resolver would read
    "https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0X7F000001/",
    "https://017700000001/", "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://127.0.0.0x1/",
    "https://127.000.000.001/", "https://127.0.0.1./", "https://localhost./", "https://0/", "https://4294967297/",
    "https://127.0.0.1%00.example/", "https://127%2e0%2e0%2e1/", "https://%6c%6f%63%61%6c%68%6f%73%74/",
    "https://\u2460\u2461\u2466.0.0.1/", "https://\uff11\uff12\uff17.0.0.1/", "https://127\u30020\u30020\u30021/",
    "https://\uff4cocalhost/", "https://loc\u00adalhost/", "https://b\u00fccher.example/", "https://[127.0.0.1]/",
]  # fmt: skip
SHAPED = [  # the parts of a URL
    "http://good.example/", "HTTP://good.example/", "ftp://good.example/", "file:///etc/passwd", "gopher://good.example/",
    "//good.example/", "good.example", "", "https://", "https:///jwks", "https:good.example/", "https:/good.example/",
    "https://good.example@127.0.0.1/", "https://user:secret@good.example/", "https://@good.example/",
    "https://good.example:443@127.0.0.1/", "https://127.0.0.1\\@good.example/", "https://good.example\\.evil.example/",
    "https://good.example#@127.0.0.1/", "https://good.example/#frag", "https://good.example:8443/",
    "https://good.example:22/",
    "http://good.example:443/", "https://good.example:0/", "https://good.example:65536/", "https://good.example:/",
    "https://good.example:0443/", "https://good.example:443:80/", "https://good.example /", " https://good.example/",
    "https://good.example/\r\nHost: 127.0.0.1", "https://good.example/\t", "https://good.exa\nmple/", "https://good..example/",
    "https://.good.example/", "https://-good.example/", "https://good.example/" + "a" * 3000, "https://good.example/%",
    "https://[good.example]/", "https://[::1/", "https://::1/", "https://good.example/\u00fc", "https://good.example?\x00",
]  # fmt: skip
NAMES: dict[str, Sequence[str]] = {  # what a name leads to
    "good.example": [PUBLIC],
    "localhost": ["127.0.0.1"],
    "localtest.example": ["127.0.0.1"],
    "six.example": ["::1"],
    "inner.example": ["10.1.2.3"],
    "metadata.example": [METADATA],
    "metadata.google.internal": [METADATA],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "linklocal.example": ["fe80::1%eth0"],
    "half.example": [PUBLIC, "127.0.0.1"],  # one good address does not excuse the other
    "other-half.example": ["127.0.0.1", PUBLIC],
    "nowhere.example": [],
    "xn--bcher-kva.example": ["192.168.0.9"],
}
LED = [f"https://{name}/" for name in NAMES if name != "good.example"]


class Server:
    """A TLS server of any name, or a plain one, that counts its connections."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = 0
        self.heads: list[bytes] = []
        self.names: list[str | None] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        finally:
            writer.close()


def answer(status: str = "200 OK", *headers: str, body: str = "{}") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class World:
    """Names, and the one server behind every address."""

    def __init__(self, server: Server, ca: Path | None) -> None:
        self.server = server
        self.names = {name: list(found) for name, found in NAMES.items()}
        self.asked: list[str] = []
        self.errands: list[Errand] = []
        self._carrier = Carrier(str(ca) if ca else None)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.names[host]

    async def carry(self, errand: Errand) -> Fetched:
        self.errands.append(errand)
        return await self._carrier(replace(errand, address="127.0.0.1", port=self.server.port))

    def fetcher(self, *allow: str) -> GuardedFetcher:
        return GuardedFetcher(self.carry, Listed.read(allow), self.resolve)


@asynccontextmanager
async def world(folder: Path, reply: bytes | None = None, *, plain: bool = False) -> AsyncIterator[World]:
    server = Server(answer() if reply is None else reply)
    authority = Authority(folder)
    context = None if plain else authority.server("good.example")
    if context is not None:
        context.sni_callback = lambda _, name, __: server.names.append(name)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield World(server, authority.ca)


async def get(fetcher: GuardedFetcher, url: str, *, configured: bool = False) -> Fetched:
    return await fetcher.get(url, max_bytes=1000, deadline_s=10, configured=configured)


def test_there_are_fifty_urls_and_no_two_alike() -> None:
    urls = [*SPELLED, *DISGUISED, *SHAPED, *LED]
    assert len(urls) == len(set(urls)) >= 50


@pytest.mark.parametrize("url", [*SPELLED, *DISGUISED, *SHAPED, *LED], ids=ascii)
def test_none_of_them_reaches_the_server(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as around:
            with pytest.raises(FetchRefused):
                await get(around.fetcher(), url)
            assert (around.errands, around.server.connections) == ([], 0)

    run(story())


@pytest.mark.parametrize("url", ["https://good.example/", "https://GOOD.example:443/a?b=c"])
def test_a_public_name_reaches_it_by_the_judged_address_under_its_own_name(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as around:
            found = await get(around.fetcher(), url)
            assert (found.status, found.body) == (200, b"{}")
            assert [(item.address, item.host) for item in around.errands] == [(PUBLIC, "good.example")]
            assert around.server.names == ["good.example"]
            assert b"\r\nhost: good.example:%d\r\n" % around.server.port in around.server.heads[0]

    run(story())


def test_a_certificate_of_another_name_is_no_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as around:
            around.names["thief.example"] = [PUBLIC]
            with pytest.raises(FetchFailed, match="certificate"):
                await get(around.fetcher(), "https://thief.example/")
            assert around.server.heads == []

    run(story())


def test_a_name_that_changes_its_mind_is_asked_once(tmp_path: Path) -> None:
    """Rebinding: public when it is judged, this host when it would be dialled."""

    async def story() -> None:
        async with world(tmp_path) as around:
            answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])

            async def resolve(host: str, port: int) -> Sequence[str]:
                around.asked.append(host)
                return next(answers)

            fetcher = GuardedFetcher(around.carry, Listed(), resolve)
            assert (await get(fetcher, "https://good.example/")).status == 200
            assert around.asked == ["good.example"]
            assert [item.address for item in around.errands] == [PUBLIC]
            with pytest.raises(FetchRefused):
                await get(fetcher, "https://good.example/")
            assert (around.asked, len(around.errands)) == (["good.example"] * 2, 1)

    run(story())


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/meta-data/", "https://good.example/other", "//127.0.0.1/", "/other"]
)
def test_a_redirect_is_followed_nowhere(status: int, location: str, tmp_path: Path) -> None:
    async def story() -> None:
        reply = answer(f"{status} Elsewhere", f"location: {location}", body="")
        async with world(tmp_path, reply) as around:
            with pytest.raises(FetchFailed, match="redirects are not followed"):
                await get(around.fetcher(), "https://good.example/")
            assert (around.server.connections, len(around.errands)) == (1, 1)

    run(story())


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"])
def test_no_proxy_of_the_environment_is_asked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        proxy = Server(answer())
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        async with listening, world(tmp_path) as around:
            monkeypatch.setenv(name, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
            await get(around.fetcher(), "https://good.example/")
            assert (proxy.connections, around.server.connections) == (0, 1)

    run(story())


LISTED = [
    ("https://inner.example/", "inner.example"),
    ("https://inner.example/", "10.0.0.0/8"),
    ("https://inner.example/", "https://inner.example"),
    ("https://inner.example:8443/", "https://inner.example:8443"),
    ("https://10.0.0.1/", "10.0.0.1"),
    ("https://metadata.example/", "169.254.169.254"),
]


@pytest.mark.parametrize(("url", "entry"), LISTED)
def test_what_is_listed_is_asked_and_only_that(url: str, entry: str, tmp_path: Path) -> None:
    """The connection comes, so the refusals above are the guard's; it ends at a certificate of another name."""

    async def story() -> None:
        async with world(tmp_path) as around:
            with pytest.raises(FetchFailed, match="certificate"):
                await get(around.fetcher(entry), url)
            assert len(around.errands) == 1
            for other in (
                "https://localhost/",
                "https://six.example/",
                "https://192.168.0.1/",
                "http://inner.example/",
            ):
                with pytest.raises(FetchRefused):
                    await get(around.fetcher(entry), other)
            assert len(around.errands) == 1

    run(story())


@pytest.mark.parametrize("entry", ["metadata.example", "https://metadata.example", "https://169.254.169.253"])
def test_no_listed_name_leads_to_the_metadata_service(entry: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as around:
            with pytest.raises(FetchRefused):
                await get(around.fetcher(entry), "https://metadata.example/", configured=True)
            assert around.errands == []

    run(story())


def test_a_url_of_the_configuration_is_its_own_entry_for_that_call_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, plain=True) as around:
            fetcher = around.fetcher()
            url = f"http://127.0.0.1:{around.server.port}/jwks.json"
            assert (await get(fetcher, url, configured=True)).status == 200
            for outside in (url, f"http://127.0.0.1:{around.server.port}/other", "https://127.0.0.1/"):
                with pytest.raises(FetchRefused):
                    await get(fetcher, outside)
            assert around.server.connections == 1

    run(story())


@pytest.mark.parametrize(
    "entry", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "http://a.example/path", "a b", "1.2.3", "*.example", ""]
)
def test_a_list_that_means_nothing_or_everything_is_an_error(entry: str) -> None:
    with pytest.raises((ValueError, FetchRefused)):
        Listed.read([entry])


def test_an_issuers_keys_are_fetched_by_the_running_gateway_under_these_rules(tmp_path: Path) -> None:
    """Its URL stands in the configuration, so loopback may be asked; where it redirects to, nobody is."""
    with canned() as other, canned() as idp:
        issuer = Issuer(tmp_path)
        keys = said(issuer.jwks.read_bytes())
        idp.says["/moved"] = said(b"", "application/json", "302 Found", f"Location: {other.url}/keys")
        other.says["/keys"] = idp.says["/keys"] = keys
        trust = base_settings(tmp_path, issuer)["trust"]
        routes = {
            "upstreams": {"files": {"url": other.url, "protocol": "http"}},
            "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files"}],
        }
        for path, wanted in (("/moved", 503), ("/keys", 403)):
            trust["issuers"][0]["jwks"] = {"url": idp.url + path}
            folder = tmp_path / path.strip("/")
            folder.mkdir()
            with gateway(folder, trust=trust, **routes) as running:
                bearer = {"authorization": f"Bearer {issuer.token(roles=())}"}
                assert httpx2.get(running.url + "/files/x", headers=bearer).status_code == wanted
        assert other.heads == []


def test_the_server_of_these_tests_can_be_reached(tmp_path: Path) -> None:
    """Else counting its connections would prove nothing."""

    async def story() -> None:
        async with world(tmp_path) as around:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            _, writer = await asyncio.open_connection("127.0.0.1", around.server.port, ssl=context)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            assert around.server.connections == 1

    run(story())
