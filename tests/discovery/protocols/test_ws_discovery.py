"""WS-Discovery: captured messages, hostile ones, and what another implementation makes of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsdiscovery import QName, Scope
from wsdiscovery.actions.probematch import constructProbeMatch
from wsdiscovery.actions.resolvematch import constructResolveMatch
from wsdiscovery.message import createSOAPMessage, parseSOAPMessage
from wsdiscovery.service import Service

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.fetch import FetchRefused
from gatewayd.discovery.probing.protocol import (
    SUSPECT,
    Datagram,
    Found,
    Goodbye,
    Own,
    Probe,
    UnreadableAnswer,
)
from gatewayd.discovery.protocols.ws_discovery.discoverer import (
    WsDiscovery,
    WsDiscoveryProtocol,
    WsDiscoverySettings,
)
from gatewayd.discovery.protocols.ws_discovery.messages import (
    ADDRESSING,
    DEVICES_PROFILE,
    DISCOVERY,
    MAX_TARGETS,
    ONVIF_NETWORK,
    PUBLICATION,
    SOAP,
    TargetService,
    WsMessage,
    WsMessageKind,
    message_id,
    probe,
    read_message,
    resolve,
)
from gatewayd.discovery.protocols.ws_discovery.metadata import read_metadata
from gatewayd.discovery.protocols.ws_discovery.services import (
    MAX_REMEMBERED,
    ServiceMemory,
    found,
    scope_values,
)
from tests.support.reportable import assert_reportable

VECTORS: Sequence[Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors/ws_discovery.json").read_text()
)
TOKEN = b"12345678"
CAMERA = "3fa1fe68-b915-4053-a3e1-c006c3afec0e"
SENDER = "192.168.12.128"


def of_kind(*kinds: str) -> list[Any]:
    return [
        pytest.param(one, id=one["id"]) for one in VECTORS if one["expect"]["kind"] in kinds
    ]  # fmt: skip


def message(payload: bytes | str) -> WsMessage:
    read = read_message(payload.encode() if isinstance(payload, str) else payload)
    assert read
    return read


def cause_of(payload: bytes | str) -> str:
    with pytest.raises(UnreadableAnswer) as refused:
        message(payload)
    return refused.value.cause


def envelope(body: str, header: str = "", declared: str = "") -> str:
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:d="{DISCOVERY}" {declared}>'
        f"<s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )


def endpoint(address: str) -> str:
    return f"<a:EndpointReference><a:Address>{address}</a:Address></a:EndpointReference>"


def hello(inside: str = "", address: str = f"urn:uuid:{CAMERA}") -> str:
    return envelope(f"<d:Hello>{endpoint(address)}{inside}</d:Hello>")


@pytest.mark.parametrize("vector", of_kind("ProbeMatches", "Hello"))
def test_a_captured_message_shows_its_service(vector: Mapping[str, Any]) -> None:
    expected = vector["expect"]
    read = message(vector["text"])
    (target,) = read.targets
    assert read.kind == expected["kind"]
    assert list(target.types) == expected.get("types", list(target.types))
    assert list(target.xaddrs) == expected["xaddrs"]
    if "relates_to" in expected:
        assert read.relates_to == expected["relates_to"].removeprefix("uuid:")


@pytest.mark.parametrize("vector", of_kind("ProbeMatches", "Hello"))
def test_a_captured_message_identifies_its_device(vector: Mapping[str, Any]) -> None:
    expected = vector["expect"]
    (target,) = message(vector["text"]).targets
    one = found(target, expected.get("address", "10.77.0.2"), is_behind=False)
    macs = {Claim("mac", "wsd", expected["mac"])} if "mac" in expected else set()
    assert one.claims == {Claim("uuid", "wsd", expected["uuid"])} | macs
    assert one.attributes["uuid"] == expected["uuid"]
    assert one.attributes.get("model") == expected.get("model")
    assert one.attributes.get("onvif.name") == expected.get("name")
    if "location" in expected:
        assert one.attributes["onvif.location"] == expected["location"]
    if "port" in expected:
        assert one.port == expected["port"]
    if not expected.get("onvif", True):
        assert one.attributes["wsd.types"] == "wsdp:Device pub:Computer"


@pytest.mark.parametrize("vector", of_kind("Fault"))
def test_a_fault_shows_nothing(vector: Mapping[str, Any]) -> None:
    assert cause_of(vector["text"]) == "fault"


def test_the_later_edition_is_read_too() -> None:
    later = {
        DISCOVERY: "http://docs.oasis-open.org/ws-dd/ns/discovery/2009/01",
        ADDRESSING: "http://www.w3.org/2005/08/addressing",
    }
    text = hello("<d:Scopes>onvif://www.onvif.org/name/x</d:Scopes>")
    for before, after in later.items():
        text = text.replace(before, after)
    (target,) = message(text).targets
    assert target == TargetService(
        f"urn:uuid:{CAMERA}", scopes=("onvif://www.onvif.org/name/x",)
    )  # fmt: skip


def test_editions_do_not_mix() -> None:
    mixed = hello().replace(ADDRESSING, "http://www.w3.org/2005/08/addressing")
    assert cause_of(mixed) == "no-endpoint"


@pytest.mark.parametrize("request_", [probe("1"), resolve("1", "urn:uuid:2")])
def test_what_another_host_asks_shows_nothing(request_: bytes) -> None:
    assert read_message(request_) is None


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", "malformed-xml"),
        ("<a/>", "no-soap"),
        (envelope(""), "no-soap"),
        (envelope("<x/>"), "foreign-message"),
        (envelope("<d:Greeting/>"), "foreign-message"),
        (envelope("<d:Hello/>"), "no-endpoint"),
        (hello(address=""), "no-endpoint"),
        (hello(address="x" * 256), "no-endpoint"),
        (envelope("<d:ProbeMatches/>"), "no-endpoint"),
        (hello().replace("<s:Env", "<!DOCTYPE a><s:Env"), "document-type"),
        (hello(" " * 8192), "oversized"),
    ],
)
def test_what_says_nothing_is_refused(payload: bytes | str, cause: str) -> None:
    assert cause_of(payload) == cause


def test_of_much_in_one_message_a_part_is_read() -> None:
    one = f"<d:ProbeMatch>{endpoint('urn:uuid:1')}</d:ProbeMatch>"
    assert len(message(envelope(f"<d:ProbeMatches>{one * 60}</d:ProbeMatches>")).targets) == (
        MAX_TARGETS
    )
    (target,) = message(hello(f"<d:Scopes>{'a:b ' * 100}{'x' * 300}</d:Scopes>")).targets
    assert len(target.scopes) == 64
    (target,) = message(hello(f"<d:XAddrs>{'http://a/ ' * 100}</d:XAddrs>")).targets
    assert len(target.xaddrs) == 8


def test_types_are_qualified_by_the_prefixes_of_their_element() -> None:
    types = f'<d:Types xmlns:q="{ONVIF_NETWORK}" xmlns="{DEVICES_PROFILE}">q:A B no:C</d:Types>'
    (target,) = message(hello(types)).targets
    assert target.types == (f"{{{ONVIF_NETWORK}}}A", f"{{{DEVICES_PROFILE}}}B", "C")
    assert found(target, SENDER, is_behind=False).attributes["wsd.types"] == "dn:A wsdp:B C"


def test_scopes_of_others_are_left_out() -> None:
    scopes = (
        "onvif://www.onvif.org/Hardware/AXIS%20P3265-V",
        "ONVIF://WWW.ONVIF.ORG/Profile/Streaming",
        "onvif://www.onvif.org/profile/T",
        "onvif://www.onvif.org/location/country/china",
        "onvif://www.onvif.org/name/",
        "onvif://www.onvif.org/name/%20",
        "onvif://www.onvif.org.example/name/x",
        "onvif://example/name/x",
        "http:123",
        "onvif://www.onvif.org",
    )
    assert scope_values(scopes) == {
        "hardware": ("AXIS P3265-V",),
        "profile": ("Streaming", "T"),
        "location": ("country/china",),
    }


@pytest.mark.parametrize(
    ("address", "claims"),
    [
        (f"urn:uuid:{CAMERA}", {Claim("uuid", "wsd", CAMERA)}),
        (f"UUID:{CAMERA.upper()}", {Claim("uuid", "wsd", CAMERA)}),
        ("urn:uuid:esp32-cam-onvif", {Claim("serial", "wsd", "esp32-cam-onvif")}),
        ("urn:uuid:00000000-0000-0000-0000-000000000000", set()),
        ("http://192.168.12.128/onvif/device_service", set()),
        (CAMERA, set()),
    ],
)
def test_an_endpoint_that_is_an_id_identifies(address: str, claims: set[Claim]) -> None:
    one = found(TargetService(address), SENDER, is_behind=False)
    assert one.claims == claims
    assert one.key == address


@pytest.mark.parametrize(
    ("xaddrs", "port"),
    [
        (("http://192.168.12.128/onvif",), 80),
        (("https://192.168.12.128",), 443),
        (("http://192.168.12.129:81/", "http://192.168.12.128:82/?a"), 82),
        (("http://0.0.0.0:83/", "http://127.0.0.1:84/", "http://camera:85/"), None),
        (("http://192.168.12.128:0/", "http://192.168.12.128:99999/"), None),
        (("http://[fe80::1]:86/",), None),
        ((), None),
    ],
)
def test_a_url_counts_if_it_leads_to_the_sender(xaddrs: tuple[str, ...], port: int | None) -> None:
    one = found(TargetService("urn:uuid:1", xaddrs=xaddrs), SENDER, is_behind=False)
    assert one.port == port


def test_a_url_with_an_address_of_ipv6() -> None:
    target = TargetService("urn:uuid:1", xaddrs=("http://[FE80::0:1]:8080/x",))
    assert found(target, "fe80::1%lan0", is_behind=False).port == 8080


def test_hostile_text_is_escaped_and_never_raw() -> None:
    scopes = ("onvif://www.onvif.org/name/a%1b%5bm", "onvif://www.onvif.org/hardware/%ff")
    one = found(TargetService("urn:uuid:x", scopes=scopes), SENDER, is_behind=False)
    assert one.attributes["onvif.name"] == r"a\x1b[m"
    assert "onvif.hardware" not in one.attributes


@given(st.binary(max_size=200), st.sampled_from([b"Hello", b"Bye", b"ProbeMatches", b"x"]))
def test_whatever_comes_is_read_or_refused(noise: bytes, word: bytes) -> None:
    inside = envelope("<d:W>@</d:W>").encode().replace(b"W", word).replace(b"@", noise)
    for payload in (noise, inside, hello().encode().replace(b"</d:Hello>", noise + b"</d:Hello>")):
        try:
            read = read_message(payload)
        except UnreadableAnswer:
            continue
        for target in read.targets if read else ():
            assert_reportable(found(target, SENDER, is_behind=False))


@given(st.text(max_size=300) | st.text("\u0130 a:/", max_size=300))
def test_whatever_an_endpoint_and_scopes_say_can_be_reported(text: str) -> None:
    escaped = "".join(f"&#{ord(one)};" for one in text)
    scope = f"<d:Scopes>onvif://www.onvif.org/name/{escaped}</d:Scopes>"
    for address in (escaped, f"urn:uuid:{escaped}"):
        try:
            read = message(hello(scope, address))
        except UnreadableAnswer:
            continue
        for target in read.targets:
            assert_reportable(found(target, SENDER, is_behind=False))


OWN, OWN6 = Own("10.0.0.1", 40000), Own("fe80::1", 40000)


def answered(identifier: str, *addresses: str) -> str:
    matches = "".join(f"<d:ProbeMatch>{endpoint(one)}</d:ProbeMatch>" for one in addresses)
    return envelope(
        f"<d:ProbeMatches>{matches}</d:ProbeMatches>", f"<a:RelatesTo>{identifier}</a:RelatesTo>"
    )


def protocol() -> WsDiscoveryProtocol:
    return WsDiscoveryProtocol(MetadataServer().fetch)


def came(text: str, *, is_answer: bool = True, asked: Sequence[bytes] = (TOKEN,)) -> list[Any]:
    datagram = Datagram(text.encode(), SENDER, 3702, is_answer, asked)
    return [*protocol().read(datagram)]


@pytest.mark.parametrize(("own", "group"), [(OWN, "239.255.255.250"), (OWN6, "ff02::c")])
def test_all_are_asked_for_each_of_the_types(own: Own, group: str) -> None:
    probes = protocol().probes(TOKEN, own)
    assert {(one.to, one.port, one.token) for one in probes} == {(group, 3702, TOKEN)}
    assert [one.after for one in probes] == [0, 0.3, 0.3]
    types = [one.payload.partition(b"<d:Probe>")[2].partition(b"</d:Probe>")[0] for one in probes]
    assert types == [
        b"",
        f'<d:Types xmlns:dn="{ONVIF_NETWORK}">dn:NetworkVideoTransmitter</d:Types>'.encode(),
        f'<d:Types xmlns:wsdp="{DEVICES_PROFILE}">wsdp:Device</d:Types>'.encode(),
    ]


def test_every_question_has_an_id_of_its_own() -> None:
    asking = protocol()
    of_one = asking.probe_of(SENDER, "urn:uuid:1", TOKEN, OWN)
    probes = (*asking.probes(TOKEN, OWN), of_one[0], of_one[-1])
    ids = {one.payload.partition(b"MessageID>uuid:")[2][:36] for one in probes}
    assert len(ids) == len(probes)
    assert all(TOKEN not in one.payload for one in probes)


@pytest.mark.parametrize(("own", "group"), [(OWN, "239.255.255.250"), (OWN6, "ff02::c")])
def test_one_is_asked_by_itself_and_then_by_multicast(own: Own, group: str) -> None:
    *alone, last = protocol().probe_of(SENDER, "urn:uuid:1", TOKEN, own)
    assert {one.to for one in alone} == {SENDER}
    assert (last.to, last.after) == (group, 1.0)
    assert b"<a:Address>urn:uuid:1</a:Address>" in last.payload


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("prefix", ["uuid:", "urn:uuid:", "URN:UUID:", " uuid:"])
def test_an_answer_names_the_question(prefix: str, number: int) -> None:
    (one,) = came(answered(prefix + message_id(TOKEN, number), "urn:uuid:1"))
    assert isinstance(one, Found)
    assert not one.is_behind


@pytest.mark.parametrize(
    ("identifier", "is_answer", "asked"),
    [
        ("", True, (TOKEN,)),
        ("uuid:" + message_id(TOKEN, 5), True, (TOKEN,)),
        ("uuid:" + message_id(TOKEN, 0), True, ()),
        ("uuid:" + message_id(TOKEN, 0), True, (b"another-",)),
        ("uuid:" + message_id(TOKEN, 0), False, (TOKEN,)),
    ],
)
def test_what_was_not_asked_is_no_answer(
    identifier: str, is_answer: bool, asked: Sequence[bytes]
) -> None:
    with pytest.raises(UnreadableAnswer, match="unasked"):
        came(answered(identifier, "urn:uuid:1"), is_answer=is_answer, asked=asked)


def test_a_hello_is_believed_without_a_question_and_a_bye_is_a_goodbye() -> None:
    (one,) = came(hello(), is_answer=False, asked=())
    assert isinstance(one, Found)
    bye = hello().replace("d:Hello", "d:Bye")
    assert came(bye, is_answer=False, asked=()) == [Goodbye(f"urn:uuid:{CAMERA}")]


NAMED = "<d:Types xmlns:dn='http://www.onvif.org/ver10/network/wsdl'>dn:X</d:Types>"
PLACED = f"<d:XAddrs>http://{SENDER}:8080/</d:XAddrs>"
VERSION = "<d:MetadataVersion>{}</d:MetadataVersion>"


def shown(listening: WsDiscoveryProtocol, inside: str, sender: str = SENDER) -> tuple[Any, Any]:
    """Return types and port of a Hello."""
    (one,) = listening.read(Datagram(hello(inside).encode(), sender, 3702, is_answer=False))
    assert isinstance(one, Found)
    return one.attributes.get("wsd.types"), one.port


def test_what_a_message_leaves_out_is_as_the_device_has_said_before() -> None:
    listening = protocol()
    assert shown(listening, PLACED) == (None, 8080)
    assert shown(listening, NAMED) == ("dn:X", 8080)
    assert shown(listening, "") == ("dn:X", 8080)
    assert shown(listening, "", "10.0.0.9") == (None, None)
    assert shown(listening, VERSION.format(2)) == (None, None)
    assert shown(listening, NAMED + VERSION.format(2)) == ("dn:X", None)


def test_what_devices_have_said_is_remembered_of_so_many() -> None:
    memory = ServiceMemory()
    said = TargetService("urn:uuid:1", types=("x",))
    memory.completed(said, SENDER)
    for number in range(MAX_REMEMBERED - 1):
        memory.completed(TargetService(f"urn:uuid:other-{number}"), SENDER)
    assert memory.completed(TargetService("urn:uuid:1"), SENDER) == said
    for number in range(MAX_REMEMBERED):
        memory.completed(TargetService(f"urn:uuid:other-{number}"), SENDER)
    assert memory.completed(TargetService("urn:uuid:1"), SENDER) != said


def test_several_in_one_answer_may_be_behind_its_sender() -> None:
    shown = came(answered("uuid:" + message_id(TOKEN, 0), "urn:uuid:1", "urn:uuid:2"))
    assert [(one.key, one.is_behind) for one in shown] == [
        ("urn:uuid:1", True), ("urn:uuid:2", True)
    ]  # fmt: skip


def test_what_another_host_asks_is_no_device() -> None:
    assert came(probe("1").decode(), is_answer=False) == []


class TestAnotherImplementation:
    """PyPI's WSDiscovery reads what is asked, and what it answers is read."""

    def test_it_reads_a_probe(self) -> None:
        payload = probe(message_id(TOKEN, 0), ONVIF_NETWORK, "dn:NetworkVideoTransmitter")
        read = parseSOAPMessage(payload, "10.0.0.2")
        assert read.getMessageId() == f"uuid:{message_id(TOKEN, 0)}"
        (one,) = read.getTypes()
        assert (one.getNamespace(), one.getLocalname()) == (
            ONVIF_NETWORK, "NetworkVideoTransmitter"
        )  # fmt: skip

    def test_it_reads_a_resolve(self) -> None:
        payload = resolve(message_id(TOKEN, 0), "urn:uuid:a&b<c")
        assert parseSOAPMessage(payload, "10.0.0.2").getEPR() == "urn:uuid:a&b<c"

    @pytest.mark.parametrize("kind", [WsMessageKind.PROBE_MATCHES, WsMessageKind.RESOLVE_MATCHES])
    def test_its_answers_are_read(self, kind: WsMessageKind) -> None:
        scope = "onvif://www.onvif.org/hardware/DEMO-1"
        url = "http://10.0.0.2:8080/onvif"
        service = Service(
            [QName(ONVIF_NETWORK, "NetworkVideoTransmitter")], [Scope(scope)], [url],
            f"urn:uuid:{CAMERA}", "7",
        )  # fmt: skip
        asked = f"uuid:{message_id(TOKEN, 0)}"
        if kind is WsMessageKind.PROBE_MATCHES:
            answer = constructProbeMatch([service], asked)
        else:
            answer = constructResolveMatch(service, asked)
        read = message(createSOAPMessage(answer))
        type_ = f"{{{ONVIF_NETWORK}}}NetworkVideoTransmitter"
        expected = TargetService(f"urn:uuid:{CAMERA}", (type_,), (scope,), (url,), "1")
        assert read == WsMessage(kind, message_id(TOKEN, 0), (expected,))


