"""The interface of a route: what the kernel says, and packets that are none of its answers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.kernel.routes import NEW_ROUTE, interface_to, outgoing, request
from tests.support.cable import Cable, laid


def answer(*attributes: tuple[int, bytes], kind: int = NEW_ROUTE, sequence: int = 1) -> bytes:
    """Return an answer of the kernel's with these attributes."""
    body = bytes(12) + b"".join(struct.pack("=HH", 4 + len(v), k) + v for k, v in attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


@pytest.mark.parametrize("address", ["127.0.0.2", "::1"])
async def test_the_kernel_says_by_which_interface_an_address_is_reached(address: str) -> None:
    assert await interface_to(address) == "lo"


async def test_a_link_local_address_names_its_interface() -> None:
    assert await interface_to("fe80::1%lan7") == "lan7"


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


@pytest.mark.namespace
async def test_a_neighbour_is_reached_by_its_cable_and_a_stranger_is_not(cable: Cable) -> None:
    assert await interface_to("10.77.0.2") == "lan0"
    assert await interface_to("203.0.113.7") == ""
    cable.ip("route", "add", "203.0.113.0/24", "via", "10.77.0.2")
    assert await interface_to("203.0.113.7") == "lan0"


def test_an_answer_names_an_interface() -> None:
    assert outgoing(answer((4, struct.pack("=I", 7))), 1) == 7
    assert outgoing(answer((1, b"abcd")), 1) == 0
    assert outgoing(answer((4, b"\7")), 1) == 0
    assert outgoing(answer(kind=2), 1) == 0  # an error


def test_what_is_no_answer_is_passed_over() -> None:
    assert outgoing(answer((4, struct.pack("=I", 7)), sequence=2), 1) is None
    assert outgoing(answer((4, struct.pack("=I", 7)), kind=16), 1) is None
    assert outgoing(b"", 1) is None


@given(st.binary(max_size=200))
def test_no_packet_is_more_than_passed_over(raw: bytes) -> None:
    found = outgoing(raw, 1)
    assert found is None or found >= 0
    found = outgoing(answer() + raw, 1)
    assert found is None or found >= 0


def test_a_question_has_the_whole_address() -> None:
    asked = request(ip_address("fd00::7"), 3)
    assert struct.unpack_from("=I", asked) == (len(asked),)
    assert asked.endswith(ip_address("fd00::7").packed)
