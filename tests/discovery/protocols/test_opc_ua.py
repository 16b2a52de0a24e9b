"""OPC UA: captured answers, and hostile ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua import binary
from gatewayd.discovery.protocols.opc_ua.identity import (
    certificate_of,
    found_server,
    leaf,
    ports_of,
    url_of,
)
from gatewayd.discovery.protocols.opc_ua.messages import (
    CHUNK,
    HEADER,
    MAX_CHUNKS,
    MAX_ENDPOINTS,
    POLICIES,
    ApplicationType,
    ChunkHeader,
    Encoding,
    MessageReader,
    UaApplication,
    UaChannel,
    UaEndpoint,
    close_channel,
    find_servers,
    get_endpoints,
    hello,
    open_channel,
    read_channel,
    read_endpoints,
    read_header,
    read_hello_answer,
    read_servers,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/opc_ua.json").read_text())
BY_ID = {one["id"]: one for one in VECTORS}
CAPTURED = bytes.fromhex(BY_ID["opc-ua-01"]["hex"])
CHANNEL, NUMBER = UaChannel(6, 14), 2
"""Of the captured answer."""
AT = 1_700_000_000.0
FINAL = ChunkHeader(b"MSG", b"F", 0)
RESPONSE = bytes(8) + struct.pack("<II", 1, 0) + b"\0" + struct.pack("<i", -1) + bytes(3)
"""The header of an answer without a fault."""


def body(encoding: Encoding, content: bytes, *, status: int = 0) -> bytes:
    header = bytes(8) + struct.pack("<II", 1, status) + RESPONSE[16:]
    return binary.numeric_id(encoding) + header + content


def application(uri: str, *urls: str, kind: int = 0, name: str = "PLC") -> bytes:
    texts = binary.text(uri) + binary.text("urn:product") + b"\2" + binary.text(name)
    return texts + binary.u32(kind) + binary.octets(None) * 2 + binary.texts(urls)


def server(uri: str = "urn:a", kind: int = 0, urls: tuple[str, ...] = ()) -> UaApplication:
    return UaApplication(uri, "urn:product", "PLC", kind, urls)


def endpoint(certificate: bytes, policy: str = "Basic256Sha256", uri: str = "urn:a") -> UaEndpoint:
    return UaEndpoint("opc.tcp://127.0.0.1:4840", server(uri), certificate, 3, POLICIES + policy)


def captured() -> list[UaEndpoint]:
    header = read_header(CAPTURED[:HEADER])
    assert header.size == len(CAPTURED) - HEADER
    message = MessageReader(CHANNEL, NUMBER).add(header, CAPTURED[HEADER:])
    assert message is not None
    return read_endpoints(message)


def test_captured_endpoints_are_read() -> None:
    expected, found = BY_ID["opc-ua-01"]["expect"], captured()
    assert len(found) == expected["endpoints"]
    assert [one.mode for one in found] == expected["security_modes"]
    assert {len(one.certificate) for one in found} == {expected["certificate_bytes"]}
    assert {one.url for one in found} == {expected["endpoint_url"]}
    (known,) = {one.server for one in found}
    assert (known.uri, known.product) == (expected["application_uri"], expected["product_uri"])
    assert (known.name, known.type) == (expected["name"], ApplicationType.CLIENT_AND_SERVER)


def test_a_server_is_identified_by_its_certificate_as_by_a_serial_number() -> None:
    made = found_server("10.0.0.7/4840", 4840, captured())
    assert made is not None
    certificate = captured()[0].certificate
    fingerprint = hashlib.sha256(certificate).hexdigest()
    assert made.claims == {Claim("serial", "opcua.certificate", fingerprint)}
    assert made.attributes == {
        "opcua.application": "FreeOpcUa Python Server",
        "opcua.application-uri": "urn:freeopcua:python:server",
        "opcua.product-uri": "urn:freeopcua.github.io:python:server",
        "opcua.certificate": fingerprint,
        "opcua.thumbprint": hashlib.sha1(certificate).hexdigest(),  # noqa: S324  # as tools show it
        "opcua.policies": "None Basic256Sha256",
    }
    assert made.port == 4840


def test_the_answer_to_hello_is_read() -> None:
    raw = bytes.fromhex(BY_ID["opc-ua-02"]["hex"])
    read_hello_answer(read_header(raw[:HEADER]), raw[HEADER:])


@pytest.mark.parametrize(
    "message",
    [
        hello("opc.tcp://10.0.0.7:4840"), open_channel(AT), close_channel(CHANNEL, 4, AT),
        get_endpoints(CHANNEL, 2, "opc.tcp://10.0.0.7:4840", AT), find_servers(CHANNEL, 3, "x", AT),
    ],
)  # fmt: skip
def test_a_message_has_its_size(message: bytes) -> None:
    assert struct.unpack_from("<I", message, 4) == (len(message),)


def test_a_channel_is_read() -> None:
    head = binary.u32(9) + binary.text(POLICIES + "None") + binary.octets(None) * 2
    head += binary.u32(1, 1)
    content = binary.u32(0, 9, 5) + bytes(8) + binary.u32(10_000) + binary.octets(b"")
    opened = head + body(Encoding.OPEN_CHANNEL_ANSWER, content)
    header = ChunkHeader(b"OPN", b"F", len(opened))
    assert read_channel(header, opened) == UaChannel(9, 5)
    with pytest.raises(UnreadableAnswer):
        read_channel(FINAL, opened)


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"MSGF", "garbled"),
        (b"HTTP/1.1", "garbled"),
        (b"MSGF" + struct.pack("<I", HEADER), "garbled"),
        (b"MSGF" + struct.pack("<I", CHUNK + 1), "garbled"),
        (b"MSGX" + struct.pack("<I", 100), "garbled"),
    ],
)
def test_a_bad_header_is_refused(raw: bytes, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        read_header(raw)
    assert caught.value.cause == cause


def test_a_refusal_is_one() -> None:
    refused = ChunkHeader(b"ERR", b"F", 8)
    for read in (read_hello_answer, read_channel):
        with pytest.raises(UnreadableAnswer) as caught:
            read(refused, bytes(8))
        assert caught.value.cause == "refused-by-server"
    fault = body(Encoding.FAULT, b"", status=0x80130000)
    for answer in (read_servers, read_endpoints):
        with pytest.raises(UnreadableAnswer) as caught:
            answer(fault)
        assert caught.value.cause == "refused-by-server"


def test_chunks_are_put_together() -> None:
    head, content = CAPTURED[HEADER : HEADER + 16], CAPTURED[HEADER + 16 :]
    reader = MessageReader(CHANNEL, NUMBER)
    assert reader.add(ChunkHeader(b"MSG", b"C", 0), head + content[:1000]) is None
    assert reader.add(FINAL, head + content[1000:]) == content


def test_chunks_have_a_bound() -> None:
    head = CAPTURED[HEADER : HEADER + 16]
    more = ChunkHeader(b"MSG", b"C", 0)
    many, large = MessageReader(CHANNEL, NUMBER), MessageReader(CHANNEL, NUMBER)
    for _ in range(MAX_CHUNKS):
        assert many.add(more, head) is None
    for _ in range(4):
        assert large.add(more, head + bytes(60_000)) is None
    for reader, rest in ((many, b""), (large, bytes(60_000))):
        with pytest.raises(UnreadableAnswer) as caught:
            reader.add(more, head + rest)
        assert caught.value.cause == "endless"


@pytest.mark.parametrize("numbers", [(7, 14, 2, 2), (6, 14, 2, 3)], ids=["channel", "request"])
def test_a_chunk_of_another_answer_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        MessageReader(CHANNEL, NUMBER).add(FINAL, binary.u32(*numbers))
    assert caught.value.cause == "unasked"
    with pytest.raises(UnreadableAnswer):
        MessageReader(CHANNEL, NUMBER).add(ChunkHeader(b"MSG", b"A", 0), CAPTURED[HEADER:])


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<i", MAX_ENDPOINTS + 1), struct.pack("<i", -2), struct.pack("<i", 1),
        struct.pack("<ii", 1, 1 << 30), struct.pack("<ii", 1, -7), b"",
    ],
)  # fmt: skip
def test_bad_endpoints_are_refused(content: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read_endpoints(body(Encoding.GET_ENDPOINTS_ANSWER, content))


@given(st.binary(max_size=300))
def test_no_answer_is_more_than_refused(raw: bytes) -> None:
    answers: list[Any] = [
        (read_endpoints, Encoding.GET_ENDPOINTS_ANSWER),
        (read_servers, Encoding.FIND_SERVERS_ANSWER),
    ]
    for read, encoding in answers:
        for message in (raw, body(encoding, raw), body(encoding, struct.pack("<i", 1) + raw)):
            try:
                read(message)
            except UnreadableAnswer:
                continue
    with contextlib.suppress(UnreadableAnswer):
        read_channel(ChunkHeader(b"OPN", b"F", 0), raw)


def test_servers_are_read_with_their_urls() -> None:
    listed = struct.pack("<i", 2) + application("urn:a", "opc.tcp://10.0.0.7:4841")
    listed += application("urn:lds", kind=3)
    found = read_servers(body(Encoding.FIND_SERVERS_ANSWER, listed))
    assert [(one.uri, one.type, one.urls) for one in found] == [
        ("urn:a", 0, ("opc.tcp://10.0.0.7:4841",)), ("urn:lds", 3, ()),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("opc.tcp://10.0.0.7:4841/x", 4841),
        ("opc.tcp://10.0.0.7", 4840),
        (
            "opc.tcp://plc-7.example:4841",
            4841,
        ),  # by whatever name: it is asked where it was dialled
        ("opc.tcp://127.0.0.1:4842", 4842),
        ("opc.tcp://0.0.0.0:4842", 4842),
        ("opc.tcp://10.0.0.8:4841", None),
        ("opc.tcp://[fd00::7]:4841", None),
    ],
)
def test_a_server_of_the_same_host_is_asked_and_no_other(url: str, port: int | None) -> None:
    assert list(ports_of([server(urls=(url, url))], "10.0.0.7")) == [port]


@pytest.mark.parametrize("url", ["https://10.0.0.7", "opc.tcp://[", "opc.tcp://a:99999", "", "\0"])
def test_what_is_no_url_of_a_server_is_passed_over(url: str) -> None:
    assert not list(ports_of([server(urls=(url,))], "10.0.0.7"))


def test_a_url_is_that_of_the_address() -> None:
    assert url_of("10.0.0.7", 4840) == "opc.tcp://10.0.0.7:4840"
    assert url_of("fe80::1%lan0", 4840) == "opc.tcp://[fe80::1]:4840"


LEAF, OTHER = b"\x30\x03abc", b"\x30\x03aaa"


def test_of_a_chain_the_first_certificate_counts() -> None:
    assert leaf(LEAF + OTHER) == LEAF
    assert leaf(b"") == leaf(b"\x04\x01a") == leaf(LEAF[:3]) == b""


def test_of_several_certificates_always_the_same_counts() -> None:
    some = [endpoint(OTHER, "ECC_nistP256"), endpoint(LEAF), endpoint(b"", "None")]
    assert certificate_of(some) == certificate_of(some[::-1]) == LEAF
    new = [endpoint(LEAF, "ECC_a"), endpoint(OTHER, "ECC_b")]
    assert certificate_of(new) == certificate_of(new[::-1]) == OTHER
    assert certificate_of([endpoint(b"", "None")]) == b""


def test_a_server_without_a_certificate_has_no_claim() -> None:
    made = found_server("a", 4840, [endpoint(b"", "None")])
    assert made is not None
    assert not made.claims
    assert "opcua.certificate" not in made.attributes


def test_a_discovery_server_is_no_device() -> None:
    lists = UaEndpoint("x", server(kind=ApplicationType.DISCOVERY_SERVER), LEAF, 1, "")
    assert found_server("a", 4840, [lists]) is None
    with pytest.raises(UnreadableAnswer):
        found_server("a", 4840, [])


def test_endpoints_of_another_application_do_not_identify_a_server() -> None:
    made = found_server("a", 4840, [endpoint(LEAF), endpoint(OTHER, uri="urn:b")])
    assert made is not None
    assert made.attributes["opcua.certificate"] == hashlib.sha256(LEAF).hexdigest()
