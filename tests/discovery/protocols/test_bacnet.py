"""BACnet/IP: captured messages, hostile ones, and what bacpypes3 reads and writes of the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bacpypes3.apdu import (
    APDU,
    APCISequence,
    IAmRequest,
    ReadPropertyACK,
    ReadPropertyRequest,
    WhoIsRequest,
)
from bacpypes3.basetypes import PropertyIdentifier
from bacpypes3.ipv4.bvll import LPDU
from bacpypes3.npdu import NPDU
from bacpypes3.pdu import PDU
from bacpypes3.primitivedata import CharacterString
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import Datagram, Found, Own, Probe, UnreadableAnswer
from gatewayd.discovery.protocols.bacnet.discoverer import RANGES, BacnetProtocol
from gatewayd.discovery.protocols.bacnet.messages import (
    BacnetStation,
    IAm,
    PropertyAnswer,
    parse_message,
    read_property,
    who_is,
    who_is_at,
)
from tests.support.reportable import assert_reportable

VECTORS = json.loads((Path(__file__).parent / "vectors/bacnet.json").read_text())
BY_ID = {one["id"]: bytes.fromhex(one["hex"]) for one in VECTORS}
TOKEN = bytes(8)
OWN = Own("10.0.0.1", 40000)
STATION = BacnetStation(2001, b"\x0a")
NO_SUCH_PROPERTY = "50{id}0c91029120"
"""An error of class property, unknown-property (ASHRAE 135, clause 18)."""


def datagram(payload: bytes, sender: str = "10.0.0.2") -> Datagram:
    return Datagram(payload, sender, 47808)


def found(payload: bytes) -> list[Found]:
    return [one for one in BacnetProtocol().read(datagram(payload)) if isinstance(one, Found)]


def of_kind(kind: str) -> Iterable[Any]:
    return [pytest.param(one, id=one["what"]) for one in VECTORS if one["expect"]["kind"] == kind]


@pytest.mark.parametrize("vector", of_kind("i-am"))
def test_an_i_am_shows_instance_and_vendor(vector: Mapping[str, Any]) -> None:
    said = parse_message(bytes.fromhex(vector["hex"]))
    expected = vector["expect"]
    assert said == IAm(None, expected["instance"], expected["vendor_id"])
    if expected.get("instance_refused"):
        with pytest.raises(UnreadableAnswer, match="unconfigured"):
            found(bytes.fromhex(vector["hex"]))
        return
    (one,) = found(bytes.fromhex(vector["hex"]))
    assert one.key == one.attributes["bacnet.instance"] == str(expected["instance"])
    assert one.attributes["bacnet.vendor-id"] == str(expected["vendor_id"])
    assert not one.claims
    assert not one.is_behind


@pytest.mark.parametrize("vector", of_kind("ack"))
def test_a_property_is_read_in_its_character_set(vector: Mapping[str, Any]) -> None:
    value = (
        None if vector["expect"]["property"] == "object-identifier" else vector["expect"]["value"]
    )
    assert parse_message(bytes.fromhex(vector["hex"])) == PropertyAnswer(None, 1, value)


def test_a_refusal_is_an_answer_without_text() -> None:
    assert parse_message(BY_ID["bacnet-ip-10"]) == PropertyAnswer(None, 1, None)


def test_questions_of_others_say_nothing_and_are_not_answered() -> None:
    assert parse_message(BY_ID["bacnet-ip-01"]) is None
    assert not found(BY_ID["bacnet-ip-01"])


def test_a_question_is_what_bacpypes3_reads() -> None:
    asked = as_apdu(who_is(1000, 9999))
    assert isinstance(asked, WhoIsRequest)
    assert (asked.deviceInstanceRangeLowLimit, asked.deviceInstanceRangeHighLimit) == (1000, 9999)
    assert str(asked.pduDestination) == "*:*"
    at = as_apdu(who_is_at(STATION, 4_194_302))
    assert str(at.pduDestination) == "2001:10"
    assert isinstance(at, WhoIsRequest)
    assert at.deviceInstanceRangeLowLimit == 4_194_302
    read = as_apdu(read_property(STATION, 111, 372, 77))
    assert isinstance(read, ReadPropertyRequest)
    assert (read.apduInvokeID, str(read.objectIdentifier)) == (77, "device,111")
    assert read.propertyIdentifier == PropertyIdentifier.serialNumber
    assert str(read.pduDestination) == "2001:10"


def as_apdu(payload: bytes) -> Any:
    """Return a message as bacpypes3 reads it, with its destination behind a router."""
    network = NPDU.decode(LPDU.decode(PDU(payload)))
    read = APCISequence.decode(APDU.decode(network))
    read.pduDestination = network.npduDADR
    return read


def acknowledged(identifier: Any, text: str, invoke_id: int) -> Any:
    """Return an answer to ReadProperty, as bacpypes3 makes it."""
    ack = ReadPropertyACK(
        objectIdentifier="device,5", propertyIdentifier=identifier,
        propertyValue=CharacterString(text),
    )  # fmt: skip
    ack.apduInvokeID, ack.apduSeg, ack.apduMor = invoke_id, False, False
    return ack


def written(message: Any, *, function: int = 0x0A, source: bytes = b"") -> bytes:
    """Return a message of bacpypes3 as a datagram.  source: SNET, SLEN and SADR."""
    application = message.encode().encode().pduData
    network = bytes((1, 8 if source else 0)) + source + bytes(application)
    return bytes((0x81, function)) + (4 + len(network)).to_bytes(2, "big") + network


@pytest.mark.parametrize("text", ["Büro", "", "\u0416\u4e16", "x" * 300, "a\0b"])
def test_a_text_is_read_as_bacpypes3_has_written_it(text: str) -> None:
    assert parse_message(written(acknowledged("objectName", text, 9))) == PropertyAnswer(
        None, 9, text
    )


def test_an_i_am_from_behind_a_router_is_as_bacpypes3_has_written_it() -> None:
    said = IAmRequest(
        iAmDeviceIdentifier="device,70000", maxAPDULengthAccepted=480,
        segmentationSupported="noSegmentation", vendorID=999,
    )  # fmt: skip
    payload = written(said, function=0x0B, source=b"\x07\xd1\x01\x0a")
    assert parse_message(payload) == IAm(STATION, 70000, 999)
    (one,) = found(payload)
    assert one.is_behind
    assert one.key == "2001/0a/70000"
    assert one.attributes["bacnet.network"] == "2001"
    assert one.attributes["bacnet.station"] == "0a"


def test_the_ranges_of_the_questions_have_each_instance_once() -> None:
    probes = BacnetProtocol().probes(TOKEN, OWN)
    assert [one.after for one in probes] == [0.0, 2.0, 2.0, 2.0, 2.0]
    assert {one.to for one in probes} == {"broadcast"}
    assert RANGES[0][0] == 0
    assert RANGES[-1][1] == 4_194_302
    assert all(low == high + 1 for (_, high), (low, _) in pairwise(RANGES))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "truncated"),
        ("820b000c0120ffff00ff1008", "not-bacnet"),
        ("810b000d0120ffff00ff1008", "truncated"),  # shorter than it says
        ("810b00040100"[:8], "not-bacnet"),  # without a network layer
        ("8104001a0a000005bac001001000c4020001a02204009103218a", "forwarded"),
        ("810a0008010800000001"[:16], "truncated"),
        ("810a000d01080000010a100800"[:26], "bad-station"),  # network 0
        ("810a000d0108ffff010a100800"[:26], "bad-station"),  # all networks
        ("810a000c0108000500100800", "bad-station"),  # of no address
        ("810a000f010800050811111111ffff", "bad-station"),  # of a length that none has
        ("810a0008010010 00".replace(" ", ""), "bad-i-am"),  # of no object
        ("810a000b01001000c40200", "truncated"),
        ("810a001401001000c400000ff02204009103218a", "bad-i-am"),  # of an input, not a device
        ("810a001601001000c4020001a0220400910323018aff", "bad-i-am"),  # of a vendor of 24 bits
        ("810a000901003c0001", "segmented"),
        ("810a0008010030 00".replace(" ", ""), "truncated"),
    ],
)
def test_what_is_no_answer_is_refused_with_a_cause(text: str, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        parse_message(bytes.fromhex(text))
    assert refused.value.cause == cause


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_any_bytes(data: bytes) -> None:
    for payload in (data, b"\x81\x0a" + (4 + len(data)).to_bytes(2, "big") + data):
        with suppress(UnreadableAnswer):
            for one in found(payload):
                assert_reportable(one)


class Device:
    """A device, as an `Enquiry`: it answers from a table of properties by invoke id."""

    address, interface, own = "10.0.0.2", "lan0", OWN

    def __init__(self, texts: Mapping[int, str], lost: int = 0) -> None:
        self.texts, self.lost = texts, lost
        self.asked: list[int] = []
        self.at: list[float] = []

    def token(self) -> bytes:
        return b"\xfe" + bytes(7)

    async def connect(self, port: int) -> Any:
        raise AssertionError("it has no TCP")

    async def ask(
        self, probe: Probe, seconds: float, wanted: Callable[[Datagram], bool] = bool
    ) -> Datagram | None:
        self.at.append(asyncio.get_running_loop().time())
        if self.lost:
            self.lost -= 1
            return None
        request = as_apdu(probe.payload)
        identifier, invoke_id = int(request.propertyIdentifier), request.apduInvokeID
        self.asked.append(identifier)
        source = ""
        if request.pduDestination is not None:
            source = probe.payload[6:9].hex() + probe.payload[9:10].hex()
        text = self.texts.get(identifier)
        if text is None:
            said = bytes.fromhex(NO_SUCH_PROPERTY.format(id=f"{invoke_id:02x}"))
        else:
            ack = acknowledged(request.propertyIdentifier, text, invoke_id)
            said = bytes(ack.encode().encode().pduData)
        network = bytes((1, 8 if source else 0)) + bytes.fromhex(source) + said
        payload = b"\x81\x0a" + (4 + len(network)).to_bytes(2, "big") + network
        answer = datagram(self.falsified(payload))
        return answer if wanted(answer) else None

    def falsified(self, payload: bytes) -> bytes:
        return payload


async def enquired(device: Device, payload: bytes = BY_ID["bacnet-ip-02"]) -> Found:
    (one,) = found(payload)
    (more,) = await BacnetProtocol(pace=0.0).enquire(one, device)
    assert more.key == one.key
    return more


TEXTS = {77: "Boiler", 372: "SN-00417", 121: "ACME", 70: "B-4", 44: "1.2", 12: "7"}


async def test_the_serial_number_identifies_within_its_vendor() -> None:
    one = await enquired(Device(TEXTS))
    assert one.claims == {Claim("serial", "bacnet.42", "sn-00417")}
    assert one.label == "Boiler"
    expected = {"bacnet.instance": "111", "bacnet.vendor-id": "42", "bacnet.name": "Boiler",
                "bacnet.firmware": "1.2", "bacnet.application": "7", "vendor": "ACME",
                "model": "B-4", "serial": "SN-00417"}  # fmt: skip
    assert one.attributes == expected


@pytest.mark.parametrize("serial", [None, "", "00000000", "none", "a\0b"])
async def test_without_a_serial_number_the_instance_identifies(serial: str | None) -> None:
    texts = {key: text for key, text in (TEXTS | {372: serial}).items() if text is not None}
    one = await enquired(Device(texts))
    assert one.claims == {Claim("serial", "bacnet", "vendor-42-instance-111")}


async def test_one_that_does_not_answer_is_identified_by_nothing() -> None:
    device = Device(TEXTS, lost=2)
    one = await enquired(device)
    assert not one.claims
    assert one.label == "BACnet device 111"
    assert not device.asked


async def test_a_question_that_is_lost_is_asked_once_more() -> None:
    one = await enquired(Device(TEXTS, lost=1))
    assert one.claims == {Claim("serial", "bacnet.42", "sn-00417")}


@given(st.text(max_size=100))
def test_whatever_a_device_says_can_be_reported(text: str) -> None:
    assert_reportable(asyncio.run(enquired(Device(dict.fromkeys(TEXTS, text)))))


async def test_hostile_texts_are_escaped_or_left_out() -> None:
    one = await enquired(Device(TEXTS | {77: "a\x1b[31mb", 70: "x" * 400}))
    assert one.attributes["bacnet.name"] == r"a\x1b[31mb"
    assert "model" not in one.attributes


BEHIND = "810b0018010807d1010{}1000c4020001a02204009103218a"
"""I-Am of a device at this station, one hex digit, of network 2001."""


async def test_an_answer_of_another_device_behind_the_router_is_not_taken() -> None:
    assert (await enquired(Device(TEXTS), bytes.fromhex(BEHIND.format("a")))).claims

    class OtherDevice(Device):
        def falsified(self, payload: bytes) -> bytes:
            return payload.replace(b"\x07\xd1\x01\x0b", b"\x07\xd1\x01\x0a")

    assert not (await enquired(OtherDevice(TEXTS), bytes.fromhex(BEHIND.format("b")))).claims


async def test_there_is_a_pause_after_each_question() -> None:
    device, pace = Device(TEXTS), 0.02
    (one,) = found(BY_ID["bacnet-ip-02"])
    await BacnetProtocol(pace).enquire(one, device)
    at = [*device.at, asyncio.get_running_loop().time()]
    assert len(at) == len(TEXTS) + 1
    assert all(later - earlier >= pace for earlier, later in pairwise(at))


async def test_one_device_is_asked_at_its_address_by_its_instance() -> None:
    (one,) = found(bytes.fromhex(BEHIND.format("a")))
    for probe in BacnetProtocol().probe_of("10.0.0.2", one.key, TOKEN, OWN):
        assert (probe.to, probe.port) == ("10.0.0.2", 47808)
        request = as_apdu(probe.payload)
        assert str(request.pduDestination) == "2001:10"
        assert request.deviceInstanceRangeLowLimit == request.deviceInstanceRangeHighLimit == 416
