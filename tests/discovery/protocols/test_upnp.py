"""SSDP and the descriptions of UPnP: captured ones, hostile ones, and all that devices vary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.fetch import FetchRefused
from gatewayd.discovery.probing.protocol import (
    SUSPECT,
    Datagram,
    Enquiry,
    Found,
    Goodbye,
    Own,
    Probe,
    UnreadableAnswer,
)
from gatewayd.discovery.protocols.upnp.description import (
    MAX_DESCRIPTION,
    UpnpDescription,
    read_description,
)
from gatewayd.discovery.protocols.upnp.discoverer import (
    Ssdp,
    SsdpSettings,
    UpnpProtocol,
)
from gatewayd.discovery.protocols.upnp.ssdp import (
    MAX_AGE,
    MAX_DATAGRAM,
    ROOT,
    USUAL_AGE,
    SsdpKind,
    SsdpMessage,
    bare_udn,
    read_message,
    search,
)
from tests.support.reportable import assert_reportable

VECTORS: Sequence[Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors/upnp.json").read_text()
)
UDN = "4d696e69-444c-164e-9d41-b827eb000001"
ANSWER = (
    "HTTP/1.1 200 OK\r\n"
    "CACHE-CONTROL: max-age=100\r\n"
    "EXT:\r\n"
    "LOCATION: http://10.0.0.7:80/description.xml\r\n"
    f"ST: {ROOT}\r\n"
    f"USN: uuid:{UDN}::{ROOT}\r\n"
    "\r\n"
)


def of(prefix: str) -> list[Any]:
    return [pytest.param(one, id=one["id"]) for one in VECTORS if one["id"].startswith(prefix)]


def message(text: str) -> SsdpMessage:
    read = read_message(text.encode("iso-8859-1"))
    assert read
    return read


def cause_of(payload: bytes) -> str:
    with pytest.raises(UnreadableAnswer) as refused:
        read_message(payload)
    return refused.value.cause


@pytest.mark.parametrize("vector", of("ssdp-"))
def test_a_captured_datagram_shows_its_device(vector: Mapping[str, Any]) -> None:
    expected = vector["expect"]
    read = message(vector["text"])
    assert read.kind == f"ssdp:{expected['kind']}"
    assert (read.udn, read.location) == (expected["udn"], expected["location"])
    assert read.max_age == expected["max_age"]
    assert read.is_of_root == (expected.get("nt") == ROOT)
    assert read.fields.items() >= expected.get("headers", {}).items()


def test_an_answer_is_read() -> None:
    read = message(ANSWER)
    assert (read.kind, read.udn, read.max_age, read.is_of_root) == (
        SsdpKind.RESPONSE, UDN, 100, True
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("CACHE-CONTROL: ", "cache-control:"),
        (": ", ":   "),
        (": ", " : "),
        ("\r\n", "\n"),
        ("\r\n\r\n", "\r\n"),
        ("\r\n\r\n", ""),
        ("max-age=100", 'no-cache="Ext", Max-Age = 100'),
        ("max-age=100", 'max-age="100"'),
        ("EXT:\r\n", "EXT:\r\nno field\r\nX" + "x" * 64 + ": y\r\nA: " + "z" * 256 + "\r\n"),
        ("EXT:\r\n", "LOCATION: http://10.0.0.7:80/description.xml\r\nEXT: x\r\n"),
        (f"ST: {ROOT}\r\n", f"ST: {ROOT}\r\nST: other\r\n"),
        ("uuid:4d", "UUID:4d"),
        ("uuid:4d", "urn:uuid:4d"),
        ("uuid:4d", "uuid:uuid:4d"),
        ("uuid:4d", "4d"),
        ("HTTP/1.1 200 OK", "HTTP/1.0 200"),
    ],
)
def test_what_devices_vary_changes_nothing(before: str, after: str) -> None:
    plain, varied = message(ANSWER), message(ANSWER.replace(before, after))
    for name in ("kind", "udn", "target", "location", "max_age", "is_of_root"):
        assert getattr(varied, name) == getattr(plain, name)


@pytest.mark.parametrize(
    ("written", "age"),
    [
        ("max-age=0", 0),
        ("max-age=1800", 1800),
        ("max-age=86401", MAX_AGE),
        ("max-age=" + "9" * 200, MAX_AGE),
        ("max-age=-1", USUAL_AGE),
        ("max-age=\u00b2", USUAL_AGE),
        ("no-cache", USUAL_AGE),
        ("", USUAL_AGE),
    ],
)
def test_how_long_it_may_be_believed(written: str, age: int) -> None:
    assert message(ANSWER.replace("max-age=100", written)).max_age == age


def test_without_an_age_or_a_location_it_is_a_device_too() -> None:
    read = message(f"NOTIFY * HTTP/1.1\r\nNTS: ssdp:byebye\r\nNT: {ROOT}\r\nUSN: uuid:x::{ROOT}")
    assert read == SsdpMessage(SsdpKind.BYEBYE, "x", ROOT, "", USUAL_AGE, read.fields)


@pytest.mark.parametrize(
    "udn", ["RINCON_48A6B8000000001400", "1", "device with blanks", "upnp_SonyIMediaSystem-1_0"]
)
def test_a_udn_that_is_no_uuid_is_kept_as_it_is(udn: str) -> None:
    assert message(ANSWER.replace(UDN, udn)).udn == udn
    assert bare_udn(f" uuid:{udn} ") == udn


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", "no-ssdp"),
        (b"\0\xff", "no-ssdp"),
        (b"GET / HTTP/1.1\r\n\r\n", "no-ssdp"),
        (b"HTTP/2 200 OK\r\n\r\n", "no-ssdp"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "refusal"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no-udn"),
        (b"HTTP/1.1 200 OK\r\nUSN: uuid:::upnp:rootdevice\r\n\r\n", "no-udn"),
        (b"NOTIFY * HTTP/1.1\r\nUSN: uuid:x\r\n\r\n", "foreign-message"),
        (b"NOTIFY * HTTP/1.1\r\nNTS: upnp:propchange\r\nUSN: uuid:x\r\n\r\n", "foreign-message"),
        (b"NOTIFY * HTTP/1.1\r\nNTS: response\r\nUSN: uuid:x\r\n\r\n", "foreign-message"),
        (ANSWER.encode() + bytes(MAX_DATAGRAM), "oversized"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 32 + b"USN: uuid:x\r\n", "no-udn"),
    ],
)
def test_what_says_nothing_is_refused(payload: bytes, cause: str) -> None:
    assert cause_of(payload) == cause


@pytest.mark.parametrize("host", ["239.255.255.250", "ff02::c", "fe80::7%lan0"])
def test_what_another_host_searches_shows_nothing(host: str) -> None:
    assert read_message(search(host, ROOT, 2)) is None


def test_a_search_is_as_the_standard_has_it() -> None:
    lines = search("ff02::c", f"uuid:{UDN}", 1).decode().split("\r\n")
    assert lines == [
        "M-SEARCH * HTTP/1.1", "HOST: [ff02::c]:1900", 'MAN: "ssdp:discover"', "MX: 1",
        f"ST: uuid:{UDN}", "", "",
    ]  # fmt: skip
    assert b"HOST: [fe80::7]:1900\r\n" in search("fe80::7%lan0", ROOT, 1)


@given(st.binary(max_size=400))
def test_whatever_comes_is_read_or_refused(noise: bytes) -> None:
    for payload in (
        noise,
        b"NOTIFY * HTTP/1.1\r\n" + noise,
        ANSWER.encode()[:60] + noise,
        ANSWER.replace(UDN, "@").encode().replace(b"@", noise),
        ANSWER.encode()[:-2] + b"SERVER: " + noise,
    ):
        for is_answer in (True, False):
            try:
                news = came(payload.decode("iso-8859-1"), is_answer=is_answer)
            except UnreadableAnswer:
                continue
            for one in news:
                if isinstance(one, Found):
                    assert_reportable(one)


def described(**elements: str) -> UpnpDescription:
    """Return the description of a root device with such elements, and an embedded one's."""
    inside = "".join(f"<{name}>{text}</{name}>" for name, text in elements.items())
    other = "<device><UDN>uuid:other</UDN><modelName>x</modelName></device>"
    return read_description(
        '<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion/><device>'
        f"<deviceList>{other}</deviceList><UDN>uuid:{UDN}</UDN>{inside}</device><device/></root>".encode()
    )


