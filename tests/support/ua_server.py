"""A server of OPC UA with secure channels, as far as it proves its key; and what may be wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding as Form

from gatewayd.discovery.protocols.opc_ua import binary as ua
from gatewayd.discovery.protocols.opc_ua.binary import UaReader
from gatewayd.discovery.protocols.opc_ua.messages import CHUNK, HEADER, POLICIES, Encoding
from gatewayd.proofs.secure_channel import POLICIES as SECURE
from gatewayd.proofs.secure_channel import ChannelPolicy, derived
from tests.support.device_certificates import DeviceCertificate

CHANNEL, TOKEN = 9, 5
URI = "urn:plc.example:press"
NONCE = bytes(range(32))


@dataclass(frozen=True)
class Opening:
    """What is in the answer to a request for a channel, before it is signed."""

    certificates: bytes
    thumbprint: bytes
    number: bytes
    handle: bytes


def unchanged(opening: Opening) -> Opening:
    return opening


@dataclass
class SecureServer:
    """A server.  key: with which it signs and decrypts; that of its certificate, unless it lies.

    listed: returns the answer to GetEndpoints, by the number of the request.
    policy, mode: of its only endpoint with security.  uri: of its application.
    changed: what becomes of its answer.  error: the status by which it refuses a channel; 0 for
    none.  repeats: whether it answers each time what it has answered first.
    opened, closed: how many channels were, in the right way.
    """

    shown: DeviceCertificate
    key: RSAPrivateKey | None = None
    policy: ChannelPolicy = SECURE[0]
    mode: int = 3
    uri: str = URI
    changed: Callable[[Opening], Opening] = unchanged
    error: int = 0
    repeats: bool = False
    opened: int = 0
    closed: int = 0
    listed: Callable[[bytes], bytes] = field(init=False)
    _nonce: bytes = field(default=b"", init=False)
    _recorded: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self.listed = self._endpoints

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while head := await reader.read(HEADER):
            kind, size = struct.unpack("<4sI", head)
            body = await reader.readexactly(size - HEADER)
            if kind == b"HELF":
                writer.write(message(b"ACKF", ua.u32(0, CHUNK, CHUNK, 0, 0)))
            elif kind == b"OPNF":
                try:
                    writer.write(self._open(head, body))
                except ValueError:  # it is not for its key
                    return
            elif kind == b"MSGF":
                assert any(body[22:30]), "open62541 refuses a request without a time"
                writer.write(self.listed(body[12:16]))
            elif kind == b"CLOF":
                self._close(head, body)
                return
            await writer.drain()

    def _open(self, head: bytes, body: bytes) -> bytes:
        reader = UaReader(body)
        reader.u32()
        if reader.text() != self.policy.uri:
            security = ua.u32(CHANNEL) + ua.text(f"{POLICIES}None") + ua.octets(None) * 2
            return message(b"OPNF", security + ua.u32(1, 1) + opening(ua.u32(1), b""))
        if self.error:
            return message(b"ERRF", ua.u32(self.error) + ua.octets(None))
        client, receiver = reader.octets(4096), reader.octets(20)
        assert receiver == hashlib.sha1(self.shown.der).digest()  # noqa: S324  # so it is named
        encrypted, key = reader.rest(), self._key
        size = key.key_size // 8
        plain = b"".join(
            key.decrypt(encrypted[at : at + size], self.policy.encryption)
            for at in range(0, len(encrypted), size)
        )
        peer = x509.load_der_x509_certificate(client).public_key()
        assert isinstance(peer, RSAPublicKey)
        signed, signature = plain[: -peer.key_size // 8], plain[-peer.key_size // 8 :]
        before = head + body[: len(body) - len(encrypted)]
        peer.verify(signature, before + signed, self.policy.signature, hashes.SHA256())
        request = UaReader(signed)
        number = [request.u32() for _ in range(2)][1]
        assert request.numeric_id() == Encoding.OPEN_CHANNEL
        handle_at = 8 + 4 + 2 + 8  # behind both numbers, what it is, no session, and no time
        handle = signed[handle_at : handle_at + 4]
        nonce_at = handle_at + 4 + 4 + 4 + 4 + 3 + 12 + 4
        self._nonce = signed[nonce_at : nonce_at + 32]
        self.opened += 1
        chain = b"".join(one.public_bytes(Form.DER) for one in self.shown.chain)
        thumbprint = hashlib.sha1(client).digest()  # noqa: S324  # so it is named
        answer = Opening(self.shown.der + chain, thumbprint, ua.u32(number), handle)
        if not (self.repeats and self._recorded):
            self._recorded = self._answer(self.changed(answer), peer)
        return self._recorded

    @property
    def _key(self) -> RSAPrivateKey:
        key = self.key or self.shown.key
        assert isinstance(key, RSAPrivateKey)
        return key

    def _answer(self, made: Opening, peer: RSAPublicKey) -> bytes:
        security = ua.u32(CHANNEL) + ua.text(self.policy.uri)
        security += ua.octets(made.certificates) + ua.octets(made.thumbprint)
        size, signed = peer.key_size // 8, self._key.key_size // 8
        block = size - self.policy.overhead
        plain = ua.u32(1) + made.number + opening(made.handle, NONCE)
        missing = -(len(plain) + 1 + signed) % block
        plain += bytes([missing]) * (missing + 1)
        length = (len(plain) + signed) // block * size
        head = b"OPNF" + ua.u32(HEADER + len(security) + length) + security
        plain += self._key.sign(head + plain, self.policy.signature, hashes.SHA256())
        return head + b"".join(
            peer.encrypt(plain[at : at + block], self.policy.encryption)
            for at in range(0, len(plain), block)
        )

    def _close(self, head: bytes, body: bytes) -> None:
        """Check the end of a channel: OPC 10000-6, 6.7.2.5 and 6.7.5."""
        if not self._nonce:
            return  # of a channel without security
        keys = derived(NONCE, self._nonce, 32 + self.policy.cipher_key + 16)
        plain = body[8:]
        if self.mode == 3:  # signed and encrypted
            cipher = Cipher(algorithms.AES(keys[32:-16]), modes.CBC(keys[-16:])).decryptor()
            plain = cipher.update(plain) + cipher.finalize()
        expected = hmac.digest(keys[:32], head + body[:8] + plain[:-32], "sha256")
        assert hmac.compare_digest(expected, plain[-32:])
        assert struct.unpack("<xxH", plain[8:12]) == (Encoding.CLOSE_CHANNEL,)
        self.closed += 1
        self._nonce = b""

    def _endpoints(self, number: bytes) -> bytes:
        found = endpoints(self.uri, self.shown.der, self.policy.uri, self.mode)
        return message(b"MSGF", ua.u32(CHANNEL, TOKEN, 1) + number + found)


def message(kind: bytes, content: bytes) -> bytes:
    return kind + ua.u32(HEADER + len(content)) + content


def opening(handle: bytes, nonce: bytes) -> bytes:
    """Return the content of an answer to a request for a channel."""
    header = bytes(8) + handle + ua.u32(0) + b"\0" + struct.pack("<i", -1) + bytes(3)
    token = ua.u32(0, CHANNEL, TOKEN) + bytes(8) + ua.u32(10_000) + ua.octets(nonce)
    return ua.numeric_id(Encoding.OPEN_CHANNEL_ANSWER) + header + token


def endpoints(uri: str, certificate: bytes, policy: str, mode: int) -> bytes:
    """Return an answer to GetEndpoints with one without security, and one with."""
    header = bytes(8) + ua.u32(1, 0) + b"\0" + struct.pack("<i", -1) + bytes(3)
    of_application = ua.text(uri) + ua.text("urn:product") + b"\2" + ua.text("Press")
    of_application += ua.u32(0) + ua.octets(None) * 2 + ua.texts(())
    listed = b"".join(
        ua.text("opc.tcp://plc.example:4840") + of_application + ua.octets(certificate)
        + ua.u32(mode) + ua.text(policy) + struct.pack("<i", 0) + ua.octets(None) + b"\0"
        for mode, policy in ((1, f"{POLICIES}None"), (mode, policy))
    )  # fmt: skip
    content = struct.pack("<i", 2) + listed
    return ua.numeric_id(Encoding.GET_ENDPOINTS_ANSWER) + header + content


def with_fields(**fields: bytes) -> Callable[[Opening], Opening]:
    """Return what makes an answer another one in these fields."""
    return lambda made: replace(made, **fields)
