"""Parsers of what devices, brokers and programs of a site have written, and of kept files."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator
from contextlib import suppress

from gatewayd.cli.discover.anonymous import Anonymizer, Pseudonyms, Unreadable
from gatewayd.cloud.alibaba import https_registration, preregistration_free
from gatewayd.console.access_key import parse_access_key
from gatewayd.console.client import ApiBusy, ApiRequest
from gatewayd.console.huawei.api import plain
from gatewayd.console.huawei.dialect import HuaweiDialect
from gatewayd.console.huawei.setting_up import DeviceCaFile, ca_detail
from gatewayd.credentials.holders import unit_of
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.discovery import sanitize
from gatewayd.errors import ConfigError, ConsoleError, StoreUnavailable
from gatewayd.messages.broker import users
from gatewayd.messages.door_settings import (
    DoorSettings,
    PayloadFormat,
    TopicSettings,
    Unit,
    ValueSettings,
)
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.doors.site.topics import SiteTopics
from gatewayd.network import websocket
from gatewayd.network.http_head import HttpError, parse_head
from gatewayd.network.http_response import HttpResponse
from gatewayd.secretstore.keyslots import recovery_words
from gatewayd.simulator.lan import dns, recording, records, replay
from gatewayd.simulator.lan.child import LanChild
from gatewayd.site import etcd_messages
from script.attacking.fuzzer import Parser

CHILD = DeviceId("child-0123456789ab")
LAMP = LanChild("Annas Lampe", "TH20-0001A7", "24:0a:c4:0c:2f:91", "lampe", "10.0.7.21")
NONCE = bytes(websocket.KEY_BYTES)
TABLE = DoorSettings(
    host="broker.example",
    topics=(
        TopicSettings(
            topic="json/{name}/state", time="$.at",
            values={"t": ValueSettings(path="a.b[0]", unit=Unit.FAHRENHEIT), "on": ValueSettings(
                path="on", unit=Unit.ON_OFF)},
        ),
        TopicSettings(topic="named/#", child_path="dev", child_by=ChildKey.MAC, time="time"),
        TopicSettings(topic="plain/{serial}/{key}", format=PayloadFormat.PLAIN),
        TopicSettings(topic="event/{uuid}/{key}", into="events/{key}"),
        TopicSettings(topic="spBv1.0/+/+/+/{name}", format=PayloadFormat.SPARKPLUG),
    ),
)  # fmt: skip
_WORDS = (b'"at":', b'"2026-03-17T12:13:04+01:00"', b"1700000000", b"1e999", b"9" * 400, b"NaN")


class _OneChild:
    """A directory where every text means the same child."""

    def find(self, _key: ChildKey, text: str) -> DeviceId | None:
        return CHILD if text else None


def more_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield from _of_the_site()
    yield from _of_clouds()
    yield from _of_consoles()
    yield from _of_etcd()
    yield from _of_files()
    yield from _of_recordings()


def _of_the_site() -> Iterator[Parser]:
    metric = b"\x12\x11\x0a\x04Load\x10\x01\x69" + struct.pack("<d", 0.5)
    born = b"\x08\xfb\xf2\xfd\xd5\xd2\x33" + metric
    yield Parser(
        "what a device publishes at a site's broker", _translate,
        [b'json/a/state\n{"a": {"b": [70.5]}, "on": "ON", "at": 1700000000}',
         b'named/x\n{"dev": "a8032abe54dc", "time": "2026-03-17T12:13:04+01:00", "x": 1}',
         b"plain/a/open\ntrue", b'event/a/alarm\n{"level": 3}',
         b"spBv1.0/g/DBIRTH/e/d\n" + born],
        (), (*_WORDS, b"spBv1.0/g/NBIRTH/e\n", b"spBv1.0/g/DDATA/e/d\n", b"plain/", metric),
    )  # fmt: skip


def _translate(data: bytes) -> object:
    """Read a topic, a line feed and a payload, and the payload once more as that of a device."""
    topic, _, payload = data.partition(b"\n")
    topics = SiteTopics(TABLE, _OneChild())
    name = topic.decode(errors="replace")
    found = topics.translate(PublishPacket(name, payload))
    topics.translate(PublishPacket("spBv1.0/g/DDATA/e/d", payload))
    return found


def _of_clouds() -> Iterator[Parser]:
    accepted = websocket.accept_of(NONCE)
    yield Parser(
        "answer to an upgrade", _upgrade,
        [b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
         b"Sec-WebSocket-Accept: " + accepted + b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"],
        (HttpError,),
        (b"\r\n\r\n", b"Upgrade: ", b"Sec-WebSocket-Accept: ", accepted, b"Connection: "),
    )  # fmt: skip
    name = CloudName("cloud", "a1product00", "TH20-0001")
    named = {"productKey": name.product, "deviceName": name.device}
    yield Parser(
        "Alibaba: what is issued over HTTPS and without a name on record",
        lambda data: _issued(data, name),
        [json.dumps({"code": 200, "data": {**named, "deviceSecret": "0123"}}).encode(),
         json.dumps({"code": "6288", "message": "x"}).encode(),
         json.dumps({**named, "clientId": "c", "deviceToken": "t"}).encode()],
        (), (b'"code":', b"Infinity", b"1e999", b'"data":'),
    )  # fmt: skip


def _of_consoles() -> Iterator[Parser]:
    key = b"AKID\ns3cret\n"
    yield Parser(
        "console: what holds an access key", lambda data: parse_access_key(data, "a file"),
        [key, key + b"token\n", b"User Name,Access Key Id,Secret Access Key\nx,AKID,s3cret\n"],
        (ConsoleError,), (b",", b"\n", b'"', b"\xef\xbb\xbf"),
    )  # fmt: skip
    ca = {"certificate_id": "1", "cn_name": "x", "status": False, "verify_code": "7-1",
          "content": "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"}  # fmt: skip
    yield Parser(
        "console: an answer of Huawei's API", _answered,
        [json.dumps(one).encode() for one in (
            ca, {"error_code": "IOTDA.014301", "error_msg": "x"}, {"page": {"marker": "1"}})],
        (ConsoleError, ApiBusy), (b'"error_code":', b'"status":', b"Infinity", b"[[[[", b'{"a":'),
    )  # fmt: skip


def _of_etcd() -> Iterator[Parser]:
    pair = {"key": "YQ==", "value": "Yg==", "create_revision": "7", "mod_revision": "9"}
    found = {"response_range": {"kvs": [pair], "more": True, "count": "1"}}
    header = {"revision": "9"}
    yield Parser(
        "etcd: what it answers", _of_member,
        [json.dumps(one).encode() for one in (
            {"header": header, "succeeded": True, "responses": [found, {"response_put": {}}]},
            {"result": {"header": header, "ID": "7587899264475439879", "TTL": "15"}},
            {"error": "no leader", "message": "no leader", "code": 14}, {"token": "a.1"})],
        (etcd_messages.EtcdFormatError,),
        (b'"kvs":', b'"lease":"', b"9" * 20, b"====", b"true", b'"responses":[', b"[[[["),
    )  # fmt: skip


def _of_member(data: bytes) -> object:
    etcd_messages.parse_fault(data)
    for parse in (etcd_messages.parse_lease, etcd_messages.parse_token):
        with suppress(etcd_messages.EtcdFormatError):
            parse(data)
    return etcd_messages.parse_txn(data)


def _answered(data: bytes) -> object:
    asked, file = ApiRequest("GET", "/", "GET /"), DeviceCaFile("", "x", "")
    dialect = HuaweiDialect(parse_access_key(b"AKID\ns3cret\n", ""), "", "")
    with suppress(ConsoleError, ApiBusy):
        dialect.read(asked, HttpResponse(400, data))
    answer = dialect.read(asked, HttpResponse(200, data))
    return plain(answer), ca_detail(answer), file.is_in(answer)


def _issued(data: bytes, name: CloudName) -> object:
    status = 2 * data[0] if data else 200
    grant = preregistration_free.parse_grant(preregistration_free.TOPICS[0], data, name)
    return grant, https_registration.parse_response(HttpResponse(status, data), name)


def _of_recordings() -> Iterator[Parser]:
    packet = dns.encode(records.announcement(LAMP))
    line = {"at": 0.5, "kind": "datagram", "interface": "lan0", "sender": "fe80::1%lan0",
            "port": 5353, "data": base64.b64encode(packet).decode()}  # fmt: skip
    link = {"at": 1, "kind": "interface", "interface": "lan0", "index": 2, "running": 1,
            "addresses": "10.77.0.1/16 fe80::1/64"}  # fmt: skip
    yield Parser(
        "recording that is played", _played,
        [json.dumps(one).encode() + b"\n" for one in (line, link)],
        (recording.MalformedRecording,), (*_WORDS, b'"kind":"end"', b'"version":1', b'"port":'),
    )  # fmt: skip
    yield Parser(
        "packet of which names and addresses are replaced",
        Anonymizer(Pseudonyms(bytes(32)), ("model",)).packet, [packet], (Unreadable,),
        (b"\xc0\x0c", b"\x04arpa\0", b"\0\x1c\0\1", b"\0\x2f\0\1", b"\0\x05\0\1"),
    )  # fmt: skip
    yield Parser(
        "name of a device", lambda data: sanitize.original_name(sanitize.escaped_name(
            data.decode(errors="replace"))),
        [b"Lamp\\x00", "a\u202e\u200d".encode()], (), (b"\\", b"\\x", b"\\u00", b"\\U0001"),
    )  # fmt: skip


def _played(data: bytes) -> object:
    """Read a file of a first line and these."""
    first = b'{"at": 0, "kind": "recording", "version": 1}\n'
    interfaces, found = replay.ReplayedInterfaces(), list[object]()
    for line in recording.read_recording(io.BytesIO(first + data)):
        if line.kind == "interface":
            found += interfaces.commands(line)
        elif line.kind == "datagram":
            found.append(recording.RecordedDatagram.of(line))
    return found


def _upgrade(data: bytes) -> None:
    if (head := parse_head(data)) is not None:
        websocket.check_upgrade(head, NONCE)


def _of_files() -> Iterator[Parser]:
    user = {"name": str(CHILD), "password": "", "certificates": {"7": 1.8e9}, "children": []}
    head = json.dumps({"version": users.VERSION, "revoked": {}}).encode()
    yield Parser(
        "list of the broker's users", users.decode,
        [head + b"\n", head + b"\n" + json.dumps(user).encode() + b"\n"],
        (StoreUnavailable,), (b"Infinity", b"1e999", b'"version":', b'"certificates":', b"[["),
    )  # fmt: skip
    yield Parser(
        "words of a recovery key",
        lambda data: recovery_words.decode(data.decode(errors="replace")),
        [" ".join(recovery_words.encode(bytes(range(recovery_words.SEED_SIZE)))).encode()],
        (ConfigError,),
    )  # fmt: skip
    yield Parser(
        "address of a unit that wants a credential", lambda data: unit_of(data, 0),
        [b"\0" + b"0123456789abcdef/unit/bridge.service/child"],
    )  # fmt: skip