@pytest.mark.parametrize("vector", of("upnp-description-"))
def test_a_captured_description_shows_the_root_device(vector: Mapping[str, Any]) -> None:
    expected = vector["expect"]
    read = read_description(vector["text"].encode())
    shown = {
        "vendor": "manufacturer", "model": "model", "upnp.model-number": "model_number",
        "upnp.name": "name", "upnp.type": "device_type",
    }  # fmt: skip
    assert read.udn == expected["udn"]
    for key, name in shown.items():
        if name in expected:
            assert read.attributes[key] == expected[name]
    serials = {one.value for one in read.claims if one.kind == "serial"}
    assert serials == ({expected["serial"]} if expected["serial"] else set())


def test_a_serial_number_is_in_the_namespace_of_its_manufacturer() -> None:
    read = described(manufacturer="  Acme, Inc.\n (Berlin) ", serialNumber="A-17")
    assert read.claims == {Claim("serial", "upnp.acme-inc-berlin", "a-17")}
    assert read.attributes["vendor"] == "Acme, Inc. (Berlin)"
    assert not described(serialNumber="A-17").claims
    assert not described(manufacturer="\u5c0f\u7c73", serialNumber="A-17").claims


def test_what_players_say_beside_the_standard() -> None:
    read = described(
        manufacturer="Sonos, Inc.", serialNum="48-A6-B8-00-00-01:5", MACAddress="48:A6:B8:00:00:01"
    )
    assert read.claims == {
        Claim("mac", "upnp", "48a6b8000001"),
        Claim("serial", "upnp.sonos-inc", "48-a6-b8-00-00-01:5"),
    }


