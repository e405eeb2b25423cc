"""Which addresses the gateway may be led to by a URL: pure arithmetic over the IANA special-purpose registries.

1. Only global unicast is open to everyone: everything of the tables below, and all IPv6 outside 2000::/3, is not.
2. INNER networks are where an organisation's own services live: a listed name or origin may lead there.
3. All others (this host, link-local and with it the clouds' metadata services, multicast, documentation, and the forms
that carry an IPv4 address inside an IPv6 one) are reached only where the address itself is listed. 4. A NAT64 address
is judged twice: its prefix must be listed and the address inside must be allowed. A mapped one is never right.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class Place(Enum):
    """Where an address is."""

    OPEN = "global"
    INNER = "private"
    BARRED = "special-purpose"


def _networks(*blocks: str) -> tuple[Network, ...]:
    return tuple(ip_network(block) for block in blocks)


INNER: Final = _networks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
    "100.64.0.0/10",  # RFC 6598, carriers' NAT
    "127.0.0.0/8", "::1/128",
    "fc00::/7",  # RFC 4193
)  # fmt: skip

# Metadata and other host-side services of clouds that lie in networks which are otherwise open or inner.
METADATA: Final = _networks(
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure's host agent
    "fd00:ec2::/32",  # Amazon EC2: metadata, DNS, time
    "fd20:ce::/32",  # Google Cloud
)

BARRED: Final = _networks(
    "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23",  # IETF protocol assignments, Teredo among them
    "2001:db8::/32", "2002::/16", "3fff::/20",  # documentation, 6to4, documentation
)  # fmt: skip

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def place(address: Address) -> Place:
    if _in(address, METADATA) or _in(address, BARRED):
        return Place.BARRED
    if _in(address, INNER):
        return Place.INNER
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return Place.BARRED  # 1
    return Place.OPEN


def allowed(address: Address, *, named: bool, listed: Iterable[Network]) -> bool:
    """Whether a connection may go there. `named`: the host or origin that led there is listed; `listed` are the
    networks the configuration lists."""
    listed = tuple(listed)
    if isinstance(address, IPv6Address):
        if address in _MAPPED or address.scope_id is not None:
            return False  # 4; and a zone is this host's own business
        if any(address in prefix for prefix in _NAT64):
            return _in(address, listed) and allowed(_inside(address), named=named, listed=listed)  # 4
    found = place(address)
    return found is Place.OPEN or (named and found is Place.INNER) or _in(address, listed)  # 2, 3


def _in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _inside(address: IPv6Address) -> IPv4Address:
    """RFC 6052 for a /96; a local-use prefix of another length would have to be read differently, so its operator
    lists it and uses /96."""
    return IPv4Address(int(address) & 0xFFFF_FFFF)
