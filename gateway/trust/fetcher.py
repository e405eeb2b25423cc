"""The guarded fetcher: everything the gateway asks of other hosts on its own (keys, cards, metadata, tokens, webhooks).

Rules, numbered as in the code:
1. The URL is one spelling of visible ASCII: scheme, host, perhaps port, path, query. No user, fragment, escape in the
   host or unlisted port; an address is four decimal bytes or bracketed IPv6; a name of another script is written xn--.
2. https, unless the origin is listed.
3. The host is resolved once. Every address it has must be one that may be reached (addresses.py); else nothing is sent.
4. The connection goes to an address that was judged; TLS and Host carry the name. No proxy, cookie or second try at
   what was sent.
5. A redirect is an error, whatever it says. A compressed answer is an error.
6. One deadline for everything, a bound on the answer, a bound on how many fetches run at once.
It must never tell its caller more of a URL than the origin, nor whether a forbidden address answers.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

from gateway.core.fetching import Carry, Errand, Fetched, Fetcher, FetchFailed, FetchRefused
from gateway.core.reasons import UpstreamFailed
from gateway.trust.addresses import Address, Network, allowed

AT_ONCE = 16  # fetches under way: a resolver that hangs holds a thread each
ADDRESSES = 4  # tried in their order, each only while nothing was sent
URL_LIMIT = 2048

Resolve: TypeAlias = "Callable[[str, int], Awaitable[Sequence[str]]]"
"""All addresses of a name, as text. Raises OSError."""

_PORTS: Final = {"https": 443, "http": 80}
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # what some resolver reads as an IPv4 address
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([1-9][0-9]{0,4}))?"
    r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_ORIGIN = re.compile(r"[A-Za-z]+://[^/?#]*")
_OWN_HEADERS = frozenset({"host", "cookie", "accept-encoding", "user-agent", "content-type"})
_NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was read. `host` has no brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def literal(self) -> Address | None:
        return None if _NUMERIC.fullmatch(self.host) is None and ":" not in self.host else ip_address(self.host)


@dataclass(frozen=True, slots=True)
class Listed:
    """What the configuration lets be fetched beyond public https on port 443: `trust.fetch.allow`, read."""

    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> Listed:
        """An entry is an origin, a host, or an address or block. Raises ValueError, which names the entry."""
        origins, hosts, networks = set(), set(), []
        for entry in entries:
            if "://" in entry:
                found = parse(entry.lower())
                if found.path != "/" or entry.endswith("/"):
                    raise ValueError(f"{entry}: an origin has no path")
                origins.add(found.origin)
            elif "/" in entry or ":" in entry or _NUMERIC.fullmatch(entry) is not None:
                networks.append(_network(entry))
            elif _NAME.fullmatch(entry.lower()) is not None:
                hosts.add(entry.lower())
            else:
                raise ValueError(f"{entry}: not an origin, a host, an address or a block")
        return cls(frozenset(origins), frozenset(hosts), tuple(networks))


def _network(entry: str) -> Network:
    try:
        found = ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{entry}: {error}") from None
    if found.prefixlen == 0:
        raise ValueError(f"{entry}: every address there is; list the ones that are yours")
    return found


def parse(url: str) -> Target:
    """Rule 1. Raises FetchRefused."""
    whole = _ORIGIN.match(url)  # scheme and host are the same in either case; the rest is not
    given = whole[0] if whole else ""
    found = _URL.fullmatch(given.lower() + url[len(given) :]) if len(url) <= URL_LIMIT else None
    if found is None:
        raise FetchRefused("not a plain http or https URL: scheme, host, port, path and query in ASCII, nothing else")
    scheme, host, port = found[1], found[2].strip("[]"), int(found[3] or _PORTS[found[1]])
    if port > 65535:
        raise FetchRefused("a port above 65535")
    try:
        if found[2].startswith("["):
            host = str(IPv6Address(host))
        elif _NUMERIC.fullmatch(host) is not None:
            host = str(IPv4Address(host))  # strict: four decimal bytes without leading zeros
        elif _NAME.fullmatch(host) is None or len(host) > 253:
            raise ValueError
    except ValueError:
        raise FetchRefused("a host that is neither a name nor a plain address") from None
    return Target(scheme, host, port, (found[4] or "/") + (found[5] or ""))


class GuardedFetcher:
    """`carry` sends to an address (wire/fetch.py); `resolve` asks the system. `adopt` puts a reload's list in force."""

    __slots__ = ("_carry", "_gate", "_listed", "_resolve")

    def __init__(self, carry: Carry, listed: Listed | None = None, resolve: Resolve | None = None) -> None:
        self._carry = carry
        self._listed = listed or Listed()
        self._resolve = resolve or system_resolve
        self._gate = asyncio.Semaphore(AT_ONCE)

    def adopt(self, carry: Carry, listed: Listed) -> None:
        self._carry, self._listed = carry, listed

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline_s: float,
        headers: Sequence[tuple[str, str]] = (),
        configured: bool = False,
    ) -> Fetched:
        return await self._fetch("GET", url, headers, None, max_bytes, deadline_s, configured)

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        content_type: str,
        max_bytes: int,
        deadline_s: float,
        headers: Sequence[tuple[str, str]] = (),
        configured: bool = False,
    ) -> Fetched:
        if not body:
            raise ValueError("a post without a body")
        given = (*_checked(headers), ("content-type", content_type))
        return await self._fetch("POST", url, given, body, max_bytes, deadline_s, configured)

    async def _fetch(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        max_bytes: int,
        deadline_s: float,
        configured: bool,
    ) -> Fetched:
        target = parse(url)
        given = tuple(headers) if method == "POST" else _checked(headers)
        try:
            async with asyncio.timeout(deadline_s), self._gate:  # 6
                addresses = await self._judged(target, configured)
                answer = await self._sent(method, target, addresses, given, body, max_bytes, deadline_s)
        except TimeoutError:
            raise FetchFailed(f"{target.origin} did not answer whole within {deadline_s:g} s") from None
        conditional = any(name.startswith("if-") for name, _ in given)
        if 300 <= answer.status < 400 and not (conditional and answer.status == _NOT_MODIFIED):  # 5
            raise FetchFailed(f"{target.origin} answered {answer.status}: redirects are not followed")
        if (answer.header("content-encoding") or "identity").lower() != "identity":  # 5
            raise FetchFailed(f"{target.origin} compressed its answer, though it was asked not to")
        return answer

    async def _judged(self, target: Target, configured: bool) -> list[Address]:
        """Rules 2 and 3."""
        listed = self._listed
        origin = configured or target.origin in listed.origins
        if target.scheme != "https" and not origin:
            raise FetchRefused(f"{target.origin}: not https; list the origin in trust.fetch.allow if it is meant")
        if target.port != 443 and not origin:
            raise FetchRefused(f"{target.origin}: not port 443; list the origin in trust.fetch.allow if it is meant")
        networks = listed.networks
        literal = target.literal
        if literal is not None:
            addresses = [literal]
            if origin:
                networks = (*networks, ip_network(literal))  # the very address stands in the configuration
        else:
            try:
                addresses = [ip_address(item) for item in await self._resolve(target.host, target.port)]
            except (OSError, ValueError):
                raise FetchFailed(f"{target.host} cannot be resolved") from None
        named = origin or target.host in listed.hosts
        if not addresses or not all(allowed(item, named=named, listed=networks) for item in addresses):
            raise FetchRefused(
                f"{target.host} leads to an address that may not be fetched from; "
                "list the host or the address in trust.fetch.allow if it is meant"
            )
        return addresses[:ADDRESSES]

    async def _sent(
        self,
        method: str,
        target: Target,
        addresses: Sequence[Address],
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
        max_bytes: int,
        deadline_s: float,
    ) -> Fetched:
        """Rule 4: the next address only while no byte was sent."""
        failure = FetchFailed(f"{target.origin} has no address")
        for address in addresses:
            errand = Errand(
                method, target.scheme, target.host, target.port, str(address), target.path, headers, body,
                max_bytes, deadline_s,
            )  # fmt: skip
            try:
                return await self._carry(errand)
            except UpstreamFailed as error:
                failure = FetchFailed(f"{target.origin}: {error}")
                if error.sent:
                    break
        raise failure


def _checked(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    found = tuple((name.lower(), value) for name, value in headers)
    owned = [name for name, _ in found if name in _OWN_HEADERS]
    if owned:
        raise ValueError(f"the fetcher sets {owned[0]} itself")
    return found


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """What the system says, in its order, each address once."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def documents(
    fetcher: Fetcher, *, configured: bool, max_bytes: int, deadline_s: float
) -> Callable[[str], Awaitable[bytes]]:
    """The body of a 200 by URL, for who keeps documents (jwks.py). Raises FetchFailed for any other answer."""

    async def document(url: str) -> bytes:
        answer = await fetcher.get(
            url, max_bytes=max_bytes, deadline_s=deadline_s, headers=(("accept", "application/json"),),
            configured=configured,
        )  # fmt: skip
        if answer.status != 200:
            raise FetchFailed(f"it answered {answer.status}")
        return answer.body

    return document