@pytest.mark.parametrize("serial", ["", "{{BRIDGEID}}", "12345678", "none", "0000"])
def test_a_serial_number_of_a_factory_identifies_nothing(serial: str) -> None:
    assert not described(manufacturer="Acme", serialNumber=serial).claims


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "malformed-xml"),
        (b"<html/>", "no-description"),
        (b"<root><device><UDN>uuid:x</UDN></device></root>", "no-description"),
        (b'<root xmlns="urn:schemas-upnp-org:device-1-0"/>', "no-description"),
        (b'<root xmlns="urn:schemas-upnp-org:device-1-0"><device/></root>', "no-description"),
        (b'<!DOCTYPE root><root xmlns="urn:schemas-upnp-org:device-1-0"/>', "document-type"),
        (b" " * (MAX_DESCRIPTION + 1), "oversized"),
    ],
)
def test_what_is_no_description_is_refused(body: bytes, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        read_description(body)
    assert refused.value.cause == cause


@given(st.text(max_size=300) | st.text("\u0130 a", max_size=300))
def test_whatever_a_description_says_can_be_reported(text: str) -> None:
    escaped = "".join(f"&#{ord(one)};" for one in text)
    try:
        read = described(friendlyName=escaped, manufacturer="x" + escaped, serialNumber=escaped)
    except UnreadableAnswer:
        return
    assert_reportable(Found(UDN, read.claims, read.attributes, read.name, 0.0))


SENDER = "10.0.0.7"
OWN, OWN6 = Own("10.0.0.1", 40000), Own("fe80::1", 40000)
DESCRIPTION = (
    '<root xmlns="urn:schemas-upnp-org:device-1-0"><device><friendlyName>Hall</friendlyName>'
    f"<manufacturer>Acme</manufacturer><serialNumber>A-17</serialNumber><UDN>uuid:{UDN}</UDN>"
    "</device></root>"
).encode()


class DescribedDevice:
    """What fetches descriptions.  asked: for what it was asked."""

    def __init__(self, body: bytes | Exception = DESCRIPTION) -> None:
        self.body = body
        self.asked: list[tuple[str, int, str, str]] = []

    async def fetch(
        self, address: str, port: int, path: str, interface: str, question: bytes = b""
    ) -> bytes:
        assert not question
        self.asked.append((address, port, path, interface))
        if isinstance(self.body, Exception):
            raise self.body
        return self.body


class SilentDevice:
    """A device that answers nothing by UDP."""

    address, interface, own = SENDER, "lan0", OWN

    def token(self) -> bytes:
        return bytes(8)

    async def ask(self, probe: Probe, seconds: float, wanted: Any = None) -> Datagram | None:
        raise AssertionError("not by UDP")

    async def connect(self, port: int) -> Any:
        raise AssertionError("not beside the fetch")


ENQUIRY: Enquiry = SilentDevice()


def came(text: str, *, is_answer: bool = True) -> list[Any]:
    protocol = UpnpProtocol(DescribedDevice().fetch)
    return [*protocol.read(Datagram(text.encode("iso-8859-1"), SENDER, 1900, is_answer))]


def notified(kind: str, target: str = ROOT) -> str:
    name = f"uuid:{UDN}" if target.startswith("uuid:") else f"uuid:{UDN}::{target}"
    return (
        f"NOTIFY * HTTP/1.1\r\nNTS: ssdp:{kind}\r\nNT: {target}\r\nUSN: {name}\r\n"
        f"LOCATION: http://{SENDER}:8080/d.xml\r\n\r\n"
    )


@pytest.mark.parametrize(("own", "group"), [(OWN, "239.255.255.250"), (OWN6, "ff02::c")])
def test_root_devices_are_searched_twice(own: Own, group: str) -> None:
    probes = UpnpProtocol(DescribedDevice().fetch).probes(bytes(8), own)
    assert [(one.to, one.port, one.after) for one in probes] == [(group, 1900, 0), (group, 1900, 1)]
    assert all(f"ST: {ROOT}\r\n".encode() in one.payload for one in probes)


@pytest.mark.parametrize(("own", "group"), [(OWN, "239.255.255.250"), (OWN6, "ff02::c")])
def test_one_is_searched_by_itself_and_then_by_multicast(own: Own, group: str) -> None:
    probes = UpnpProtocol(DescribedDevice().fetch).probe_of(SENDER, UDN, bytes(8), own)
    assert [(one.to, one.after) for one in probes] == [(SENDER, 0), (group, 1)]
    assert all(f"ST: uuid:{UDN}\r\n".encode() in one.payload for one in probes)


def test_an_answer_is_a_device() -> None:
    (one,) = came(ANSWER)
    assert one.key == UDN
    assert one.claims == {Claim("uuid", "upnp", UDN)}
    assert (one.port, one.valid_for) == (80, 100)
    assert one.attributes == {
        "ssdp.path": "/description.xml",
        "ssdp.udn": UDN,
        "uuid": UDN,
    }


@pytest.mark.parametrize("kind", ["alive", "update"])
def test_an_announcement_of_the_root_device_is_a_device(kind: str) -> None:
    (one,) = came(notified(kind), is_answer=False)
    assert (one.key, one.port, one.valid_for) == (UDN, 8080, USUAL_AGE)


@pytest.mark.parametrize("kind", ["alive", "update", "byebye"])
@pytest.mark.parametrize("target", [f"uuid:{UDN}", "urn:schemas-upnp-org:service:X:1", "x"])
def test_of_all_that_one_device_announces_one_counts(kind: str, target: str) -> None:
    assert came(notified(kind, target), is_answer=False) == []


def test_a_byebye_is_a_goodbye() -> None:
    assert came(notified("byebye"), is_answer=False) == [Goodbye(UDN)]


def test_an_answer_to_the_search_for_one_device_counts() -> None:
    (one,) = came(ANSWER.replace(ROOT, f"uuid:{UDN}"))
    assert one.key == UDN


def test_an_answer_that_no_question_can_have_is_none() -> None:
    with pytest.raises(UnreadableAnswer, match="unasked"):
        came(ANSWER, is_answer=False)


def test_an_age_of_0_is_not_taken_for_none() -> None:
    (one,) = came(ANSWER.replace("max-age=100", "max-age=0"))
    assert one.valid_for > 0


@pytest.mark.parametrize(
    ("udn", "claims"),
    [
        ("RINCON_48A6B8000000001400", {Claim("serial", "upnp", "rincon_48a6b8000000001400")}),
        (UDN.upper(), {Claim("uuid", "upnp", UDN)}),
        (UDN.replace("-", ""), {Claim("uuid", "upnp", UDN)}),
        (
            "x-1-2-3-x-1-2-3-x-1-2-3-x-1-2-3-x-12",
            {Claim("serial", "upnp", "x-1-2-3-x-1-2-3-x-1-2-3-x-1-2-3-x-12")},
        ),
        ("00000000-0000-0000-0000-000000000000", set()),
        ("12345678", set()),
    ],
)
def test_what_a_udn_identifies(udn: str, claims: set[Claim]) -> None:
    (one,) = came(ANSWER.replace(UDN, udn))
    assert (one.key, one.claims) == (udn, claims)
    assert ("uuid" in one.attributes) == any(c.kind == "uuid" for c in claims)


def test_a_bridge_says_its_mac() -> None:
    (vector,) = (one for one in VECTORS if one["id"] == "ssdp-01")
    (one,) = came(vector["text"], is_answer=False)
    assert Claim("mac", "upnp", vector["expect"]["mac_from_eui64"]) in one.claims


async def enquired(device: DescribedDevice, location: str, udn: str = UDN, **how: bool) -> Found:
    text = ANSWER.replace(UDN, udn).replace("http://10.0.0.7:80/description.xml", location)
    (one,) = came(text)
    (same,) = await UpnpProtocol(device.fetch, **how).enquire(one, ENQUIRY)
    return same


async def test_the_description_adds_what_it_says() -> None:
    device = DescribedDevice()
    one = await enquired(device, "http://10.0.0.7:80/description.xml")
    assert device.asked == [(SENDER, 80, "/description.xml", "lan0")]
    assert one.label == "Hall"
    assert one.claims == {Claim("uuid", "upnp", UDN)}
    assert one.attributes.items() >= {"vendor": "Acme", "serial": "A-17"}.items()


async def test_a_serial_number_identifies_where_no_uuid_does() -> None:
    device = DescribedDevice(DESCRIPTION.replace(UDN.encode(), b"RINCON_1"))
    one = await enquired(device, "http://10.0.0.7/d.xml", "RINCON_1")
    assert one.claims == {
        Claim("serial", "upnp", "rincon_1"), Claim("serial", "upnp.acme", "a-17")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (DESCRIPTION.replace(UDN.encode(), b"another"), "description-of-another"),
        (b"<html/>", "no-description"),
        (FetchRefused("redirect"), "description-refused"),
    ],
)
async def test_a_description_that_is_not_its_own_is_not_believed(
    body: bytes | Exception, cause: str
) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        await enquired(DescribedDevice(body), "http://10.0.0.7/")
    assert refused.value.cause == cause


