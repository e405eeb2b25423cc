"""Who is at the other end: the peer's address and certificate, its key for caps, and what a trusted proxy says of the
caller.

The rule: `Forwarded` and `X-Forwarded-*` are claims. They are read only when the connection itself comes from a listed
network, from the right, as far as the hops are listed; they are never passed on, whoever sent them. Two claims that
disagree are no claim: a proxy that writes one of them lets the caller's copy of the other through.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_PAIR = re.compile(rb'\s*([A-Za-z]+)=(?:"([^"\\]*)"|([^\s",;]+))\s*')
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
MAX_HOPS = 16  # a longer chain of trusted proxies is a mistake or an attack


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from `10.0.0.0/8` or `10.1.2.3`. Raises ValueError that names the text."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def read_address(text: str) -> Address | None:
    """An address, IPv4 in IPv6 as IPv4, a zone dropped; None if it is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def peer_key(address: Address | None) -> str:
    """What counts as one peer for caps: an IPv4 address, an IPv6 /64 (one host usually has a whole one)."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)


def shown_certificate(transport: asyncio.Transport) -> str:
    """The client certificate of a TLS connection as RFC 8705 names it, "" where none was shown. Whoever has none that
    the listener's CA vouches for does not come this far."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    shown = tls.getpeercert(binary_form=True) if tls is not None else None
    return base64.urlsafe_b64encode(hashlib.sha256(shown).digest()).rstrip(b"=").decode() if shown else ""


def is_trusted(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a connection before its first byte. `trusted`: its address is a listed proxy's, so a certificate
    it showed would be the proxy's and nobody's who calls through it."""

    address: str
    scheme: str
    trusted: bool = False
    certificate: str = ""


def peer_of(
    transport: asyncio.Transport, client: tuple[str, int] | None, scheme: str, proxies: tuple[Network, ...]
) -> tuple[Peer, str]:
    """Who a new connection comes from, and what it counts as for caps."""
    address = read_address(client[0]) if client is not None else None
    trusted = is_trusted(address, proxies)
    certificate = "" if trusted else shown_certificate(transport)
    return Peer("" if address is None else str(address), scheme, trusted, certificate), peer_key(address)


def claimed(seen: Mapping[bytes, bytes], networks: tuple[Network, ...]) -> tuple[str | None, str | None]:
    """(peer, scheme) as the trusted proxy says; None where it says nothing that can be believed."""
    claims = []
    if b"forwarded" in seen:
        claims.append(_standard(seen[b"forwarded"], networks))
    if b"x-forwarded-for" in seen or b"x-forwarded-proto" in seen:
        hops = [part.strip() for part in seen.get(b"x-forwarded-for", b"").split(b",")]
        schemes = seen.get(b"x-forwarded-proto", b"").split(b",")
        claims.append((_walk(hops, networks), _scheme(schemes[-1].strip())))
    if len(claims) == 2 and claims[0] != claims[1]:
        return None, None
    return claims[0] if claims else (None, None)


def _standard(value: bytes, networks: tuple[Network, ...]) -> tuple[str | None, str | None]:
    """RFC 7239. Anything that does not parse ends the walk, so that nothing left of it is believed."""
    hops: list[bytes] = []
    schemes: list[bytes] = []
    for element in value.split(b","):
        pairs: dict[bytes, bytes] = {}
        for text in element.split(b";"):
            found = _PAIR.fullmatch(text)
            if found is None or found[1].lower() in pairs:
                pairs = {}
                break
            pairs[found[1].lower()] = found[2] if found[2] is not None else found[3]
        hops.append(pairs.get(b"for", b""))
        schemes.append(pairs.get(b"proto", b""))
    return _walk(hops, networks), _scheme(schemes[-1])


def _walk(hops: list[bytes], networks: tuple[Network, ...]) -> str | None:
    """From the right: the first hop that is not itself trusted is the caller; a hop that is no address ends it."""
    last: str | None = None
    for raw in reversed(hops[-MAX_HOPS:]):
        text = raw.decode("latin-1")
        bare = _WITH_PORT.fullmatch(text)
        address = read_address((bare[1] or bare[2]) if bare is not None else text)
        if address is None:
            return last
        last = str(address)
        if not is_trusted(address, networks):
            return last
    return last


def _scheme(value: bytes) -> str | None:
    text = value.decode("latin-1").lower()
    return text if text in ("http", "https") else None
