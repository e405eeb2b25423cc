"""Where a fetch may go: the tables against the registries' own examples, and against the library's idea of global."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gateway.trust.addresses import INNER, METADATA, Place, allowed, place

OPEN = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
        "192.0.1.0", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::64", "2001:200::1"]  # fmt: skip
INSIDE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
          "127.255.255.254", "::1", "fc00::1", "fdff::1"]  # fmt: skip
BARRED = ["0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
          "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
          "168.63.129.16", "100.100.100.200", "::", "::2", "::7f00:1", "100::1", "fe80::1", "fec0::1", "ff02::1",
          "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fd00:ec2::254", "fd20:ce::254",
          "64:ff9b::808:808", "64:ff9b:1::808:808", "::ffff:8.8.8.8"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where"),
    [(item, where) for where, items in ((Place.OPEN, OPEN), (Place.INNER, INSIDE), (Place.BARRED, BARRED))
     for item in items],
)  # fmt: skip
def test_every_address_has_its_place(text: str, where: Place) -> None:
    assert place(ip_address(text)) is where
    assert allowed(ip_address(text), named=False, listed=()) is (where is Place.OPEN)


@pytest.mark.parametrize("text", INSIDE)
def test_a_listed_name_may_lead_inside(text: str) -> None:
    assert allowed(ip_address(text), named=True, listed=())


@pytest.mark.parametrize("text", BARRED)
def test_no_name_leads_to_a_barred_address(text: str) -> None:
    assert not allowed(ip_address(text), named=True, listed=())


@pytest.mark.parametrize("text", [*INSIDE, *(item for item in BARRED if not item.startswith(("64:", "::ffff")))])
def test_an_address_that_is_listed_itself_may_be_reached(text: str) -> None:
    assert allowed(ip_address(text), named=False, listed=[ip_network(text)])


def test_a_block_of_the_other_family_lists_nothing() -> None:
    assert not allowed(ip_address("127.0.0.1"), named=False, listed=[ip_network("::/1")])


def test_behind_nat64_the_address_inside_counts_too() -> None:
    prefix = [ip_network("64:ff9b::/96")]
    assert allowed(ip_address("64:ff9b::808:808"), named=False, listed=prefix)
    assert not allowed(ip_address("64:ff9b::7f00:1"), named=False, listed=prefix)
    assert not allowed(ip_address("64:ff9b::a9fe:a9fe"), named=True, listed=prefix)
    assert allowed(ip_address("64:ff9b::a00:1"), named=False, listed=[*prefix, ip_network("10.0.0.0/8")])
    assert not allowed(ip_address("64:ff9b::a00:1"), named=False, listed=[ip_network("10.0.0.0/8")])


def test_a_mapped_address_and_one_with_a_zone_are_never_right() -> None:
    everything = [ip_network("::ffff:0:0/96"), ip_network("fe80::/10")]
    assert not allowed(ip_address("::ffff:8.8.8.8"), named=True, listed=everything)
    assert not allowed(ip_address("fe80::1%eth0"), named=True, listed=everything)


def test_nothing_is_open_that_the_library_calls_special() -> None:
    """An oracle of another hand, over the edges of every block it and we know."""
    edges = {address for block in (*INNER, *METADATA) for address in (block[0], block[-1])}
    edges |= {ip_address(f"{first}.{second}.0.1") for first in range(256) for second in (0, 16, 51, 64, 88, 168, 254)}
    edges |= {ip_address((first << 112) + 1) for first in range(0x10000)}
    wrong = [item for item in edges if place(item) is Place.OPEN and not item.is_global]
    assert wrong == []
