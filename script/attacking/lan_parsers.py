"""Parsers of what the sources of discovery read from the LAN: a function for each source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from gatewayd.discovery.births.catalogue import dialects_of, subscriptions_of
from gatewayd.discovery.births.port import Birth, Dialect
from gatewayd.discovery.births.roster import Roster
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.discovery.discoverer import Health
from gatewayd.discovery.kernel.file_changes import parse_events
from gatewayd.discovery.kernel.witness import NeighbourWitness
from gatewayd.discovery.leases.book import LeaseBook
from gatewayd.discovery.leases.lease import ParseLeases, live
from gatewayd.discovery.leases.servers import SERVERS, LeaseServer
from gatewayd.discovery.probing.fetch import FetchRefused, own_target
from gatewayd.discovery.probing.protocol import Datagram, Found, Own, Probe, UnreadableAnswer
from gatewayd.discovery.protocols.bacnet.discoverer import BacnetProtocol
from gatewayd.discovery.protocols.coap.discoverer import CoapProtocol, IdentityResource
from gatewayd.discovery.protocols.coap.messages import parse_links
from gatewayd.discovery.protocols.ethernet_ip.discoverer import EthernetIpProtocol
from gatewayd.discovery.protocols.guarded_xml import parse
from gatewayd.discovery.protocols.knx.discoverer import KnxProtocol
from gatewayd.discovery.protocols.lldp.report import neighbours as lldp_neighbours
from gatewayd.discovery.protocols.oui import VendorList
from gatewayd.discovery.protocols.profinet import read_answer
from gatewayd.discovery.protocols.upnp.description import MAX_DESCRIPTION, read_description
from gatewayd.discovery.protocols.upnp.discoverer import UpnpProtocol
from gatewayd.discovery.protocols.ws_discovery.discoverer import WsDiscoveryProtocol
from gatewayd.discovery.protocols.ws_discovery.metadata import read_metadata
from gatewayd.discovery.raw_link.frames import LinkReport
from gatewayd.discovery.raw_link.helper import interface_names
from gatewayd.network.mqtt_rules import covers
from script.attacking.fuzzer import Parser
from script.attacking.host_parsers import host_parsers

VECTORS = Path(__file__).parents[2] / "tests/discovery/protocols/vectors"
SENDER = "10.77.0.2"
BETWEEN_BIRTHS = b"\x1d"
"""What separates messages in an input.  No JSON has it."""
MOST_BIRTHS = 8
"""Messages of an input."""


def lan_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield from _of_bacnet()
    yield from _of_profinet()
    yield from _of_ws_discovery()
    yield from _of_upnp()
    yield from _of_births()
    yield from _of_ethernet_ip_and_knx()
    yield from _of_coap()
    yield from host_parsers()
    yield from _of_other_programs()


def _texts(name: str, prefix: str = "") -> list[bytes]:
    """Return the captured texts of a file, of those whose id begins so."""
    vectors = json.loads((VECTORS / f"{name}.json").read_text())
    return [one["text"].encode() for one in vectors if one["id"].startswith(prefix)]


def _of_ws_discovery() -> Iterator[Parser]:
    messages = _texts("ws_discovery", "ws-")
    yield Parser(
        "XML of a device", lambda data: parse(data, MAX_DESCRIPTION),
        [*messages, b'<a:r xmlns:a="u"><b/>t</a:r>'], (UnreadableAnswer,),
        (b"<!DOCTYPE a [", b"<!ENTITY e '", b"<![CDATA[", b"xmlns:a='", b"&#x", b"<?xml encoding="),
    )  # fmt: skip
    yield Parser(
        "message of WS-Discovery",
        lambda data: [
            *WsDiscoveryProtocol(_fetch).read(Datagram(data, SENDER, 3702, is_answer=False))
        ],
        messages, (UnreadableAnswer,),
        (b"wsdd:Hello", b"wsdd:Bye", b"ProbeMatches", b"onvif://www.onvif.org/", b"urn:uuid:"),
    )  # fmt: skip
    yield Parser(
        "metadata of a printer", read_metadata,
        _texts("ws_discovery", "dpws"), (UnreadableAnswer,),
        (b"<wsdp:SerialNumber>", b"<wsx:MetadataSection>", b"<wsdp:Host>", b"<wsa:Address>"),
    )  # fmt: skip


def _of_upnp() -> Iterator[Parser]:
    yield Parser(
        "datagram of SSDP", _ssdp, _texts("upnp", "ssdp"), (UnreadableAnswer,),
        (b"HTTP/1.1 200 OK\r\n", b"NTS:ssdp:byebye", b"USN:uuid:", b"max-age=", b"LOCATION:http://"),
    )  # fmt: skip
    yield Parser(
        "description of UPnP", read_description, _texts("upnp", "upnp-description"),
        (UnreadableAnswer,),
        (b"<UDN>uuid:", b"<serialNumber>", b"<deviceList><device>", b"<MACAddress>", b"&#10;"),
    )  # fmt: skip
    yield Parser(
        "URL of a description", lambda data: own_target(data.decode("latin-1"), SENDER),
        [b"http://10.77.0.2:8200/rootDesc.xml", b"http://[fe80::1]/"], (FetchRefused,),
        (b"http://", b"@", b":80/", b"%0d%0a", b"\\", b"#"),
    )  # fmt: skip


async def _fetch(
    address: str, port: int, path: str, interface: str, question: bytes = b""
) -> bytes:
    raise AssertionError(f"nothing is fetched: {address} {port} {path} {interface} {question!r}")


def _ssdp(data: bytes) -> None:
    protocol = UpnpProtocol(_fetch)
    with suppress(UnreadableAnswer):
        [*protocol.read(Datagram(data, SENDER, 1900, is_answer=True))]
    [*protocol.read(Datagram(data, SENDER, 1900, is_answer=False))]


def _of_births() -> Iterator[Parser]:
    file = VECTORS.parents[1] / "births/vectors/births.json"
    seeds = [
        one["topic"].encode() + b"\n" + (one.get("text", "").encode() or bytes.fromhex(one["hex"]))
        for one in json.loads(file.read_text())
    ]
    yield Parser(
        "what a device announces at a broker", _births, [*seeds, *_stories(seeds)],
        (UnreadableAnswer,),
        (b'"availability":[{"topic":', b'"connections":[["mac","', b'"~":', b"NDEATH/edge1\n",
         BETWEEN_BIRTHS, b"bdSeq", b"zigbee2mqtt/bridge/event\n", b'"@health":', b"%prefix%",
         b"/events/rpc\n"),
    )  # fmt: skip


def _stories(seeds: list[bytes]) -> Iterator[bytes]:
    """Yield what a broker passes on of one device: that it is there, is asked, leaves, is gone."""
    yield b"tele/plug/LWT\nOnline"
    yield BETWEEN_BIRTHS.join(seeds[:MOST_BIRTHS])
    config = (
        b'{"device": {"identifiers": ["a"], "serial_number": "A1", "manufacturer": "x", '
        b'"connections": [["mac", "a0:20:a6:0a:ff:d2"]]}, "availability_topic": "a/status"}'
    )
    yield BETWEEN_BIRTHS.join([
        b"homeassistant/sensor/a/t/config\n" + config, b"a/status\nonline", b"a/status\noffline",
        b"homeassistant/sensor/a/t/config\n",
    ])  # fmt: skip
    listed = b'[{"ieee_address": "0x00158d00010a0b0c", "friendly_name": "%s", "type": "EndDevice"}]'
    yield BETWEEN_BIRTHS.join([
        b"zigbee2mqtt/bridge/devices\n" + listed % b"a", b"zigbee2mqtt/a/availability\nonline",
        b"zigbee2mqtt/bridge/devices\n" + listed % b"b", b"zigbee2mqtt/bridge/state\noffline",
        b"zigbee2mqtt/bridge/devices\n[]",
    ])  # fmt: skip
    born, died = (one for one in seeds if one.startswith(b"spBv1.0/"))
    yield BETWEEN_BIRTHS.join([
        born, born.replace(b"NBIRTH/edge1", b"DBIRTH/edge1/d"), b"spBv1.0/plant/DDEATH/edge1/d\n",
        died,
    ])  # fmt: skip
    yield BETWEEN_BIRTHS.join(
        one for one in seeds for _ in range(2) if b"shelly" in one.partition(b"\n")[0]
    ) + BETWEEN_BIRTHS + b"shellyplusht-b8d61a0a0b0c/online\ntrue"  # fmt: skip


def _births(data: bytes) -> None:
    """Read some messages in all dialects, each as kept and as just published, by one roster.

    A message is a topic, a line feed and a payload.
    """
    settings = BirthsSettings(doors=("plant",), dialects=tuple(DialectName), ask=True)
    roster = Roster(4, lambda _: 0, Health())
    for message in data.split(BETWEEN_BIRTHS)[:MOST_BIRTHS]:
        name, _, payload = message.partition(b"\n")
        topic = name.decode(errors="replace")
        for dialect in dialects_of(settings):
            if any(covers(one.filter, topic) for one in subscriptions_of(dialect, ask=True)):
                _apply(roster, dialect, topic, payload)
    roster.disconnected(1.0)


def _apply(roster: Roster, dialect: Dialect, topic: str, payload: bytes) -> None:
    for retained in (True, False):
        birth = Birth("births", "plant", topic, payload, retained, 0.0)
        for news in dialect.read(topic, payload):
            for key in tuple(roster.apply(dialect.name, news, birth)):
                if (entry := roster.get(key)) is not None:
                    roster.standing(entry)


def _frames(name: str) -> list[bytes]:
    """Return the captured bytes of a file."""
    vectors = json.loads((VECTORS / f"{name}.json").read_text())
    return [bytes.fromhex(one["hex"]) for one in vectors]


def _of_bacnet() -> Iterator[Parser]:
    yield Parser(
        "message of BACnet/IP",
        lambda data: [*BacnetProtocol().read(Datagram(data, SENDER, 47808))],
        _frames("bacnet"), (UnreadableAnswer,),
        (b"\x81\x0b", b"\x10\x00\xc4\x02", b"\x30\x01\x0c", b"\x3e\x75", b"\x07\xd1\x01\x0a"),
    )  # fmt: skip


def _of_profinet() -> Iterator[Parser]:
    yield Parser(
        "frame of PROFINET", read_answer, _frames("profinet"), (UnreadableAnswer,),
        (b"\x88\x92\xfe\xff\x05\x01", b"\x02\x02", b"\x02\x03\x00\x06", b"\x01\x02\x00\x0e"),
    )  # fmt: skip
    yield Parser(
        "report of the link helper", lambda data: LinkReport.decode(data, 2),
        [b"\0\0frame", b"\1\1"], (ValueError,),
    )  # fmt: skip
    yield Parser(
        "interfaces for the link helper", interface_names, [b"lan0\0eth1\0"], (ValueError,),
    )  # fmt: skip


def _of_ethernet_ip_and_knx() -> Iterator[Parser]:
    yield Parser(
        "identity of EtherNet/IP",
        lambda data: EthernetIpProtocol().read(
            Datagram(data, SENDER, 44818, asked=(data[12:20],))
        ),
        _frames("ethernet_ip"), (UnreadableAnswer,),
        (b"\x63\0", b"\x0c\0\x2d\0", b"\xff\xff", b"\xaf\x12", b"\x1a\x06\x6c\0"),
    )  # fmt: skip
    yield Parser(
        "answer of KNXnet/IP",
        lambda data: KnxProtocol().read(Datagram(data, SENDER, 3671)),
        _frames("knx"), (UnreadableAnswer,),
        (b"\x06\x10\x02\x02", b"\x02\x0c", b"\x02\x04", b"\x36\x01", b"\x02\x55", b"\0\xfe"),
    )  # fmt: skip


TOKEN = bytes(8)
_LINK_WORDS = (
    b'</>;rt="core.rd-lookup-ep"', b';ep="n";rt="core.rd-ep"', b";title=", b'"', b",<", b"%2f"
)  # fmt: skip


def _of_coap() -> Iterator[Parser]:
    links = b'</rd>;rt="core.rd",</ep>;rt="core.rd-lookup-ep";ct=40,</t>;title="say \\"x\\", y"'
    node = b'</reg/1/>;ep="node1";d="hall";base="coap://10.0.0.9";rt="core.rd-ep"'
    yield Parser(
        "links of CoAP", lambda data: (parse_links(data), parse_links(data, has_more=True)),
        [links, node], (UnreadableAnswer,), _LINK_WORDS,
    )  # fmt: skip
    head = bytes((0x58, 0x45, 0, 1)) + TOKEN
    yield Parser(
        "answer of CoAP",
        lambda data: CoapProtocol().read(Datagram(data, SENDER, 5683, asked=(TOKEN,))),
        [head + b"\xc1\x28\xff" + links, head + b"\x41\x01\x81\x28\xb1\x0a\xff" + node],
        (UnreadableAnswer,), (*_LINK_WORDS, b"\xff", b"\xb1\x0a", b"\xe0\xff\xff", b"\xd1\0"),
    )  # fmt: skip
    yield Parser(
        "answers of CoAP to an enquiry", _enquired,
        [b"\xc1\x28\xff" + links, b"\xc1\x28\xb1\x08\xff" + node, b"\xff0042",
         b'\xc1\x28\xff</l>;rt="core.rd-lookup-ep",' + node],
        (UnreadableAnswer, TimeoutError), (*_LINK_WORDS, b"\xb1\x08", b"\xb1\x18", b"\xff"),
    )  # fmt: skip


def _of_other_programs() -> Iterator[Parser]:
    """What a DHCP server, lldpd and the kernel have written of strangers."""
    seeds = _leases()
    words = (b"0 ", b"duid ", b" * ", b"&#x2c", b"epoch ", b"never;", b"binding state ", b"{", b"}",
             b'uid "\\001', b"ExpirationRealtimeUSec", b"HardwareAddress", b"[1,")  # fmt: skip
    for server, files in SERVERS.items():
        yield Parser(
            f"leases of {server}", partial(_read_leases, files.parse), seeds[server], (), words
        )
    yield Parser(
        "report of lldpd", lambda data: [*lldp_neighbours(data)], _texts("lldp"),
        (UnreadableAnswer,),
        (b'"interface":', b'"chassis":', b'"id":', b'"value":', b'"lldp-med":', b'"mgmt-ip":'),
    )  # fmt: skip
    kernel = json.loads((VECTORS.parents[1] / "kernel/vectors/neighbours.json").read_text())
    yield Parser(
        "neighbours of the kernel", _witness, [bytes.fromhex(one["hex"]) for one in kernel]
    )
    yield Parser(
        "events of inotify", lambda data: [*parse_events(data)],
        [b"\1\0\0\0\2\0\0\0\0\0\0\0\x08\0\0\0leases\0\0"],
    )  # fmt: skip
    yield Parser(
        "vendors of MACs", lambda data: VendorList(data, 28).find(0xD01411B00000),
        [b"D0-14-11   (hex)\t\tABB\r\nB00000-BFFFFF     (base 16)\t\tABB\r\n"], (),
        (b"   (hex)\t\t", b"     (base 16)\t\t", b"\r\n"),
    )  # fmt: skip


LEASES6: Mapping[LeaseServer, bytes] = {
    LeaseServer.DNSMASQ: (
        b"duid 00:01:00:01:32:a0:26:c1:24:0a:c4:ff:00:01\n"
        b"1796041885 456406219 fd77::6a plc 00:03:00:01:00:1b:1b:34:34:cb\n"
    ),
    LeaseServer.KEA: (
        b"address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,hwaddr,state\n"
        b"fd77::50,00:03:00:01:00:1b:1b:34:34:cb,600,1796042000,1,375,0,456406219,,0\n"
    ),
    LeaseServer.ISC: (
        b'ia-na "\\31344\\033\\000\\003\\000\\001\\000\\033\\03344\\313" {\n  iaaddr fd77::98 {\n'
        b"    binding state active;\n    ends 1 2026/11/30 12:32:36;\n  }\n}\n"
    ),
}
"""Leases of IPv6, as of tests/discovery/leases/test_formats.py."""


def _leases() -> Mapping[LeaseServer, list[bytes]]:
    """Return the captured files of each server, and one of IPv6."""
    file = VECTORS.parents[1] / "leases/vectors/leases.json"
    kinds = {"dhcp-dnsmasq": LeaseServer.DNSMASQ, "dhcp-kea": LeaseServer.KEA,
             "dhcp-isc": LeaseServer.ISC, "dhcp-networkd": LeaseServer.NETWORKD}  # fmt: skip
    found: dict[LeaseServer, list[bytes]] = {}
    for one in json.loads(file.read_text()):
        found.setdefault(kinds[one["protocol"]], []).append(one["text"].encode())
    for server, text in LEASES6.items():
        found[server].append(text)
    return found


def _read_leases(parse: ParseLeases, data: bytes) -> None:
    book = LeaseBook()
    book.update(live(filter(None, parse(data)), 0.0), 0.0)
    book.update([], 0.0)


def _witness(data: bytes) -> None:
    witness = NeighbourWitness(lambda: 0.0, lambda _: None, limit=2)
    witness.learn(data)
    witness.restart()
    witness.learn(data[::-1])
    witness.complete()


class _Answerer:
    """A device that gives the same answer to every question."""

    address, interface, own = SENDER, "lan0", Own("10.77.0.1", 40000)

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def token(self) -> bytes:
        return TOKEN

    async def ask(
        self, _probe: Probe, _seconds: float, wanted: Callable[[Datagram], bool] = bool
    ) -> Datagram | None:
        one = Datagram(bytes((0x58, 0x45, 0, 1)) + TOKEN + self._answer, SENDER, 5683)
        return one if wanted(one) else None

    async def connect(self, port: int) -> NoReturn:
        raise OSError(port)


def _enquired(data: bytes) -> object:
    """Have a device answer an enquiry with these options and this payload, again and again."""
    protocol = CoapProtocol(IdentityResource("serial", "/id"))
    device = Found(SENDER, frozenset(), {}, "", 0.0)
    work = protocol.enquire(device, _Answerer(data))
    try:
        work.send(None)  # it never waits
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")