METADATA = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/mex" '
    f'xmlns:p="{DEVICES_PROFILE}" xmlns:a="{ADDRESSING}" xmlns:b="{PUBLICATION}"><s:Body>'
    "<x:Metadata><x:MetadataSection><p:ThisDevice><p:FriendlyName>Office\n printer</p:FriendlyName>"
    "<p:FriendlyName>other language</p:FriendlyName><p:SerialNumber>1</p:SerialNumber>"
    "</p:ThisDevice></x:MetadataSection><x:MetadataSection><p:ThisModel>"
    "<p:Manufacturer>Acme</p:Manufacturer><p:ModelName>P-17</p:ModelName></p:ThisModel>"
    "</x:MetadataSection><x:MetadataSection><p:Relationship><p:Host><a:EndpointReference>"
    f"<a:Address>urn:uuid:{CAMERA}</a:Address></a:EndpointReference>"
    "<b:Computer>HOST/Workgroup:X</b:Computer></p:Host></p:Relationship></x:MetadataSection>"
    "<x:MetadataSection><p:Other/></x:MetadataSection></x:Metadata></s:Body></s:Envelope>"
)
DPWS = f"<d:Types xmlns:wsdp='{DEVICES_PROFILE}'>wsdp:Device</d:Types>"


@pytest.mark.parametrize("vector", of_kind("Metadata"))
def test_captured_metadata_show_their_device(vector: Mapping[str, Any]) -> None:
    expected = vector["expect"]
    read = read_metadata(vector["text"].encode())
    assert (read.address, read.attributes) == (expected["address"], expected["attributes"])


