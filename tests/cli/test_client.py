"""How gatewayctl calls: descriptors, errors, and who may be asked for a password."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from gatewayd.cli.client import BusClient, reason
from gatewayd.dbus.bus import Bus
from gatewayd.dbus.names import GATEWAY, STORE
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import StoreView
from gatewayd.errors import GatewayError
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.served import Asked, private_bus, served, view


class Store:
    """A store that can do one thing."""

    async def export(self, target: int, caller: str) -> None:
        await asyncio.to_thread(os.write, target, b"all of them")


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture
async def asked() -> Asked:
    return Asked("child-1a")


@pytest.fixture
async def service(bus: PrivateBus, asked: Asked) -> AsyncIterator[Bus]:
    store = ExportedObject(STORE, StoreView("vault", "none", "sealed", "No key."), Store())
    async with served(bus, asked, view("child-1a"), further=[store], gather=0.02) as ours:
        yield ours


class Prompt:
    """Puts down what happens while somebody could be asked."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self.seen = asked, list[int]()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.seen.append(len(self._asked.asked))
        yield
        self.seen.append(len(self._asked.asked))


@pytest.mark.integration
async def test_people_can_be_asked_while_something_is_changed_and_not_else(
    bus: PrivateBus, service: Bus, asked: Asked
) -> None:
    prompt = Prompt(asked)

    def work() -> None:
        client = BusClient(bus.address, prompt)
        assert client.call("ListRules")
        assert client.properties(GATEWAY)["Providers"]
        assert prompt.seen == []
        assert client.call("Retry", "child-1") is None

    await asyncio.to_thread(work)
    assert prompt.seen == [0, 1]


@pytest.mark.integration
async def test_results_are_nothing_one_value_or_many(bus: PrivateBus, service: Bus) -> None:
    def work() -> None:
        client = BusClient(bus.address)
        assert client.call("Retry", "child-1a") is None
        assert client.call("GetDevice", "child-1") == "/org/gatewayd1/device/child_2d1a"
        action, rule, _ = client.call("TestAdmission", "child-1a")
        assert (action, rule) == ("ask", "cameras")

    await asyncio.to_thread(work)


@pytest.mark.integration
async def test_descriptors_go_both_ways(bus: PrivateBus, service: Bus) -> None:
    def work() -> None:
        client = BusClient(bus.address)
        with os.fdopen(client.call("Dump"), "rb") as dump:
            assert dump.read() == b"{}"
        read, write = os.pipe()
        client.call("Export", write, at=STORE)
        os.close(write)
        with os.fdopen(read, "rb") as exported:
            assert exported.read() == b"all of them"

    await asyncio.to_thread(work)


@pytest.mark.integration
async def test_errors_are_ours(bus: PrivateBus, service: Bus) -> None:
    def work() -> None:
        client = BusClient(bus.address)
        with pytest.raises(GatewayError, match="No such device"):
            client.call("GetDevice", "child-9")

    await asyncio.to_thread(work)


@pytest.mark.parametrize(("message", "told"), [
    ("GDBus.Error:org.gatewayd1.Error.NoSuchDevice: No such device", "No such device"),
    ("GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: The name ...",
     "gatewayd is not running"),
    ("Timeout was reached", "Timeout was reached"),
    ("GDBus.Error:a.B: one\x1b", r"one\x1b"),
])  # fmt: skip
def test_errors_of_the_bus(message: str, told: str) -> None:
    assert reason(message) == told
