"""The D-Bus client: descriptors, errors, and when a password may be asked for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from gatewayd.cli.client import BusClient, interruptible, refusal
from gatewayd.dbus.bus import Bus
from gatewayd.dbus.glib import GLib
from gatewayd.dbus.methods import SECRET_STORE_METHODS
from gatewayd.dbus.names import GATEWAY, STORE
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import StoreView
from gatewayd.errors import GatewayError
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, UnsupportedStore, served, view


class Store(UnsupportedStore):
    """A store that can do one thing."""

    async def export(self, target: int, caller: str) -> None:
        await asyncio.to_thread(os.write, target, b"all of them")


@pytest.fixture
async def asked() -> RecordingCommands:
    return RecordingCommands("child-1a")


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    shown = StoreView("vault", "none", "sealed", "No key.")
    store = ExportedObject(STORE, shown, SECRET_STORE_METHODS.bind(Store()))
    async with served(bus, asked, view("child-1a"), further=[store], gather=0.02) as ours:
        yield ours


class Prompt:
    """A context that records how many calls were made when it was entered and left."""

    def __init__(self, asked: RecordingCommands) -> None:
        self._asked, self.seen = asked, list[int]()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.seen.append(len(self._asked.asked))
        yield
        self.seen.append(len(self._asked.asked))


@pytest.mark.integration
async def test_a_password_can_be_asked_for_only_where_authorization_is_needed(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
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


@pytest.mark.parametrize(("message", "text"), [
    ("GDBus.Error:org.gatewayd1.Error.NoSuchDevice: No such device", "No such device"),
    ("GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: The name ...",
     "gatewayd is not running. See: systemctl status gatewayd"),
    ("Timeout was reached", "Timeout was reached"),
    ("GDBus.Error:a.B: one\x1b", r"one\x1b"),
])  # fmt: skip
def test_errors_of_the_bus(message: str, text: str) -> None:
    assert str(refusal(message)) == text


@pytest.mark.parametrize("text", [
    "Object does not exist at path “/org/gatewayd1/provider/far”",
    "No such interface “org.gatewayd1.Authority” on object at path /org/gatewayd1/provider/far",
])  # fmt: skip
def test_what_the_configuration_leaves_out_is_explained(text: str) -> None:
    message = f"GDBus.Error:org.freedesktop.DBus.Error.UnknownMethod: {text}"
    assert str(refusal(message, "no CA")) == "no CA"
    assert str(refusal(message)) == text
    assert str(refusal("GDBus.Error:a.B: refused", "no CA")) == "refused"


def test_an_interrupt_within_a_callback_is_not_lost() -> None:
    def interrupt() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return False

    before = signal.getsignal(signal.SIGINT)
    with interruptible() as step:
        GLib.idle_add(interrupt)
        with pytest.raises(KeyboardInterrupt):
            # One step serves what is ready first, which need not be the callback of this test.
            deque(iter(step, object()), maxlen=0)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_after_the_last_step_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)
