"""Every parser of bytes that others have written, with inputs to begin with."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

from gatewayd.ca.authority import Authority, make_authority, read_authority
from gatewayd.ca.certificates import (
    common_name,
    parse_roots,
    read_certificates,
    read_request,
    request,
    to_pem,
)
from gatewayd.ca.keys import key_pem, make_key, read_key
from gatewayd.cloud.alibaba import alink, payloads
from gatewayd.cloud.alibaba.commanding.commands import AlibabaCommands
from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.command_router import CommandForm, NoCommand
from gatewayd.cloud.huawei import messages as huawei
from gatewayd.cloud.huawei import template
from gatewayd.cloud.huawei.commanding.commands import HuaweiCommands
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.commands.answers import in_cloud_form, in_neutral_form
from gatewayd.dbus.relay.frames import LEFT_OUT, MessageHeader, MessageSieve
from gatewayd.device import reading
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.proof import Pin
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.discovery import sanitize
from gatewayd.discovery.diagnosis.recorder import RecordedEvent
from gatewayd.discovery.diagnosis.refusals import Refusal
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.helper import messages as helper
from gatewayd.discovery.kernel import interfaces, neighbours
from gatewayd.discovery.mdns import records, traffic
from gatewayd.errors import ConfigError, InvalidArgs
from gatewayd.messages.door_settings import CommandSettings
from gatewayd.messages.doors import packets
from gatewayd.messages.doors.site.command_payloads import DeviceAnswer
from gatewayd.network import mqtt_rules, proxy, websocket
from gatewayd.network.http_head import HttpError
from gatewayd.network.http_response import parse_response
from gatewayd.proofs.certificate import UnreadableDeviceCertificate, read_certificate
from gatewayd.proofs.settings import CertificateField
from gatewayd.runtime.read_only_copy import with_log
from gatewayd.runtime.text import escaped, without_unprintable
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.slots import encrypted_by
from script.attacking.fuzzer import Parser
from script.attacking.kept_parsers import kept_parsers
from script.attacking.lan_parsers import lan_parsers
from script.attacking.more_parsers import more_parsers
from script.attacking.proof_parsers import proof_parsers
from script.attacking.site_parsers import site_parsers

NAME = CloudName("cloud", "a1product00", "TH20-0001")
KINDS: Mapping[str, str] = {"mdns": "mdns"}
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\n{}\r\n0\r\n\r\n"
)


@cache
def parsers() -> Sequence[Parser]:
    """Return all of them."""
    return (
        *_of_the_bus(),
        *_of_the_lan(),
        *_of_clouds(),
        *_of_children(),
        *_of_files(),
        *kept_parsers(),
        *lan_parsers(),
        *more_parsers(),
        *proof_parsers(),
        *site_parsers(),
    )


def _of_the_bus() -> Iterator[Parser]:
    sender = b"\7\1s\0\4\0\0\0:1.7\0" + bytes(3)
    fields = sender + b"\x08\1g\0\1s\0\0\x09\1u\0\1\0\0\0"
    little = b"l\1\0\1" + struct.pack("<3I", 6, 1, len(fields)) + fields + b"\1\0\0\0x\0"
    yield Parser(
        "messages of the bus", _sifted,
        [little, little * 3, b"B\4\1\1" + struct.pack(">3I", 0, 2, 0)],
        (ValueError,), (sender, b"\1o\0", b"\1s\0", b"\1g\0", b"l\1\1\1", b"B\1\0\1"),
    )  # fmt: skip


def _sifted(data: bytes) -> None:
    """Cut a stream at each place of it; what is let on is the same."""
    whole = MessageSieve(_verdict)
    once = b"".join(piece.data for piece in whole.feed(data))
    cut = MessageSieve(_verdict)
    parts = (data[at : at + 7] for at in range(0, len(data), 7))
    assert once == b"".join(piece.data for part in parts for piece in cut.feed(part)), "as it came"


def _verdict(header: MessageHeader) -> str:
    return ("", LEFT_OUT, "Busy")[header.serial % 3]


def _of_the_lan() -> Iterator[Parser]:
    txt = b"\x0bserial=0001\x09model=abc\x04mac=\x05flag="
    yield Parser("mDNS packet: what it says it has", traffic.count_entries, [_dns_packet()])
    yield Parser(
        "mDNS TXT record",
        lambda data: records.claims("_x._tcp", records.txt(data)),
        [txt, b"", b"\0"],
        (records.InvalidServiceInfo,),
        (b"serial=", b"uuid=", b"mac=", b"id="),
    )
    yield Parser(
        "mDNS name",
        lambda data: records.parse("_x._tcp", _text(data)),
        [b"Dock camera._x._tcp.local.", "ü.ö._X._TCP.LOCAL.".encode()],
        words=(b"._x._tcp.local.", b".."),
    )
    yield Parser("text to show", _show, [b"Dock camera", b"\x1b[31m", "\u202e".encode()])
    yield Parser("netlink message", lambda data: list(neighbours.parse(data)), [_netlink()])
    yield Parser(
        "netlink messages on interfaces",
        lambda data: (list(interfaces.parse_links(data)), list(interfaces.parse_addresses(data))),
        _interfaces(),
    )
    yield Parser(
        "message of the discovery helper",
        lambda data: helper.decode_to_gatewayd(data, KINDS, 100.0),
        [helper.encode_to_gatewayd(one) for one in _from_helper()],
        (helper.MalformedMessage,),
        (b'"claims"', b'"attributes"', b'"sighting"', b'"answer"', b"[[", b"null"),
    )
    yield Parser(
        "message to the discovery helper",
        lambda data: helper.decode_to_helper(data, KINDS, 100.0),
        [helper.encode_to_helper(one) for one in _to_helper()],
        (helper.MalformedMessage,),
    )


def _of_clouds() -> Iterator[Parser]:
    yield Parser("MQTT packet of a cloud: its header", _mqtt_header,
                 [b"\x20\x02\0\0", b"\x30\x05\0\x01ax\n", b"\xd0\0", b"\x90\x03\0\x01\x01"],
                 (mqtt_rules.PacketError,))  # fmt: skip
    yield Parser(
        "HTTP response", _http,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", CHUNKED],
        (HttpError,), (b"Transfer-Encoding: chunked\r\n", b"Content-Length: ", b"\r\n\r\n"),
    )  # fmt: skip
    yield Parser(
        "answer of a proxy", proxy.parse_answer,
        [b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=a\r\n\r\n",
         b"HTTP/1.1 100\r\n\r\nHTTP/1.0 200 OK\r\n\r\n"],
        (HttpError,), (b"HTTP/1.1 ", b"\r\n\r\n"),
    )  # fmt: skip
    yield Parser(
        "frames of a WebSocket", lambda data: list(websocket.FrameDecoder().feed(data)),
        [b"\x82\x02ab", b"\x02\x01a\x80\x01b", b"\x89\x00\x88\x02\x03\xe8",
         b"\x82\x7e\x00\x03abc"],
        (mqtt_rules.PacketError,),
    )  # fmt: skip
    child = {"productKey": "a1product00", "deviceName": "TH20-0002"}
    yield Parser(
        "Alibaba: a reply", _alink_reply,
        [_json(id="1", code=200, data=[child]), _json(id=7, code="6401", data={"x": child})],
        (alink.AlinkError,),
    )  # fmt: skip
    yield Parser(
        "Alibaba: what the cloud asks", _alink_downlink,
        [_json(id="1", params=[child]), _json(id="1", params={"time": 60, "productKey": ""}),
         _json(id="1", params={"status": 1, "subList": [child]}), _json(code=520, data=child)],
        (alink.AlinkError,),
    )  # fmt: skip
    issued = {"productKey": NAME.product, "deviceName": NAME.device, "deviceSecret": "0123abcd" * 4}
    yield Parser(
        "Alibaba: a secret that is pushed",
        lambda data: payloads.parse_push(payloads.REGISTER_TOPIC, data, NAME),
        [_json(**issued), _json(**issued, random="1")],
    )
    device = {"node_id": "n", "device_id": "p_n", "name": "x", "status": "ONLINE"}
    services = [{"service_id": "$sub_device_manager", "event_type": "add_sub_device_notify",
                 "event_time": "20260101T000000Z",
                 "paras": {"devices": [device], "version": 1}}]  # fmt: skip
    yield Parser(
        "Huawei: a message to a gateway", lambda data: huawei.parse(data, "p_gateway"),
        [_json(object_device_id="p_gateway", services=services), _json(services=[])],
        (huawei.EventError,),
        (b"add_sub_device_response", b"sub_device_update_status_response", b'"paras"'),
    )  # fmt: skip
    yield from _of_commands()
    yield Parser("Huawei: a provisioning template", template.lint, [_template()])


def _of_commands() -> Iterator[Parser]:
    """Yield the parsers of commands, whose inputs are a topic, a line feed and a payload."""
    own = f"{NAME.product}/{NAME.device}"
    service = _json(id="1", params={"x": [1, {}]}, method="thing.service.x", version="1.0")
    yield Parser(
        "Alibaba: a command, and its answers", lambda data: _command(AlibabaCommands(), data),
        [f"{topic}\n".encode() + service for topic in (
            f"/sys/{own}/thing/service/property/set", f"/sys/{own}/thing/service/property/get",
            f"/sys/{own}/rrpc/request/121", f"/ext/rrpc/121/sys/{own}/thing/service/x",
            f"/ext/rrpc/121/{own}/user/get", f"/{own}/user/get")],
        (NoCommand,), (b"_reply", b"/ext/rrpc/", b"/sys/", b"/user/", b'"params":', b'"id":'),
    )  # fmt: skip
    services = [{"service_id": "climate", "properties": {"interval": 5}}]
    sent = _json(object_device_id="p_n", service_id="climate", command_name="x", paras={"y": 1},
                 services=services, id="m-1", name="n", content={})  # fmt: skip
    uses = ("commands/request_id=1a", "properties/set/request_id=1a",
            "properties/get/request_id=1a", "messages/down")  # fmt: skip
    yield Parser(
        "Huawei: a command, and its answers",
        lambda data: _command(HuaweiCommands("p_gateway", lambda _: "climate"), data),
        [f"$oc/devices/p_gateway/sys/{use}\n".encode() + sent for use in uses],
        (NoCommand,), (b"request_id=", b'"paras":', b'"services":', b'"object_device_id":'),
    )  # fmt: skip


def _command(form: CommandForm[Any], data: bytes) -> object:
    """Read a command, and write each answer that it may get."""
    topic, _, payload = data.partition(b"\n")
    read = form.read(_text(topic), payload)
    if read is None:
        return None
    answers = (CommandAnswer(one, "why", {"x:y": 1, "z": "\u20ac"}) for one in CommandOutcome)
    return [form.write(*read, answer) for answer in answers]


def _of_children() -> Iterator[Parser]:
    for version, named in ((packets.V5, "5"), (packets.V311, "3.1.1")):
        yield Parser(
            f"MQTT {named} packets of a broker", _broker(version),
            [b"\x20\x03\0\0\0" if version == packets.V5 else b"\x20\x02\0\0", b"\xd0\0",
             packets.publish(version, 1, "c/child/up/x", b"{}"), packets.puback(7)],
            (packets.BrokerError,), (b"\x03\x00\x11", b"\x0b\x01", b"\x26\0\x01a\0\x01b"),
        )  # fmt: skip
    yield Parser(
        "what a child says", reading.read,
        [b'{"temperature": 21.5, "time": 1700000000000}', b'{"a": [1, {"b": null}], "c": true}'],
        (reading.UnfitMessage,),
    )  # fmt: skip
    yield Parser(
        "what a child answers to a command", _answers,
        [b"", b'{"opened": true, "error": "stuck"}', b'{"result_code": 0, "paras": {"x": 1}}',
         b'{"id": "7", "dst": "gatewayd", "result": {"was_on": true}, "error": {"message": "x"}}'],
        (), (b'"id":"7"', b'"error":', b'"was_on":', b"NaN", b"1e999"),
    )  # fmt: skip


def _answers(data: bytes) -> object:
    """Read an answer in each form that there is."""
    command = ChildCommand("7", CommandKind.SET, "", {"on": 1}, "t", b"{}", "r", 20.0)
    entry = CommandSettings(
        CommandKind.SET, "x/{name}", values={"on": "on"}, id_path="id", answer="y/{name}",
        answer_id_path="id", result={"was_on": "result.was_on"}, failed="error.message",
    )  # fmt: skip
    device = DeviceAnswer(entry, command, {"on": 1})
    of_clouds = [in_cloud_form(form, command, data) for form in (Alibaba, Huawei)]
    forms = *of_clouds, in_neutral_form(command, data), device.read(data)
    return [one for one in forms if one is not None]


def _of_device_certificates(der: bytes) -> Iterator[Parser]:
    """Yield the parser of what a device shows, for each place of its identity."""
    for field in CertificateField:
        yield Parser(
            f"certificate of a device, {field}", partial(read_certificate, field=field), [der],
            (UnreadableDeviceCertificate,),
            (b"\x06\x03\x55\x04\x05", b"\x06\x03\x55\x1d\x11", b"\x30\x80", b"\x13\x00"),
        )  # fmt: skip
    yield Parser(
        "pin of a child", lambda data: Pin.parse(data.decode("utf-8", "replace")),
        [Pin("axis", "sha256:aa").text().encode()], (TypeError, ValueError),
        (b'"at":', b'"refused":', b"{}", b"null", b"1e999"),
    )  # fmt: skip


def _of_files() -> Iterator[Parser]:
    key = make_key("ec-p256")
    pem = key_pem(key)
    certificate = to_pem(_authority().certificate).encode()
    yield Parser("certificates, PEM", read_certificates, [certificate, certificate * 2],
                 (InvalidArgs,), (b"-----BEGIN CERTIFICATE-----\n",))  # fmt: skip
    yield Parser("roots, PEM", lambda data: list(parse_roots(data)), [certificate, certificate * 2])
    yield Parser("certificate, DER", lambda data: read_certificates(_as_pem("CERTIFICATE", data)),
                 [_der(certificate)], (InvalidArgs,))  # fmt: skip
    yield from _of_device_certificates(_der(certificate))
    signing = request(key)
    yield Parser("certificate request, DER",
                 lambda data: read_request(_as_pem("CERTIFICATE REQUEST", data)),
                 [_der(signing)], (InvalidArgs,))  # fmt: skip
    yield Parser("private key, PEM", read_key, [pem, pem * 2], (InvalidArgs,))
    yield Parser("private key, DER", lambda data: read_key(_as_pem("PRIVATE KEY", data)),
                 [_der(pem)], (InvalidArgs,))  # fmt: skip
    yield Parser("CA with its key", lambda data: read_authority(Secret(data)),
                 [_authority().secret().reveal()], (InvalidArgs,))  # fmt: skip
    yield Parser("recovery key, DER",
                 lambda data: recovery.read_public(_as_pem("PUBLIC KEY", data)),
                 [bytes.fromhex("302a300506032b656e032100") + bytes(range(32))],
                 (ConfigError,))  # fmt: skip
    yield Parser("encrypted credential", encrypted_by, [base64.b64encode(bytes(64)), b"none"])
    page = b"SQLite format 3\0" + struct.pack(">HBB", 512, 2, 2) + bytes(492)
    yield Parser("SQLite file and its log", _sqlite, [page, page + struct.pack(
        ">8I", 0x377F0682, 3007000, 512, 0, 1, 2, 3, 4) + bytes(600)])  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _show(data: bytes) -> None:
    text = _text(data)
    shown = sanitize.label(text)
    assert shown.isprintable(), "what is shown can be printed"
    assert escaped(text).isprintable(), "likewise"
    assert without_unprintable(text).isprintable(), "likewise"
    sanitize.attribute("key", text)


def _dns_packet() -> bytes:
    name = b"\x02_x\x04_tcp\x05local\0"
    record = name + struct.pack(">HHIH", 12, 1, 120, 4) + b"\x01a\xc0\x0c"
    return struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + record


def _netlink() -> bytes:
    attributes = struct.pack("=HH4s", 8, 1, bytes((10, 0, 0, 7)))
    attributes += struct.pack("=HH6sxx", 10, 2, bytes(range(6)))
    body = struct.pack("=BxxxiHBB", 2, 3, 2, 0, 1) + attributes
    return struct.pack("=IHHII", 16 + len(body), 28, 0, 0, 0) + body


def _interfaces() -> list[bytes]:
    link = struct.pack("=BxHiII", 0, 1, 2, 0x41, 0) + struct.pack("=HH4s", 8, 3, b"lo0\0")
    address = struct.pack("=BBBBi", 2, 16, 0, 0, 2) + struct.pack("=HH4s", 8, 1, bytes(4))
    return [struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
            for kind, body in ((16, link), (20, address))]  # fmt: skip


def _sighting() -> Sighting:
    return Sighting(
        source="mdns/lan0", key="_x._tcp|a", at=99.0, valid_for=120.0, interface="lan0",
        addresses=("10.0.0.7",), port=80, claims=records.claims("_x._tcp", {"serial": "0001"}),
        attributes={"host": "a", "txt.serial": "0001"}, label="a",
    )  # fmt: skip


def _from_helper() -> Iterator[helper.ToGatewayd]:
    yield _sighting()
    yield helper.Answer(1, _sighting(), True)
    yield helper.Answer(2, None, False)
    yield helper.HelperHealth({"mdns:dropped": 3}, {"mdns": "it is deaf"})
    refusal = Refusal(99.0, "mdns", "lan0", "fe80::1%lan0", r"Lamp\x00", "unresolved", 2)
    yield helper.RefusalReport((refusal,))
    yield RecordedEvent("datagram", 99.0, {"interface": "lan0", "port": 5353, "data": b"\0\1"})


def _to_helper() -> Iterator[helper.ToHelper]:
    yield helper.LogLevel("info")
    yield helper.KnownAddresses(frozenset({"10.0.0.7"}))
    yield helper.Rescan("mdns")
    yield helper.RecordingRequest(60, 1 << 20)
    yield helper.Verify(1, _sighting())


def _mqtt_header(data: bytes) -> None:
    for first in (True, False):
        try:
            mqtt_rules.packet_size(data, first=first)
        except mqtt_rules.PacketError:
            if not first:
                raise


def _http(data: bytes) -> None:
    parse_response(data, ended=False)
    parse_response(data, ended=True)


def _alink_reply(data: bytes) -> None:
    alink.awaited_id(data)
    reply = alink.parse_reply(data)[1]
    for read in (alink.names_in, payloads.issued, payloads.failures):
        read(reply.data)


def _alink_downlink(data: bytes) -> None:
    own = alink.SubName(NAME.product, NAME.device)
    for method in (alink.TOPO_NOTIFY, alink.TOPO_CHANGE, alink.PERMIT, alink.ERROR, alink.DISABLE):
        with suppress(alink.AlinkError):  # what one asks is no question of the others
            alink.parse_downlink(alink.DownlinkTopic(method, own), data)


def _template() -> bytes:
    return json.dumps({
        "template_name": "t",
        "template_body": {
            "parameters": {"iotda::certificate::common_name": {"type": "String"}},
            "resources": {"device": {
                "node_id": {"ref": "iotda::certificate::common_name"}, "product_id": "p",
                "device_name": {"fn::split": [{"ref": "iotda::certificate::common_name"}, "-", 0]},
            }},
        },
    }).encode()  # fmt: skip


def _broker(version: int) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        parser = packets.PacketParser(version)
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
            parser.feed(piece)
            while parser.next() is not None:
                pass

    return run


def _as_pem(label: str, data: bytes) -> bytes:
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def _der(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def _authority() -> Authority:
    return make_authority(common_name("ca"), "ec-p256", 10, 1.8e9)


def _sqlite(data: bytes) -> None:
    for cut in (0, 512, len(data) // 2):
        with_log(data[:cut], data[cut:])
