"""Parsers of what an OPC UA server answers when it is to prove its key."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from gatewayd.ca.authority import make_authority
from gatewayd.ca.certificates import Validity, application, common_name
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
    server, own = _key(), _key()
    question = _question(server, own)
    inside = ua.u32(1, int.from_bytes(question.fresh[:4], "little")) + ua.numeric_id(449)
    inside += bytes(8) + question.fresh[4:8] + bytes(5) + struct.pack("<i", -1) + bytes(3)
    inside += ua.u32(0, 9, 5) + bytes(8) + ua.u32(9) + ua.octets(bytes(32)) + b"\2\2\2"
    yield Parser(
        "answer with a secure channel", lambda data: _answer(question, data),
        [_sealed(question, inside[:-3], server), bytes(64)], REFUSALS, WORDS,
    )  # fmt: skip
    yield Parser("inside of a secure channel", lambda data: _inside(question, data), [inside],
                 REFUSALS, WORDS)  # fmt: skip
    root = make_authority(common_name("root"), "ec-p256", 3650, time.time())
    leaf = root.sign_server(["plc"], server.public_key(), 365, time.time())
    chain = leaf.public_bytes(Encoding.DER) + root.certificate.public_bytes(Encoding.DER)
    yield Parser(
        "certificates that an OPC UA server sends", _Vendor(root.pem, own).verify,
        [chain, chain[: len(leaf.public_bytes(Encoding.DER))]], (ProofFailed, UnreadableAnswer),
        (b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x25", b"\x30\x80", b"\x01\x01\xff"),
    )  # fmt: skip


def _key() -> RSAPrivateKey:
    made = make_key("rsa-2048")
    assert isinstance(made, RSAPrivateKey)
    return made


def _question(server: RSAPrivateKey, own: RSAPrivateKey) -> ChannelQuestion:
    shown = application("plc", server, Validity.days(365, NOW)).public_bytes(Encoding.DER)
    mine, fresh = OwnCertificate(b"certificate", own), bytes(range(FRESH))
    return ChannelQuestion(POLICIES[0], ENCRYPTED, mine, shown, server.public_key(), fresh, NOW)


def _sealed(question: ChannelQuestion, content: bytes, server: RSAPrivateKey) -> bytes:
    """Return an answer as a server makes it, without the header of its chunk."""
    size, peer = server.key_size // 8, question.own.key.public_key()
    block = size - question.policy.overhead
    missing = -(len(content) + 1 + size) % block
    content += bytes([missing]) * (missing + 1)
    head = ua.u32(9) + ua.text(question.policy.uri) + ua.octets(question.shown)
    head += ua.octets(question.own.thumbprint)
    length = opc_ua.HEADER + len(head) + (len(content) + size) // block * size
    signed = b"OPNF" + ua.u32(length) + head + content
    content += server.sign(signed, question.policy.signature, SHA256())
    blocks = (content[at : at + block] for at in range(0, len(content), block))
    return head + b"".join(peer.encrypt(one, question.policy.encryption) for one in blocks)


def _answer(question: ChannelQuestion, data: bytes) -> object:
    return question.read(opc_ua.ChunkHeader(b"OPN", b"F", len(data)), data)


def _inside(question: ChannelQuestion, data: bytes) -> object:
    return question.close(question.read_inside(data))


class _Vendor:
    """A vendor's CA, by which certificates are verified that were sent, or not."""

    def __init__(self, pem: str, own: RSAPrivateKey) -> None:
        self._pem, self._mine = pem, OwnCertificate(b"certificate", own)

    @cached_property
    def _file(self) -> Path:
        self._scratch = TemporaryDirectory(prefix="attack-")
        file = Path(self._scratch.name) / "roots.pem"
        file.write_text(self._pem)
        return file

    def verify(self, data: bytes) -> None:
        """Ask by the key of the first one, and verify them."""
        shown, *others = certificates_in(data) or [data]
        if (key := rsa_key(shown)) is not None:
            fresh = bytes(FRESH)
            ChannelQuestion(POLICIES[0], ENCRYPTED, self._mine, shown, key, fresh, NOW).request()
        verify(shown, others, [self._file])
