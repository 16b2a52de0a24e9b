"""Parsers of what an OPC UA server answers when it is to prove its key."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gatewayd.ca.authority import Authority, make_authority
from gatewayd.ca.certificates import common_name
from gatewayd.ca.keys import make_key
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua import binary as ua
from gatewayd.discovery.protocols.opc_ua import messages as opc_ua
from gatewayd.discovery.protocols.opc_ua.identity import certificates_in
from gatewayd.proofs.chain import verify
from gatewayd.proofs.secure_channel import (
    ENCRYPTED,
    FRESH,
    POLICIES,
    ChannelQuestion,
    KeyNotProven,
    OwnCertificate,
    rsa_key,
)
from gatewayd.proofs.tls import ProofFailed
from script.attacking.fuzzer import Parser

NOW = 1.8e9
REFUSALS = (UnreadableAnswer, KeyNotProven)
WORDS = (b"\xff\xff\xff\xff", b"\1\0\xc1\1", b"\0\0\0\x80", b"\x30\x82", b"http://")


def proof_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    question, key = _question()
    size = key.key_size // 8
    head = ua.u32(9) + ua.text(question.policy.uri) + ua.octets(question.shown)
    head += ua.octets(question.own.thumbprint)
    blocks = key.public_key().encrypt(b"x", question.policy.encryption)
    yield Parser(
        "answer with a secure channel", lambda data: _answer(question, data),
        [head + blocks * 3, head + bytes(size), head], REFUSALS, WORDS,
    )  # fmt: skip
    inside = ua.u32(1, int.from_bytes(question.fresh[:4], "little")) + ua.numeric_id(449)
    inside += bytes(8) + question.fresh[4:8] + bytes(5) + struct.pack("<i", -1) + bytes(3)
    inside += ua.u32(0, 9, 5) + bytes(8) + ua.u32(9) + ua.octets(bytes(32)) + b"\2\2\2"
    yield Parser("inside of a secure channel", lambda data: _inside(question, data), [inside],
                 REFUSALS, WORDS)  # fmt: skip
    der = _root().certificate.public_bytes(Encoding.DER)
    yield Parser(
        "certificates that an OPC UA server sends", _certificates, [der, der * 2],
        (ProofFailed, UnreadableAnswer),
        (b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x25", b"\x30\x80", b"\x01\x01\xff"),
    )  # fmt: skip


@cache
def _root() -> Authority:
    return make_authority(common_name("server"), "rsa-2048", 3650, NOW)


def _question() -> tuple[ChannelQuestion, RSAPrivateKey]:
    own, shown = make_key("rsa-2048"), _root().certificate.public_bytes(Encoding.DER)
    key = rsa_key(shown)
    assert isinstance(own, RSAPrivateKey)
    assert key is not None
    mine = OwnCertificate(b"certificate", own)
    fresh = bytes(range(FRESH))
    return ChannelQuestion(POLICIES[0], ENCRYPTED, mine, shown, key, fresh, NOW), own


def _answer(question: ChannelQuestion, data: bytes) -> object:
    return question.read(opc_ua.ChunkHeader(b"OPN", b"F", len(data)), data)


def _inside(question: ChannelQuestion, data: bytes) -> object:
    return question.close(question.read_inside(data))


@cache
def _scratch() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="attack-")


def _certificates(data: bytes) -> None:
    """Verify what was sent, by a vendor's CA that it may or may not be."""
    file = Path(_scratch().name) / "roots.pem"
    if not file.exists():
        file.write_text(_root().pem)
    shown, *others = certificates_in(data) or [data]
    if (key := rsa_key(shown)) is not None:
        mine = OwnCertificate(b"certificate", _own())
        ChannelQuestion(POLICIES[0], ENCRYPTED, mine, shown, key, bytes(FRESH), NOW).request()
    verify(shown, others, [file])


@cache
def _own() -> RSAPrivateKey:
    made = make_key("rsa-2048")
    assert isinstance(made, RSAPrivateKey)
    return made
