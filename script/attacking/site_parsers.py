"""Parsers of what etcd holds for a site, what brokers of an operator send, and what he gives."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from gatewayd.ca.authority import make_authority
from gatewayd.ca.bundle import read_bundle
from gatewayd.ca.certificates import common_name
from gatewayd.ca.keys import read_key
from gatewayd.cloud.command_router import NoCommand
from gatewayd.cloud.mqtt_broker.dynamic_security import read_results
from gatewayd.cloud.mqtt_broker.messages import TopicCommands
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.console.alibaba.device_names import parse_names
from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.errors import BlobDamaged, ConfigError, ConsoleError, InvalidArgs
from gatewayd.messages.broker.nftables import NftablesError, acknowledgements
from gatewayd.secretstore.vault import crypto
from gatewayd.site.membership import key_ring
from gatewayd.site.replica.blob import BlobKeys, ChildBlob, key_of_child, open_blob, seal_blob
from script.attacking.fuzzer import Parser

KEYS = BlobKeys(bytes(16), 2, {1: b"a" * 32, 2: b"b" * 32}, b"n" * 32)
NAME = CloudName("east", "sensor", "TH20-1")
PLACE = key_of_child(KEYS, 7, NAME)
PUBLIC = bytes.fromhex("302a300506032b656e032100") + bytes(range(32))
"""An X25519 key (RFC 8410)."""
BROKER = BrokerIdentity("c-1", "child-1", "up/", "down/")
_HEAD = b"gwds\1" + (2).to_bytes(4)


def site_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield from _of_etcd()
    yield from _of_brokers()
    authority = make_authority(common_name("ca"), "ec-p256", 10, 1.8e9)
    pem = authority.secret().reveal()
    packed = pkcs12.serialize_key_and_certificates(
        b"x", read_key(pem), authority.certificate, None, BestAvailableEncryption(b"secret")
    )
    yield Parser(
        "certificate with its key, of an operator", read_bundle, [pem, pem * 2], (InvalidArgs,),
        (b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n"),
    )  # fmt: skip
    yield Parser(
        "PKCS #12 of an operator", lambda data: read_bundle(data, passphrase=b"secret"),
        [packed], (InvalidArgs,), (b"\x30\x80", b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"),
    )  # fmt: skip
    yield Parser(
        "answer of the firewall", lambda data: list(acknowledgements(data)),
        [bytes.fromhex("24000000020000010100000000000000") + bytes(20)], (NftablesError,),
    )  # fmt: skip


def _of_etcd() -> Iterator[Parser]:
    """Yield the parsers of what other gateways, and who can write to etcd, leave there."""
    ring = key_ring.new_ring("gw-1", PUBLIC, bytes)
    later = ring.without_member("gw-2", b"k" * 32)
    yield Parser(
        "etcd: the key ring of a site", lambda data: key_ring.read_ring(data).open(bytes(32)),
        [key_ring.seal_ring(ring, bytes), key_ring.seal_ring(later, bytes)],
        (key_ring.DocumentFault,), (b'"epoch":', b'"sealed":', b'"version":'),
    )  # fmt: skip
    yield Parser(
        "inside of a key ring", lambda data: key_ring.from_secret(Secret(data)),
        [key_ring.to_secret(one).reveal() for one in (ring, later)], (key_ring.DocumentFault,),
        (b'"members":', b'"keys":', b'"names":', b"null"),
    )  # fmt: skip
    yield Parser(
        "etcd: a gateway of a site", key_ring.read_member,
        [key_ring.member_document(ring, "gw-1", "gw-1", bytes), key_ring.join_document(PUBLIC)],
        (key_ring.DocumentFault,), (b'"wrapped":', b'"nonce":', b'"by":', b'"public":'),
    )  # fmt: skip
    child = _child()
    yield Parser(
        "etcd: a child of a site", lambda data: open_blob(KEYS, PLACE, data),
        [seal_blob(KEYS, PLACE, child, bytes)], (BlobDamaged, ConfigError),
    )  # fmt: skip
    yield Parser(
        "inside of a child of a site", lambda data: open_blob(KEYS, PLACE, _sealed(data)),
        [_opened(seal_blob(KEYS, PLACE, one, bytes)) for one in (child, ChildBlob(2, None, {}, 1))],
        (BlobDamaged, ConfigError),
        (b'"record":', b'"secrets":', b'"moves":', b'"claims":', b"null", b"1e999", b"[[]]"),
    )  # fmt: skip


def _of_brokers() -> Iterator[Parser]:
    """Yield the parsers of what a broker sends in a cloud's place."""
    listed = json.dumps({"on": 1, "names": ["a"]}).encode()
    yield Parser(
        "broker: a command, and its answers", _command,
        [f"down/{use}\n".encode() + listed for use in ("set/1", "get/2", "call/x/3", "x")],
        (NoCommand,), (b"down/set/", b"down/get/", b"down/call/", b"{}", b"NaN"),
    )  # fmt: skip
    answer = {"correlationData": "1", "error": "no", "data": {"clients": ["a"]}}
    yield Parser(
        "broker: an answer about its users", read_results,
        [json.dumps({"responses": [answer, {"correlationData": "2"}]}).encode()], (),
        (b'"responses":', b'"correlationData":', b'"error":', b'"data":'),
    )  # fmt: skip
    yield Parser(
        "names of devices, for a console", lambda data: parse_names(data, "x"),
        [b"TH20-1\nTH20-2\n", b"a,b\r\n"], (ConsoleError,), (b",", b"\r\n", b"\xef\xbb\xbf"),
    )  # fmt: skip


def _command(data: bytes) -> object:
    topic, _, payload = data.partition(b"\n")
    return TopicCommands(BROKER).read(topic.decode("utf-8", "surrogateescape"), payload)


def _child() -> ChildBlob:
    device = DeviceId("child-0123456789ab")
    record = Record(
        device, frozenset({Claim("serial", "_x._tcp", "th20-1")}), "TH-20", Verdict.ADMITTED,
        Admission.RULE, "sensors", "", NAME, 1, 2, attempt=3, stored=3,
    )  # fmt: skip
    return ChildBlob(1, record, {record.slot(3): Secret(b"s")})


def _sealed(plain: bytes) -> bytes:
    """Return what a member that lies would write."""
    own = crypto.derive(KEYS.keys[2], b"gatewayd-site-blob\0" + PLACE.encode())
    return _HEAD + bytes(crypto.NONCE_SIZE) + crypto.encrypt(own, bytes(crypto.NONCE_SIZE), plain,
                                                             _context())  # fmt: skip


def _opened(sealed: bytes) -> bytes:
    own = crypto.derive(KEYS.keys[2], b"gatewayd-site-blob\0" + PLACE.encode())
    rest = sealed[len(_HEAD) :]
    nonce, whole = rest[: crypto.NONCE_SIZE], rest[crypto.NONCE_SIZE :]
    return bytes(crypto.decrypt(own, nonce, whole, _context()))


def _context() -> bytes:
    return b"gatewayd-site-blob\0" + _HEAD + KEYS.site + PLACE.encode()