async def test_without_a_location_or_unless_wanted_nothing_is_fetched() -> None:
    device = DescribedDevice()
    assert "vendor" not in (await enquired(device, "")).attributes
    location = "http://10.0.0.7:80/description.xml"
    assert "vendor" not in (await enquired(device, location, descriptions=False)).attributes
    assert not device.asked


@pytest.mark.parametrize(
    "location", ["http://10.0.0.8/d.xml", "https://10.0.0.7/d.xml", "http://10.0.0.7:22/d.xml"]
)
async def test_a_location_that_leads_elsewhere_is_shown_and_not_fetched(location: str) -> None:
    (one,) = came(ANSWER.replace("http://10.0.0.7:80/description.xml", location))
    assert (one.port, one.attributes["ssdp.location"]) == (None, location)
    device = DescribedDevice()
    with pytest.raises(UnreadableAnswer, match="description-elsewhere"):
        await enquired(device, location)
    assert not device.asked


def test_a_device_shows_the_same_in_both_families() -> None:
    protocol = UpnpProtocol(DescribedDevice().fetch)
    shown = []
    for sender, host in ((SENDER, SENDER), ("fe80::7%lan0", "[fe80::7]")):
        text = ANSWER.replace("10.0.0.7:80", f"{host}:8080")
        (one,) = protocol.read(Datagram(text.encode(), sender, 1900))
        shown.append(one)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("descriptions", [True, False])
def test_what_is_sent_is_known_before(descriptions: bool) -> None:
    planned = Ssdp("upnp", SsdpSettings(("lan0",), descriptions=descriptions)).transmissions()
    fetched = [one for one in planned if one.purpose == "its description"]
    assert [one.interface for one in fetched] == ["lan0"] * descriptions
    verified = [one.to for one in planned if one.occasion == SUSPECT]
    assert "239.255.255.250 port 1900 by UDP" in verified
