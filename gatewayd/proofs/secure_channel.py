"""A secure channel of OPC UA, opened and closed: what proves the key of a server.  Pure.

The request is encrypted for the key of the certificate that the server shows.  Its answer is signed
with that key, over the thumbprint of our certificate and over two numbers of the request, 64 random
bits in all, which only that key can decrypt: so it is neither replayed nor made for another client.
Facts: OPC 10000-6, 6.7.2 (messages), 6.7.4 (channels), 6.7.5 (keys); OPC 10000-7, 6.6 (policies).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua import binary as ua
from gatewayd.discovery.protocols.opc_ua import messages as opc_ua
from gatewayd.discovery.protocols.opc_ua.binary import UaReader
from gatewayd.discovery.protocols.opc_ua.messages import ChunkHeader, OpenedChannel
from gatewayd.proofs.certificate import UNREADABLE_PARTS

FRESH = 40
"""Random bytes of one question: two numbers, and a nonce."""
SIGNED, ENCRYPTED = 2, 3
"""The modes of an endpoint that has security."""
MAX_BLOCKS = 16
"""Blocks of an answer that are decrypted: one has three or four."""
MAX_SENDER = 16 << 10
"""Bytes of the certificates in front of an answer."""

_RSA_BITS = range(2048, 4097)
_NONCE = 32
_SIGNING_KEY, _BLOCK = 32, 16
_NUMBER = 4


class KeyNotProven(Exception):
    """An answer was not made with the key of the certificate that the server shows."""


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """A security policy with keys of RSA.

    oaep: the digest of the encryption.  is_pss: how is signed, by SHA-256 in any case.
    cipher_key: bytes of the key of AES.
    """

    name: str
    oaep: hashes.HashAlgorithm
    is_pss: bool
    cipher_key: int

    @property
    def uri(self) -> str:
        """Its name as it is sent."""
        return opc_ua.POLICIES + self.name

    @property
    def encryption(self) -> padding.OAEP:
        """How a block is padded before it is encrypted."""
        return padding.OAEP(padding.MGF1(self.oaep), self.oaep, None)

    @property
    def overhead(self) -> int:
        """Bytes of a block that are not of the message (RFC 8017, 7.1.1)."""
        return 2 * self.oaep.digest_size + 2

    @property
    def signature(self) -> padding.AsymmetricPadding:
        """How a signature is padded."""
        if not self.is_pss:
            return padding.PKCS1v15()
        return padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)


_SHA1, _SHA256 = hashes.SHA1(), hashes.SHA256()  # noqa: S303  # OAEP does not need that none collide
POLICIES: Sequence[ChannelPolicy] = (
    ChannelPolicy("Basic256Sha256", _SHA1, is_pss=False, cipher_key=32),
    ChannelPolicy("Aes128_Sha256_RsaOaep", _SHA1, is_pss=False, cipher_key=16),
    ChannelPolicy("Aes256_Sha256_RsaPss", _SHA256, is_pss=True, cipher_key=32),
)
"""Those that prove a key, in the order in which they are asked for: of a server with several
certificates, the same one counts as in discovery.  Older ones sign by SHA-1."""


@dataclass(frozen=True)
class OwnCertificate:
    """gatewayd as an application: its certificate, DER, and its key, of RSA with 2048 bits."""

    certificate: bytes
    key: RSAPrivateKey

    @property
    def thumbprint(self) -> bytes:
        """By which a receiver is named (6.7.2.3)."""
        return hashlib.sha1(self.certificate, usedforsecurity=False).digest()


def rsa_key(der: bytes) -> RSAPublicKey | None:
    """Return the key of a certificate; None where it has none that a policy permits."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except UNREADABLE_PARTS:
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS else None


