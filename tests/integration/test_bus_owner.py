"""The bus says who a caller is, and so has to be one that may."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from gatewayd.dbus.names import NAME
from gatewayd.dbus.relay import relay
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, connect, own, served

pytestmark = pytest.mark.integration

FREE = 1
"""The reply of RequestName where the name was free (D-Bus specification)."""


async def test_a_bus_of_root_or_of_this_user_is_served(
    bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[int] = []
    real = relay.owner_of

    def owner(connected: socket.socket) -> int:
        owners.append(real(connected))
        return owners[-1]

    monkeypatch.setattr(relay, "owner_of", owner)
    async with served(bus, RecordingCommands()):
        assert owners == [os.getuid()]


@pytest.mark.parametrize("owner", [os.getuid() + 4711, -1])
async def test_a_bus_of_another_user_could_say_that_a_caller_is_root(
    bus: PrivateBus,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: int,
) -> None:
    monkeypatch.setattr(relay, "owner_of", lambda _: owner)
    async with served(bus, RecordingCommands()):
        assert f"belongs to uid {owner}" in caplog.text
        other = await asyncio.to_thread(connect, bus.address)
        assert await asyncio.to_thread(own, other, NAME) == FREE
