"""The discoverer of SNMP agents at listed hosts: GET by version 2c, by version 1 for old ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ClassVar

from gatewayd.device.secret import Secret
from gatewayd.discovery.discoverer import Context
from gatewayd.discovery.probing.connection import host_socket
from gatewayd.discovery.probing.hosts import PollSettings, size_of
from gatewayd.discovery.probing.poller import GAP, HostPoller, HostQuestion, HostVisit
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.snmp import messages as snmp
from gatewayd.discovery.protocols.snmp.ber import ObjectName
from gatewayd.discovery.protocols.snmp.identity import DETAILS, SYSTEM, found_agent
from gatewayd.discovery.protocols.snmp.messages import SnmpAnswer, SnmpError, SnmpVersion, Value
from gatewayd.errors import ConfigError
from gatewayd.settings.declare import given_credential, given_file, setting

PUBLIC = b"public"
"""The community that most agents have, if an operator names no other."""
ANSWER = 0.7
"""Seconds in which an agent answers."""
TRIES = 2
"""How often a question is sent in the newer version; in the older one it is sent once."""
OLD_FOR = 24
"""Visits until an agent that has answered by the older version is asked by the newer one again: it
may have been starting."""
MOST_SILENCES = 3
"""Visits in a row after which an agent is taken for one that never says more than who it is."""
MOST_STRAY = 8
"""Datagrams from an agent that are passed over while its answer is awaited."""

_NUMBERS = 1 << 31
_SHOWN: Mapping[SnmpVersion, str] = {SnmpVersion.V1: "1", SnmpVersion.V2C: "2c"}


@dataclass(frozen=True, slots=True)
class SnmpSettings(PollSettings):
    """[discovery.<name>] with kind = "snmp"."""

    port: int = setting(snmp.PORT, "UDP port", low=1, high=65_535)
    community_credential: str = given_credential(
        "the community for reading, which anyone on its way can read, too; without it, and "
        f'without a file, it is "{PUBLIC.decode()}"'
    )
    community_file: Path | None = given_file("the community for reading", "community_credential")

    @property
    def secret_place(self) -> tuple[str, Path | None]:
        """The credential and the file of what gatewayd hands over to this source."""
        return self.community_credential, self.community_file

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from super(SnmpSettings, self).problems()
        if self.community_credential and self.community_file is not None:
            yield "there are both community_credential and community_file: leave one out"
        yield from self.too_often(sum(map(size_of, self.hosts)))


class SnmpAgents:
    """The agents of all hosts.  community: in which they are asked."""

    kind = "snmp"
    parts: Sequence[str] = ("",)

    def __init__(self, settings: SnmpSettings, community: bytes) -> None:
        self._port, self._community = settings.port, community
        self._old: dict[str, int] = {}
        self._silences: dict[str, int] = {}
        self.questions: Sequence[HostQuestion] = tuple(self._questions())

    async def visit(self, address: str, _: str, context: Context) -> HostVisit:
        """Ask one agent, as `HostProtocol` says."""
        sock, place = host_socket(address, self._port, socket.SOCK_DGRAM)
        with sock:
            try:
                await asyncio.get_running_loop().sock_connect(sock, place)
                agent = _Agent(sock, self._community, count(int(context.jitter() * _NUMBERS)))
                version, values = await self._asked(agent, address)
            except ConnectionError as error:  # no agent is there, as while the host starts
                raise TimeoutError from error
        return HostVisit([found_agent(address, values, _SHOWN[version], self._port)])

    async def _asked(
        self, agent: _Agent, address: str
    ) -> tuple[SnmpVersion, Mapping[ObjectName, Value]]:
        """Return what an agent says, and in which version."""
        is_old = address in self._old
        for version in (SnmpVersion.V1,) if is_old else (SnmpVersion.V2C, SnmpVersion.V1):
            try:
                system = await agent.values(version, SYSTEM)
            except TimeoutError:
                continue
            if not system:
                raise UnreadableAnswer("nothing-shown")
            self._note(address, version)
            return version, {**system, **await self._details(agent, address, version)}
        self._old.pop(address, None)
        raise TimeoutError

    def _note(self, address: str, version: SnmpVersion) -> None:
        """Note in which version an agent has answered: the older one goes first for a while."""
        if version is SnmpVersion.V1:
            left = self._old.pop(address, OLD_FOR) - 1
            if left:
                self._old[address] = left

    async def _details(
        self, agent: _Agent, address: str, version: SnmpVersion
    ) -> Mapping[ObjectName, Value]:
        """Return what some agents have.  Raises TimeoutError if none of it comes, a few times.

        Without its serial number a device would seem to be another for a while.  But some agents
        never answer when they are asked for what they do not know.
        """
        try:
            found = await agent.values(version, DETAILS)
        except TimeoutError:
            self._silences[address] = self._silences.get(address, 0) + 1
            if self._silences[address] < MOST_SILENCES:
                raise
            return {}
        self._silences.pop(address, None)
        return found

    def _questions(self) -> Iterator[HostQuestion]:
        for version, names, purpose in (
            (SnmpVersion.V2C, SYSTEM, "GET: who it is"),
            (SnmpVersion.V2C, DETAILS, "GET: its serial number and model"),
            (SnmpVersion.V1, SYSTEM, "the same by version 1, if there is no answer"),
        ):
            request = snmp.get_request(version, self._community, 0, names)
            yield HostQuestion(f"port {self._port} by UDP", len(request), purpose)


class _Agent:
    """One agent, by a socket that is connected to it.  numbers: of the questions; each once."""

    def __init__(self, sock: socket.socket, community: bytes, numbers: Iterator[int]) -> None:
        self._sock, self._community, self._numbers = sock, community, numbers

    async def values(
        self, version: SnmpVersion, names: Sequence[ObjectName]
    ) -> Mapping[ObjectName, Value]:
        """Return those of these objects that the agent has.  Raises TimeoutError, UnreadableAnswer.

        In version 1, and from some agents in the newer one, a question for an object that is not
        there is answered by an error as a whole: then they are asked for one by one.
        """
        if version is SnmpVersion.V2C or names is SYSTEM:
            answer = await self._answer(version, names)
            if answer.status == SnmpError.NONE:
                return answer.values
        found: dict[ObjectName, Value] = {}
        for name in names:
            answer = await self._answer(version, [name])
            if answer.status == SnmpError.NONE:
                found |= answer.values
        return found

    async def _answer(self, version: SnmpVersion, names: Sequence[ObjectName]) -> SnmpAnswer:
        loop, number = asyncio.get_running_loop(), next(self._numbers) % _NUMBERS
        request = snmp.get_request(version, self._community, number, names)
        for _ in range(TRIES if version is SnmpVersion.V2C else 1):
            await loop.sock_sendall(self._sock, request)
            try:
                async with asyncio.timeout(ANSWER):
                    return await self._received(version, number, names)
            except TimeoutError:
                continue
        raise TimeoutError

    async def _received(
        self, version: SnmpVersion, number: int, names: Sequence[ObjectName]
    ) -> SnmpAnswer:
        """Return the answer to one question; what answers an earlier one is passed over."""
        loop = asyncio.get_running_loop()
        for _ in range(MOST_STRAY):
            datagram = await loop.sock_recv(self._sock, snmp.MAX_DATAGRAM + 1)
            try:
                return snmp.read_answer(datagram, version, number, names)
            except UnreadableAnswer as answer:
                if answer.cause != snmp.NOT_ASKED:
                    raise
        raise UnreadableAnswer("endless")


class Snmp(HostPoller):
    """The discoverer.

    secret: the community for reading; None for `PUBLIC`.  gap: as of `HostPoller`.
    Raises ConfigError.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = SnmpSettings

    def __init__(
        self, name: str, settings: SnmpSettings, secret: Secret | None = None, *, gap: float = GAP
    ) -> None:
        community = PUBLIC if secret is None else secret.reveal()
        if len(community) > snmp.MAX_COMMUNITY:
            raise ConfigError(
                f"{name}: the community has {len(community)} bytes, and may have "
                f"{snmp.MAX_COMMUNITY}: check its credential or file"
            )
        super().__init__(name, settings, SnmpAgents(settings, community), gap=gap)