@dataclass(frozen=True)
class ChannelQuestion:
    """The request for one secure channel, and the check of its answer.

    shown: the certificate, DER; key: of it, which is to be proven.  mode: SIGNED or ENCRYPTED.
    fresh: FRESH random bytes, never used before.  at: seconds since the epoch.
    """

    policy: ChannelPolicy
    mode: int
    own: OwnCertificate
    shown: bytes
    key: RSAPublicKey
    fresh: bytes
    at: float

    @property
    def _number(self) -> int:
        return int.from_bytes(self.fresh[:_NUMBER], "little")

    @property
    def _handle(self) -> int:
        return int.from_bytes(self.fresh[_NUMBER : 2 * _NUMBER], "little")

    @property
    def _nonce(self) -> bytes:
        return self.fresh[2 * _NUMBER :]

    def request(self) -> bytes:
        """Return the request.  Blocks for some milliseconds.

        Raises UnreadableAnswer where the certificate has none that encrypts.
        """
        shown = hashlib.sha1(self.shown, usedforsecurity=False).digest()
        security = ua.u32(0) + ua.text(self.policy.uri)
        security += ua.octets(self.own.certificate) + ua.octets(shown)
        body = opc_ua.channel_request(self._handle, self.mode, self._nonce, self.at)
        plain = ua.u32(1, self._number) + body
        size = self.key.key_size // 8
        block = size - self.policy.overhead
        signed = self.own.key.key_size // 8
        plain += _padding(len(plain) + signed, block, is_wide=size > _NARROW)
        length = (len(plain) + signed) // block * size
        head = b"OPNF" + ua.u32(opc_ua.HEADER + len(security) + length) + security
        plain += self.own.key.sign(head + plain, self.policy.signature, _SHA256)
        blocks = (plain[at : at + block] for at in range(0, len(plain), block))
        try:
            encrypted = [self.key.encrypt(one, self.policy.encryption) for one in blocks]
        except ValueError as error:  # numbers that are no key
            raise UnreadableAnswer("garbled") from error
        return head + b"".join(encrypted)

    def read(self, header: ChunkHeader, body: bytes) -> tuple[OpenedChannel, bytes]:
        """Read the answer; blocks for some milliseconds.  body: what is behind its header.

        Returns the channel, and the certificates that were sent in front of it, DER.
        Raises KeyNotProven for one that the key of the certificate has not made, and
        UnreadableAnswer.
        """
        if (header.kind, header.final) != (b"OPN", b"F"):
            raise UnreadableAnswer("garbled")
        reader = UaReader(body)
        reader.u32()
        policy, sender = reader.text(), reader.octets(MAX_SENDER)
        receiver = reader.octets(len(self.own.thumbprint))
        if policy != self.policy.uri or receiver != self.own.thumbprint:
            raise UnreadableAnswer("unasked")
        if sender[: len(self.shown)] != self.shown:
            raise KeyNotProven
        encrypted = reader.rest()
        head = b"OPNF" + ua.u32(opc_ua.HEADER + len(body)) + body[: len(body) - len(encrypted)]
        return self.read_inside(self._verified(head, self._decrypted(encrypted))), sender

    def read_inside(self, message: bytes) -> OpenedChannel:
        """Read what was decrypted, and signed with the key: numbers, content and padding.

        Raises KeyNotProven for an answer to another question, and UnreadableAnswer.
        """
        if not message or message[-1] >= len(message):
            raise UnreadableAnswer("garbled")
        reader = UaReader(message[: -message[-1] - 1])
        reader.u32()
        if reader.u32() != self._number:
            raise KeyNotProven
        opened = opc_ua.read_opened(reader)
        if opened.handle != self._handle:
            raise KeyNotProven
        return opened

    def _decrypted(self, encrypted: bytes) -> bytes:
        size = self.own.key.key_size // 8
        if not encrypted or len(encrypted) % size or len(encrypted) > MAX_BLOCKS * size:
            raise UnreadableAnswer("garbled")
        blocks = (encrypted[at : at + size] for at in range(0, len(encrypted), size))
        try:
            return b"".join(self.own.key.decrypt(one, self.policy.encryption) for one in blocks)
        except ValueError as error:
            raise UnreadableAnswer("garbled") from error

    def _verified(self, head: bytes, plain: bytes) -> bytes:
        """Return a message without its signature, which is over its header, too."""
        size = self.key.key_size // 8
        message, signature = plain[:-size], plain[-size:]
        try:
            self.key.verify(signature, head + message, self.policy.signature, _SHA256)
        except InvalidSignature as error:
            raise KeyNotProven from error
        return message

    def close(self, opened: OpenedChannel) -> bytes:
        """Return the request to end the channel, which is not answered."""
        keys = derived(opened.nonce, self._nonce, _SIGNING_KEY + self.policy.cipher_key + _BLOCK)
        cipher = keys[_SIGNING_KEY:-_BLOCK]
        plain = ua.u32(2, self._number + 1 & 0xFFFFFFFF) + opc_ua.close_request(
            self._handle, self.at
        )
        if self.mode == ENCRYPTED:
            plain += _padding(len(plain) + _SHA256.digest_size, _BLOCK, is_wide=False)
        channel = ua.u32(opened.channel.channel, opened.channel.token)
        length = opc_ua.HEADER + len(channel) + len(plain) + _SHA256.digest_size
        head = b"CLOF" + ua.u32(length) + channel
        plain += hmac.digest(keys[:_SIGNING_KEY], head + plain, "sha256")
        if self.mode == ENCRYPTED:
            made = Cipher(algorithms.AES(cipher), modes.CBC(keys[-_BLOCK:])).encryptor()
            plain = made.update(plain) + made.finalize()
        return head + plain


_NARROW = 256
"""Bytes of the longest key whose padding has one byte for its size (6.7.2.5)."""


def _padding(size: int, block: int, *, is_wide: bool) -> bytes:
    """Return the padding of a message of so many bytes, its signature among them."""
    count = -(size + 1 + is_wide) % block
    low, high = count & 0xFF, count >> 8
    return bytes([low]) * (count + 1) + (bytes([high]) if is_wide else b"")


def derived(secret: bytes, seed: bytes, size: int) -> bytes:
    """Return the bytes from which keys are cut: P_SHA256 (RFC 5246, 5)."""
    made, link = b"", seed
    while len(made) < size:
        link = hmac.digest(secret, link, "sha256")
        made += hmac.digest(secret, link + seed, "sha256")
    return made[:size]
