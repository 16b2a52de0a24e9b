"""The hosts that an operator lists: how many they are, counted before they are made."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.probing.hosts import MAX_HOSTS, PollSettings, addresses_of, size_of
from gatewayd.settings.grammar import network

TOO_MANY = "addresses, and may have 4096: name smaller networks"
NO_HOSTS = "hosts must be those of devices: leave out multicast and reserved addresses"

NO_INTERFACE = "hosts has a link-local address without its interface: write it as fe80::7%lan0"


@pytest.mark.parametrize(
    ("listed", "size"),
    [
        ("192.0.2.7", 1), ("192.0.2.7/32", 1), ("192.0.2.8/31", 2), ("192.0.2.8/29", 6),
        ("fd00::7", 1), ("fd00::8/127", 2), ("fd00::8/125", 7), ("fe80::7%lan0", 1),
    ],
)  # fmt: skip
def test_an_entry_stands_for_so_many_hosts(listed: str, size: int) -> None:
    assert network(listed) == ""
    assert size_of(listed) == len(addresses_of([listed])) == size


def test_each_host_is_asked_once_in_the_order_of_the_list() -> None:
    listed = ["192.0.2.9", "192.0.2.8/30", "fe80::7%lan0"]
    assert addresses_of(listed) == ("192.0.2.9", "192.0.2.10", "fe80::7%lan0")


@given(st.integers(100, 128), st.integers(0, (1 << 128) - 1))
def test_the_size_of_a_network_is_that_of_its_addresses(prefix: int, number: int) -> None:
    listed = str(ip_network((number, prefix), strict=False))
    if size_of(listed) <= MAX_HOSTS:
        assert size_of(listed) == len(addresses_of([listed]))


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ((), "hosts must name at least one: an address of a device"),
        (("fd00::/64",), f"hosts has {2**64 - 1} {TOO_MANY}"),
        (("192.0.2.0/24", "10.0.0.0/20"), f"hosts has 4348 {TOO_MANY}"),
        (("224.0.0.251",), NO_HOSTS),
        (("::",), NO_HOSTS),
        (("240.0.0.0/30",), NO_HOSTS),
        (("fe80::7%lan0", "fe80::8"), NO_INTERFACE),
        (("fe80::/126",), NO_INTERFACE),
    ],
)
def test_lists_that_are_refused(hosts: tuple[str, ...], problem: str) -> None:
    assert list(PollSettings(hosts=hosts).problems()) == [problem]


def test_a_round_must_not_take_longer_than_the_time_between_two() -> None:
    settings = PollSettings(hosts=("192.0.2.7",), probe_every=60.0)
    assert not list(settings.problems())
    assert not list(settings.too_often(60))
    assert list(settings.too_often(61)) == [
        "a round has 61 questions, one a second: set probe_every to 61 or more, or name fewer hosts"
    ]
    assert list(settings.too_often(86_401)) == [
        "a round has 86401 questions, one a second: name fewer hosts"
    ]


@pytest.mark.parametrize("text", ["192.0.2.7/24", "192.0.2.0/33", "plc.example", "", "::/129", "1"])
def test_what_is_no_address_and_no_network_is_refused(text: str) -> None:
    assert network(text).startswith("must be an IP address, as 192.0.2.7, or a network")
    assert size_of(text) == 0
