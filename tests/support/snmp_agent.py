"""Agents of SNMP on the loopback interface, each at its own address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gatewayd.discovery.polled.snmp import PUBLIC
from gatewayd.discovery.protocols.snmp import ber
from gatewayd.discovery.protocols.snmp.ber import ObjectName
from gatewayd.discovery.protocols.snmp.identity import MODEL, NAME, OBJECT_ID, SERIAL
from gatewayd.discovery.protocols.snmp.messages import GET, RESPONSE, SnmpError, SnmpVersion

SWITCH: dict[ObjectName, bytes] = {
    NAME: ber.element(ber.OCTETS, b"switch-7"),
    OBJECT_ID: ber.object_name((1, 3, 6, 1, 4, 1, 9, 1, 1)),
    SERIAL: ber.element(ber.OCTETS, b"FOC1234X56Y"),
    MODEL: ber.element(ber.OCTETS, b"WS-1"),
}


@dataclass
class SnmpAgent(asyncio.DatagramProtocol):
    """An agent.  objects: elements by name.

    versions: those that it answers.  whole: whether it answers a question for an object that is
    not there by an error, in the newer version, too.  ignored: objects for which it is silent.
    stray: answers to other questions before each of its own.  repeated: how often each is sent.
    asked, sizes: versions and names, and bytes, of the questions so far.
    """

    objects: Mapping[ObjectName, bytes]
    versions: frozenset[int] = frozenset(SnmpVersion)
    whole: bool = False
    ignored: frozenset[ObjectName] = frozenset()
    stray: int = 0
    repeated: int = 1
    community: bytes = PUBLIC
    asked: list[tuple[int, tuple[ObjectName, ...]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.sizes.append(len(data))
        (message,) = ber.read_sequence(data, ber.SEQUENCE)
        version, community, pdu = ber.read_sequence(message, ber.INTEGER, ber.OCTETS, GET)
        number, _, _, bindings = ber.read_sequence(pdu, 2, 2, 2, ber.SEQUENCE)
        pairs = (ber.read_elements(one.content) for one in ber.read_elements(bindings))
        names = tuple(ber.read_object_name(name.content) for name, _ in pairs)
        spoken = ber.read_integer(version)
        self.asked.append((spoken, names))
        if spoken not in self.versions or community != self.community:
            return
        if self.ignored & set(names):
            return
        for other in (*range(self.stray), *self.repeated * [None]):
            asked = ber.read_integer(number) if other is None else other
            self._transport.sendto(self._answer(spoken, asked, names), addr)

    def _answer(self, version: int, number: int, names: tuple[ObjectName, ...]) -> bytes:
        lacks = any(name not in self.objects for name in names)
        is_error = lacks and (version == SnmpVersion.V1 or self.whole)
        status = SnmpError.NO_SUCH_NAME if is_error else SnmpError.NONE
        none = ber.element(ber.NULL if is_error else 0x81, b"")
        found = {name: none if is_error else self.objects.get(name, none) for name in names}
        pairs = (ber.element(0x30, ber.object_name(k) + v) for k, v in found.items())
        head = b"".join(map(ber.integer, (number, status, 0)))
        pdu = ber.element(RESPONSE, head + ber.element(0x30, b"".join(pairs)))
        return ber.element(
            0x30, ber.integer(version) + ber.element(ber.OCTETS, self.community) + pdu
        )


def _itself(agent: SnmpAgent) -> SnmpAgent:
    return agent


@asynccontextmanager
async def agents(*some: tuple[str, SnmpAgent]) -> AsyncIterator[int]:
    """Run agents; yield their port."""
    loop, port, transports = asyncio.get_running_loop(), 0, []
    try:
        for address, agent in some:
            made, _ = await loop.create_datagram_endpoint(
                partial(_itself, agent), local_addr=(address, port)
            )
            transports.append(made)
            port = made.get_extra_info("sockname")[1]
        yield port
    finally:
        for one in transports:
            one.close()
        await asyncio.sleep(0)
