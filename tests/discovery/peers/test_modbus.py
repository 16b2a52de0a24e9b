"""Modbus on a cable: servers of pymodbus that are renamed, restarted and moved."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.polled.modbus import Modbus, ModbusSettings, SerialRegisters
from gatewayd.testing.contracts.discoverer import running
from tests.support.cable import CHILD, CHILD6, INTERFACE, MOVED, Cable, laid
from tests.support.far_server import VENDOR_MAC, FarServer, asked_until, far_server
from tests.support.household import household

pytestmark = [pytest.mark.namespace, pytest.mark.root]

LINK_LOCAL = f"{CHILD6}%{INTERFACE}"
SERVER = (sys.executable, str(Path(__file__).with_name("modbus_server.py")))
SEEN_MAC = Claim("mac", "l2", VENDOR_MAC.replace(":", ""))


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        one.far_ip("link", "set", INTERFACE, "address", VENDOR_MAC)
        yield one


@pytest.fixture
async def server(cable: Cable) -> AsyncIterator[FarServer]:
    async with far_server(cable) as one:
        yield one


def discoverer(**settings: Any) -> Modbus:
    chosen = {"hosts": (CHILD, MOVED), "units": (1,), **settings}
    return Modbus("meters", ModbusSettings(**chosen), gap=0.1)


async def test_a_meter_stays_one_child_renamed_restarted_and_elsewhere(server: FarServer) -> None:
    await server.start(*SERVER, CHILD, "hall 1", "1")
    async with household(discoverer()) as home:
        first = await home.shows(lambda one: one.label == "hall 1" and SEEN_MAC in one.claims)
        (view,) = first.views
        assert (view["vendor"], view["model"], view["address"]) == ("Acme", "M1", CHILD)

        await server.start(*SERVER, CHILD, "hall 2", "1")
        await home.shows(lambda one: one.label == "hall 2")

        await server.stop()
        server.move()
        await server.start(*SERVER, MOVED, "hall 2", "1")
        last = await home.shows(lambda one: MOVED in one.addresses)
        assert not last.conflict


async def test_a_serial_number_in_registers_identifies_a_meter(server: FarServer) -> None:
    await server.start(*SERVER, CHILD, "hall 1", "1")
    made = discoverer(serial=SerialRegisters(register=0, count=2))
    async with running(made) as sink:
        await asked_until(made, lambda: sink.seen)
    (seen,) = sink.seen.values()
    assert seen.claims == {Claim("serial", "modbus.acme", "pm42")}
    assert seen.interface == INTERFACE


async def test_a_meter_is_found_at_a_link_local_address(cable: Cable, server: FarServer) -> None:
    await server.start(*SERVER, "::", "hall 1", "1")
    cable.far_ip("addr", "add", f"{CHILD6}/64", "dev", INTERFACE, "nodad")  # lost with the cable
    made = discoverer(hosts=(LINK_LOCAL,))
    async with running(made) as sink:
        await asked_until(made, lambda: sink.seen)
        (seen,) = sink.seen.values()
        assert (seen.key, seen.addresses) == (f"{LINK_LOCAL}/1", (LINK_LOCAL,))
        assert seen.interface == INTERFACE
        assert await made.verify(seen) is not None


async def test_units_behind_a_gateway_are_several_devices_without_its_mac(
    server: FarServer,
) -> None:
    await server.start(*SERVER, CHILD, "line", "1", "2", "3")
    made = discoverer(hosts=(CHILD,), units=(2, 3), serial_line=True)
    async with household(made) as home:
        await asked_until(made, lambda: len(home.seen_ids) == 2)
        for device in home.seen_ids:
            assert SEEN_MAC not in home.inventory.evidence(device).claims
            assert not home.inventory.evidence(device).conflict
