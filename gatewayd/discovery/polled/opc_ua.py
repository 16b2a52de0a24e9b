"""The discoverer of OPC UA servers at listed hosts.  It opens no session, and does not log in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from gatewayd.discovery.discoverer import Context
from gatewayd.discovery.probing.connection import HostConnection, connected
from gatewayd.discovery.probing.hosts import PollSettings, size_of
from gatewayd.discovery.probing.poller import (
    GAP,
    MAX_FURTHER,
    HostPoller,
    HostQuestion,
    HostVisit,
    device_key,
)
from gatewayd.discovery.probing.protocol import Transmission, UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua import messages as opc_ua
from gatewayd.discovery.protocols.opc_ua.identity import found_server, ports_of, url_of
from gatewayd.discovery.protocols.opc_ua.messages import MessageReader, UaChannel, UaEndpoint
from gatewayd.settings.declare import setting

MAX_PORTS = 8
"""Ports of each host that an operator may list."""
BUDGET = 2 * opc_ua.MAX_MESSAGE
"""Bytes that are read of one connection."""
OFF_HOST = "off-host"
"""Why a server is not asked that a host has named: it is at another."""


@dataclass(frozen=True, slots=True)
class OpcUaSettings(PollSettings):
    """[discovery.<name>] with kind = "opc-ua"."""

    ports: tuple[int, ...] = setting(
        (opc_ua.PORT,),
        "TCP ports that are asked at each host; further servers of the host, which a discovery "
        "server there lists, are asked, too",
        low=1,
        high=65_535,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from super(OpcUaSettings, self).problems()
        if not 0 < len(self.ports) <= MAX_PORTS or len(set(self.ports)) < len(self.ports):
            yield f"ports must have 1 to {MAX_PORTS} numbers, each once"
        yield from self.too_often(len(self.ports) * sum(map(size_of, self.hosts)))


class UaServers:
    """The servers of all hosts, each asked by one channel that is closed before the next.

    wall: returns the seconds since the epoch, which servers are given.
    """

    kind = "opc-ua"

    def __init__(self, settings: OpcUaSettings, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self.parts: Sequence[str] = tuple(map(str, settings.ports))
        self.questions: Sequence[HostQuestion] = tuple(map(_question, settings.ports))

    async def visit(self, address: str, part: str, _: Context) -> HostVisit:
        """Ask one server, as `HostProtocol` says."""
        url = url_of(address, int(part))
        async with connected(address, int(part), BUDGET) as connection:
            asking = _ServerVisit(connection, url, self._wall())
            endpoints, ports = await asking.facts(address)
        found = found_server(device_key(address, part), int(part), endpoints)
        further = [str(port) for port in ports if port is not None]
        off_host = sum(port is None for port in ports)
        return HostVisit([found] if found else [], further, {OFF_HOST: off_host})


class _ServerVisit:
    """The questions to one server over one connection.

    url: as it was dialled.  at: seconds since the epoch.
    """

    def __init__(self, connection: HostConnection, url: str, at: float) -> None:
        self._connection, self._url, self._at = connection, url, at

    async def facts(self, address: str) -> tuple[list[UaEndpoint], list[int | None]]:
        """Return the endpoints of a server, and what it says of others as `ports_of` does."""
        await self._connection.send(opc_ua.hello(self._url))
        opc_ua.read_hello_answer(*await self._chunk())
        await self._connection.send(opc_ua.open_channel(self._at))
        channel = opc_ua.read_channel(*await self._chunk())
        try:
            request = opc_ua.get_endpoints(channel, 2, self._url, self._at)
            endpoints = opc_ua.read_endpoints(await self._answer(request, channel, 2))
            return endpoints, await self._ports(channel, address)
        finally:
            with suppress(OSError):  # the server was faster
                await self._connection.send(opc_ua.close_channel(channel, 4, self._at))

    async def _ports(self, channel: UaChannel, address: str) -> list[int | None]:
        """Return where further servers are; none if the server does not say."""
        request = opc_ua.find_servers(channel, 3, self._url, self._at)
        with suppress(UnreadableAnswer):  # it is a server all the same
            servers = opc_ua.read_servers(await self._answer(request, channel, 3))
            return list(ports_of(servers, address))
        return []

    async def _answer(self, request: bytes, channel: UaChannel, number: int) -> bytes:
        await self._connection.send(request)
        reader = MessageReader(channel, number)
        while (whole := reader.add(*await self._chunk())) is None:
            pass
        return whole

    async def _chunk(self) -> tuple[opc_ua.ChunkHeader, bytes]:
        header = opc_ua.read_header(await self._connection.receive(opc_ua.HEADER))
        return header, await self._connection.receive(header.size)


def _question(port: int) -> HostQuestion:
    channel, url = UaChannel(0, 0), url_of("192.0.2.1", port)
    sent = (
        opc_ua.hello(url),
        opc_ua.open_channel(0.0),
        opc_ua.get_endpoints(channel, 2, url, 0.0),
        opc_ua.find_servers(channel, 3, url, 0.0),
        opc_ua.close_channel(channel, 4, 0.0),
    )
    size = sum(map(len, sent))
    return HostQuestion(f"port {port} by TCP", size, "a channel, GetEndpoints and FindServers")


class OpcUa(HostPoller):
    """The discoverer.  gap: as of `HostPoller`.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = OpcUaSettings

    def __init__(self, name: str, settings: OpcUaSettings, *, gap: float = GAP) -> None:
        super().__init__(name, settings, UaServers(settings), gap=gap)

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent to the hosts, further servers of theirs included."""
        every, what = self._settings.probe_every, "the same, of servers that it lists"
        to = f"up to {MAX_FURTHER} further ports of a host by TCP"
        return [*super().transmissions(), Transmission(to, "", every, 0, what)]
