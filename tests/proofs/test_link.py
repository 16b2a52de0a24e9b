"""A place is one device's address on a link; and a connection goes no further than that."""

from __future__ import annotations

import socket

import pytest

from gatewayd.proofs.link import Place, connection_to, place_of


@pytest.mark.parametrize(
    ("address", "interface", "expected"),
    [
        ("192.0.2.7", "lan0", Place("192.0.2.7", "lan0")),
        ("192.0.2.7", "", Place("192.0.2.7", "")),
        ("169.254.3.4", "lan0", Place("169.254.3.4", "lan0")),
        ("2001:db8::7", "lan0", Place("2001:db8::7", "lan0")),
        ("fe80::7%lan0", "lan0", Place("fe80::7", "lan0")),
        ("fe80::7%lan0", "", Place("fe80::7", "lan0")),
        ("fe80::7", "", None),
        ("127.0.0.1", "lan0", None),
        ("::1", "lan0", None),
        ("::ffff:127.0.0.1", "lan0", None),
        ("0.0.0.0", "lan0", None),  # noqa: S104  # it is refused
        ("::", "lan0", None),
        ("224.0.0.251", "lan0", None),
        ("ff02::fb", "lan0", None),
        ("255.255.255.255", "lan0", None),
        ("camera.example", "lan0", None),
        ("", "lan0", None),
        ("192.0.2.7 ", "lan0", None),
    ],
)
def test_a_place_is_an_address_of_one_device_on_a_link(
    address: str, interface: str, expected: Place | None
) -> None:
    assert place_of(address, interface) == expected


@pytest.mark.parametrize(
    ("host", "level", "option"),
    [
        ("127.0.0.1", socket.IPPROTO_IP, socket.IP_TTL),
        ("::1", socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
    ],
)
async def test_no_router_passes_it_on_and_it_leaves_by_the_interface(
    host: str, level: int, option: int
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        async with connection_to(Place(host, "lo"), port) as connection:
            assert connection.getsockopt(level, option) == 1
            bound = connection.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
            assert bound.rstrip(b"\0") == b"lo"


async def test_an_interface_that_has_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="No such device"):
        async with connection_to(Place("192.0.2.7", "gone0"), 443):
            pass