class MetadataServer:
    """What fetches metadata.  asked: for what it was asked."""

    def __init__(self, body: str | Exception = METADATA) -> None:
        self.body = body
        self.asked: list[tuple[str, int, str, str, bytes]] = []

    async def fetch(
        self, address: str, port: int, path: str, interface: str, question: bytes = b""
    ) -> bytes:
        self.asked.append((address, port, path, interface, question))
        if isinstance(self.body, Exception):
            raise self.body
        return self.body.encode()


class ResolvingDevice:
    """A device that answers a Resolve, or nothing.  probes: what it was asked."""

    address, interface, own = SENDER, "lan0", OWN

    def __init__(self, xaddr: str = "") -> None:
        self.xaddr = xaddr
        self.probes: list[Probe] = []

    def token(self) -> bytes:
        return TOKEN

    async def ask(self, probe: Probe, seconds: float, wanted: Any = None) -> Datagram | None:
        self.probes.append(probe)
        related = f"<a:RelatesTo>uuid:{message_id(TOKEN, 3)}</a:RelatesTo>"
        more = f"{endpoint(f'urn:uuid:{CAMERA}')}<d:XAddrs>{self.xaddr}</d:XAddrs>"
        body = f"<d:ResolveMatches><d:ResolveMatch>{more}</d:ResolveMatch></d:ResolveMatches>"
        answer = Datagram(envelope(body, related).encode(), SENDER, 3702, asked=(probe.token,))
        return answer if self.xaddr and wanted(answer) else None

    async def connect(self, port: int) -> Any:
        raise AssertionError("not beside the fetch")


