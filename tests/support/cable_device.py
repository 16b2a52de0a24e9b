"""Devices at the far end of a cable that answer by datagrams, and what strangers there send."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Self

from gatewayd.discovery.discoverer import Discoverer
from gatewayd.discovery.link.sockets import join_group
from tests.support.cable import INTERFACE, Cable
from tests.support.toy import bound

Address = tuple[str, int]
FORGED = 2000
"""Answers that a stranger sends."""


class CableDevice(asyncio.DatagramProtocol):
    """A device that answers what is sent to it, to its group or to all.

    place: its address and port.  to: the group or the broadcast address at which it listens, too.
    answer: what it answers to a question.  asked: the questions, and who has asked them.
    """

    def __init__(
        self, cable: Cable, place: Address, to: str, answer: Callable[[bytes], Iterable[bytes]]
    ) -> None:
        self._cable, self._place, self._to, self._answer = cable, place, to, answer
        self._transports: list[asyncio.DatagramTransport] = []
        self.is_silent = False
        self.asked: list[tuple[bytes, Address]] = []

    async def __aenter__(self) -> Self:
        address, port = self._place
        with ExitStack() as opened, self._cable.at_the_far_end():
            made = [opened.enter_context(bound(one, port)) for one in (address, self._to)]
            if not self._to.endswith(".255"):
                join_group(made[1], self._to, socket.if_nametoindex(INTERFACE))
            opened.pop_all()
        loop = asyncio.get_running_loop()
        for one in made:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=one)
            self._transports.append(transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._transports:
            one.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Answer from the device's own address."""
        self.asked.append((data, addr))
        for one in () if self.is_silent else self._answer(data):
            self.say(one, addr)

    def say(self, payload: bytes, to: Address) -> None:
        """Send something, asked or not."""
        self._transports[0].sendto(payload, to)


class AnsweringTestbed:
    """Devices that answer, by the keys that the discoverer finds them under.

    stranger: answers as many other devices.  forged: its answer to a question, as a number.
    """

    limit = 50

    def __init__(
        self,
        discoverer: Discoverer,
        devices: Mapping[str, CableDevice],
        stranger: CableDevice,
        forged: Callable[[bytes, int], bytes],
    ) -> None:
        self.discoverer, self.count = discoverer, len(devices)
        self._devices, self._stranger, self._forged = devices, stranger, forged

    async def remove(self, key: str) -> bool:
        """Silence a device."""
        self._devices[key].is_silent = True
        return True

    async def abuse(self) -> None:
        """Answer the last question as many devices, and with what is no answer."""
        question, asker = self._stranger.asked[-1]
        for number in range(FORGED):
            whole = self._forged(question, number)
            for payload in (whole, whole[: number % len(whole)], os.urandom(number % 300)):
                self._stranger.say(payload, asker)
            await asyncio.sleep(0)
