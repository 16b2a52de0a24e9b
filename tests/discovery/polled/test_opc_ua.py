"""The discoverer of OPC UA, against servers on the loopback interface, good ones and bad ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.polled.opc_ua import OpcUa, OpcUaSettings
from gatewayd.discovery.protocols.opc_ua import binary
from gatewayd.discovery.protocols.opc_ua.messages import (
    CHUNK,
    HEADER,
    POLICIES,
    ApplicationType,
    Encoding,
)
from gatewayd.errors import ConfigError
from gatewayd.testing.contracts.discoverer import DiscovererTestbed, running
from gatewayd.testing.waiting import until
from tests.support.listed_hosts import HostsBed, TcpHosts, tcp_hosts
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.integration

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
PACE = 0.02
VECTORS = json.loads((Path(__file__).parent.parent / "protocols/vectors/opc_ua.json").read_text())
BY_ID = {one["id"]: bytes.fromhex(one["hex"]) for one in VECTORS}
ACK = BY_ID["opc-ua-02"]
CAPTURED = BY_ID["opc-ua-01"][HEADER + 16 :]
"""The captured answer with endpoints, without its header."""
CERTIFICATE = b"\x30\x03abc"
CHANNEL, TOKEN = 9, 5


def answer(encoding: Encoding, content: bytes, *, status: int = 0) -> bytes:
    header = bytes(8) + struct.pack("<II", 1, status) + b"\0" + struct.pack("<i", -1) + bytes(3)
    return binary.numeric_id(encoding) + header + content


def application(uri: str, *urls: str, kind: int = 0) -> bytes:
    texts = binary.text(uri) + binary.text("urn:product") + b"\2" + binary.text(uri[4:])
    return texts + binary.u32(kind) + binary.octets(None) * 2 + binary.texts(urls)


def endpoints(uri: str, *, kind: int = 0, certificate: bytes = CERTIFICATE) -> bytes:
    one = binary.text("opc.tcp://plc.example:4840") + application(uri, kind=kind)
    one += binary.octets(certificate) + binary.u32(3) + binary.text(POLICIES + "Basic256Sha256")
    one += struct.pack("<i", 0) + binary.octets(None) + b"\0"
    return answer(Encoding.GET_ENDPOINTS_ANSWER, struct.pack("<i", 1) + one)


def servers(*listed: bytes) -> bytes:
    content = struct.pack("<i", len(listed)) + b"".join(listed)
    return answer(Encoding.FIND_SERVERS_ANSWER, content)


@dataclass
class UaServer:
    """A server.  found, listed: what it answers to GetEndpoints and to FindServers.

    piece: bytes of an answer in each chunk.  said: the kinds of messages, and of requests, so far.
    received: bytes of them.
    """

    found: bytes = CAPTURED
    listed: bytes = field(default_factory=servers)
    piece: int = CHUNK
    said: list[str] = field(default_factory=list)
    received: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while head := await reader.read(HEADER):
            kind, size = struct.unpack("<4sI", head)
            body = await reader.readexactly(size - HEADER)
            self.said.append(kind.decode())
            self.received += size
            match kind:
                case b"HELF":
                    writer.write(ACK)
                case b"OPNF":
                    writer.write(self._opened())
                case b"MSGF":
                    (encoding,) = struct.unpack_from("<xxH", body, 16)
                    assert any(body[22:30]), "open62541 refuses a request without a time"
                    self.said.append(Encoding(encoding).name)
                    is_first = encoding == Encoding.GET_ENDPOINTS
                    whole = self.found if is_first else self.listed
                    writer.writelines(self._chunks(whole, body[12:16]))
                case b"CLOF":
                    return
            await writer.drain()

    def _opened(self) -> bytes:
        head = binary.u32(CHANNEL) + binary.text(POLICIES + "None") + binary.octets(None) * 2
        content = binary.u32(0, CHANNEL, TOKEN) + bytes(8) + binary.u32(9) + binary.octets(b"")
        body = head + binary.u32(1, 1) + answer(Encoding.OPEN_CHANNEL_ANSWER, content)
        return b"OPNF" + binary.u32(HEADER + len(body)) + body

    def _chunks(self, whole: bytes, number: bytes) -> list[bytes]:
        made = []
        for at in range(0, len(whole), self.piece):
            body = binary.u32(CHANNEL, TOKEN, at) + number + whole[at : at + self.piece]
            final = b"F" if at + self.piece >= len(whole) else b"C"
            made.append(b"MSG" + final + binary.u32(HEADER + len(body)) + body)
        return made


def discoverer(hosts: TcpHosts, *addresses: str) -> OpcUa:
    chosen = OpcUaSettings(hosts=addresses or (FIRST,), ports=(hosts.port,))
    return OpcUa("plcs", chosen, gap=PACE)


@asynccontextmanager
async def two_plcs() -> AsyncIterator[HostsBed]:
    async with tcp_hosts() as hosts:
        for address in (FIRST, SECOND):
            await hosts.open(address, UaServer().serve)

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ACK + b"OPNF" + binary.u32(CHUNK) + b"\xff" * CHUNK)

        async def hurt() -> None:
            await hosts.close(FIRST)
            await hosts.open(FIRST, endless)

        yield HostsBed(discoverer(hosts, FIRST, SECOND), 2, 64, hosts.silence, hurt)


class TestContract(SourceContract):
    def make_testbed(self) -> AbstractAsyncContextManager[DiscovererTestbed]:
        return two_plcs()


async def test_a_server_is_asked_by_one_channel_that_is_closed() -> None:
    plc = UaServer()
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, plc.serve)
        made = discoverer(hosts)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen) and hosts.ended == 1)
        assert plc.received == made.transmissions()[0].size
        assert plc.said == [
            "HELF", "OPNF", "MSGF", "GET_ENDPOINTS", "MSGF", "FIND_SERVERS", "CLOF",
        ]  # fmt: skip
        assert (hosts.accepted, hosts.most_open) == (1, 1)
        (seen,) = sink.seen.values()
        assert (seen.key, seen.port) == (f"{FIRST}/{hosts.port}", hosts.port)
        assert seen.addresses == (FIRST,)  # and not the 127.0.0.1 of its endpoints
        assert [(one.kind, one.namespace) for one in seen.claims] == [
            ("serial", "opcua.certificate")
        ]
        assert seen.label == "FreeOpcUa Python Server"


async def test_an_answer_comes_in_chunks() -> None:
    plc = UaServer(piece=400)
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, plc.serve)
        async with running(discoverer(hosts)) as sink:
            await until(lambda: bool(sink.seen))


async def test_servers_that_a_host_lists_are_asked_at_that_host_and_nowhere_else() -> None:
    async with tcp_hosts() as lists, tcp_hosts() as hosts, tcp_hosts() as elsewhere:
        await hosts.open(FIRST, UaServer(endpoints("urn:press")).serve)
        await elsewhere.open(FIRST, UaServer(endpoints("urn:elsewhere")).serve)
        listed = servers(
            application("urn:press", f"opc.tcp://plc-7.example:{hosts.port}/x"),
            application("urn:elsewhere", f"opc.tcp://10.9.9.9:{elsewhere.port}"),
        )
        discovery = endpoints("urn:lds", kind=ApplicationType.DISCOVERY_SERVER)
        await lists.open(FIRST, UaServer(discovery, listed).serve)
        made = discoverer(lists)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
            (seen,) = sink.seen.values()
            assert (seen.key, seen.port) == (f"{FIRST}/{hosts.port}", hosts.port)
            assert await made.verify(seen) is not None
            fingerprint = hashlib.sha256(CERTIFICATE).hexdigest()
            assert seen.claims == {Claim("serial", "opcua.certificate", fingerprint)}
        assert made.health.dropped == {"off-host": 1}
        assert elsewhere.accepted == 0


async def test_a_server_that_lists_nothing_is_found_all_the_same() -> None:
    plc = UaServer(endpoints("urn:plc"), answer(Encoding.FAULT, b"", status=0x801F0000))
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, plc.serve)
        async with running(discoverer(hosts)) as sink:
            await until(lambda: bool(sink.seen))


@pytest.mark.parametrize(
    ("found", "dropped"),
    [
        (answer(Encoding.FAULT, b"", status=0x80130000), {"refused-by-server": 1}),
        (answer(Encoding.GET_ENDPOINTS_ANSWER, struct.pack("<i", 0)), {"nothing-shown": 1}),
        (answer(Encoding.GET_ENDPOINTS_ANSWER, struct.pack("<i", 99)), {"endless": 1}),
        (bytes(300_000), {"endless": 1}),
    ],
)
async def test_an_answer_that_says_nothing_is_counted(
    found: bytes, dropped: Mapping[str, int]
) -> None:
    plc = UaServer(found, piece=60_000)
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, plc.serve)
        made = discoverer(hosts)
        async with running(made) as sink:
            await until(lambda: bool(made.health.dropped))
        assert made.health.dropped == dropped
        assert not sink.seen
        assert hosts.most_open == 1


async def test_a_server_of_another_protocol_is_counted() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, http)
        made = discoverer(hosts)
        async with running(made):
            await until(lambda: bool(made.health.dropped))
        assert made.health.dropped == {"garbled": 1}


@pytest.mark.parametrize("ports", [(), (4840, 4840), tuple(range(1, 10))])
def test_settings_with_a_problem_are_refused(ports: Any) -> None:
    with pytest.raises(ConfigError, match="ports must have 1 to 8 numbers, each once"):
        OpcUa("plcs", OpcUaSettings(hosts=(FIRST,), ports=ports))


def test_the_plan_has_what_is_sent() -> None:
    made = OpcUa("plcs", OpcUaSettings(hosts=(FIRST,)))
    one, _, further = made.transmissions()
    assert one.to == "127.0.0.2 port 4840 by TCP"
    assert one.purpose == "a channel, GetEndpoints and FindServers"
    assert further.to == "up to 8 further ports of a host by TCP"