async def enquired(
    inside: str, server: MetadataServer, device: ResolvingDevice | None = None, **how: bool
) -> Found:
    asking = WsDiscoveryProtocol(server.fetch, **how)
    (one,) = asking.read(Datagram(hello(inside).encode(), SENDER, 3702, is_answer=False))
    assert isinstance(one, Found)
    (same,) = await asking.enquire(one, device or ResolvingDevice())
    return same


async def test_the_metadata_of_a_device_of_dpws_add_what_they_say() -> None:
    server, device = MetadataServer(), ResolvingDevice()
    one = await enquired(DPWS + PLACED.replace("8080/", "8080/x"), server, device)
    ((*place, question),) = server.asked
    assert place == [SENDER, 8080, "/x", "lan0"]
    assert b"<a:Action>http://schemas.xmlsoap.org/ws/2004/09/transfer/Get</a:Action>" in question
    assert f"<a:To>urn:uuid:{CAMERA}</a:To>".encode() in question
    assert one.label == "Office printer"
    assert one.attributes.items() >= {
        "vendor": "Acme", "model": "P-17", "serial": "1", "wsd.name": "Office printer",
        "wsd.computer": "HOST/Workgroup:X", "wsd.types": "wsdp:Device",
    }.items()  # fmt: skip
    assert one.claims == {Claim("uuid", "wsd", CAMERA)}
    assert not device.probes


