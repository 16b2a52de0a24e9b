"""The addresses on a link: of which senders are, and which a device can have."""

from __future__ import annotations

from ipaddress import ip_interface

from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.addresses import networks, usable_addresses


def test_networks_of_interfaces() -> None:
    link = LanInterface("lan0", 2, True, (ip_interface("10.7.0.1/16"), ip_interface("fe80::1/64")))
    inside = ("10.7.255.9", "fe80::2")
    outside = ("10.8.0.1", "fe80:0:0:1::2", "::a07:1")
    assert all(any(one in net for net in networks(link)) for one in inside)
    assert not any(one in net for one in outside for net in networks(link))
    assert not networks(LanInterface("lan0"))


def test_addresses_that_no_host_has_are_left_out() -> None:
    given_ = ("fe80::1%2", "192.0.2.1", "0.0.0.0", "239.1.1.1", "255.255.255.255", "ff02::1", "::1")  # noqa: S104  # listens nowhere
    assert usable_addresses(given_, "eth1") == ("192.0.2.1", "fe80::1%eth1")
    assert usable_addresses(("127.1.0.7",), "lo") == ("127.1.0.7",)
    assert usable_addresses(("127.1.0.7", "::ffff:127.0.0.1"), "eth1") == ()
    assert len(usable_addresses(tuple(f"192.0.2.{i}" for i in range(1, 200)), "eth1")) == 8