async def test_a_device_that_has_not_said_where_its_metadata_are_is_asked() -> None:
    server, device = MetadataServer(), ResolvingDevice(f"http://{SENDER}:5357/y")
    one = await enquired(DPWS, server, device)
    assert [probe_.to for probe_ in device.probes] == [SENDER]
    assert [place[:3] for place in server.asked] == [(SENDER, 5357, "/y")]
    assert one.attributes["model"] == "P-17"


@pytest.mark.parametrize("xaddr", ["", "http://10.0.0.9/y", f"https://{SENDER}/y"])
async def test_metadata_elsewhere_or_by_https_are_not_fetched(xaddr: str) -> None:
    server = MetadataServer()
    one = await enquired(DPWS, server, ResolvingDevice(xaddr))
    assert "model" not in one.attributes
    assert not server.asked


async def test_a_device_whose_types_are_not_known_yet_may_have_metadata() -> None:
    assert (await enquired(PLACED, MetadataServer())).attributes["model"] == "P-17"


async def test_cameras_have_no_metadata_and_no_one_has_unless_wanted() -> None:
    server, device = MetadataServer(), ResolvingDevice()
    await enquired(NAMED + PLACED, server, device)
    await enquired(DPWS + PLACED, server, device, metadata=False)
    assert not server.asked
    assert not device.probes


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (METADATA.replace(CAMERA, "another"), "metadata-of-another"),
        (METADATA.replace("Relationship", "Relation"), "no-metadata"),
        (METADATA.replace("Metadata>", "Data>"), "no-metadata"),
        (METADATA.replace("x:Metadata>", "s:Fault>"), "fault"),
        ("<html/>", "no-soap"),
        (FetchRefused("redirect"), "metadata-refused"),
    ],
)
async def test_metadata_that_are_not_its_own_are_not_believed(
    body: str | Exception, cause: str
) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        await enquired(DPWS + PLACED, MetadataServer(body))
    assert refused.value.cause == cause


@given(st.binary(max_size=200), st.integers(0, len(METADATA)))
def test_whatever_metadata_are_they_are_read_or_refused(noise: bytes, place: int) -> None:
    whole = METADATA.encode()
    for body in (noise, whole[:place] + noise + whole[place:], whole[:place]):
        try:
            read = read_metadata(body)
        except UnreadableAnswer:
            continue
        assert_reportable(Found(CAMERA, frozenset(), read.attributes, read.name, 0.0))


@pytest.mark.parametrize("metadata", [True, False])
def test_what_is_sent_is_known_before(metadata: bool) -> None:
    settings = WsDiscoverySettings(("lan0", "lan0"), metadata=metadata)
    planned = WsDiscovery("cameras", settings).transmissions()
    by_tcp = [one for one in planned if one.to == "the device, by TCP"]
    assert [one.interface for one in by_tcp] == ["lan0"] * (1 + metadata)
    verified = [one.to for one in planned if one.occasion == SUSPECT]
    assert "239.255.255.250 port 3702 by UDP" in verified
