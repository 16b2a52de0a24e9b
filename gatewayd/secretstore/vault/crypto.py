"""The cryptography of the vault, as pure functions.

    secret of a key slot ──HKDF──► wrapping key ──AES-GCM──► data key ──AES-GCM──► each secret

What a ciphertext belongs to is in its associated data, so nothing can be moved elsewhere.
AES-256-GCM: NIST SP 800-38D.  HKDF: RFC 5869.  Random nonces of 96 bits serve 2^32 writes under
one key (SP 800-38D, 8.3).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"gatewayd-vault-v1\0"
KEY_SIZE = 32
NONCE_SIZE = 12
UUID_SIZE = 16
_TEXT = "surrogateescape"


class DecryptionError(Exception):
    """A ciphertext does not open: the key is another one, or the bytes are."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as one key slot keeps it.

    fingerprint: of the slot's secret alone, to distinguish a wrong key from damaged bytes.
    """

    kind: str
    fingerprint: bytes
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class RowAddress:
    """The address of a secret: all that its ciphertext is bound to.

    store: 16 bytes that name the vault.  gen: the number of this write in the life of the
    vault.  kid: the number of the data key.
    """

    store: bytes
    gen: int
    kid: int
    service: str
    username: str

    def associated_data(self) -> bytes:
        """Return the fields without ambiguity: fixed lengths, and one length before a text."""
        service = self.service.encode(errors=_TEXT)
        numbers = self.gen.to_bytes(8, "big") + self.kid.to_bytes(4, "big")
        length = len(service).to_bytes(4, "big")
        return MAGIC + self.store + numbers + length + service + self.username.encode(errors=_TEXT)


def seal(key: bytes | memoryview, nonce: bytes, plain: bytes, address: RowAddress) -> bytes:
    """Encrypt one secret for its address."""
    return _cipher(key).encrypt(nonce, plain, address.associated_data())


def unseal(key: bytes | memoryview, nonce: bytes, ciphertext: bytes, address: RowAddress) -> bytes:
    """Decrypt one secret.  Raises DecryptionError."""
    return decrypt(key, nonce, ciphertext, address.associated_data())


def wrap(
    secret: bytes, kind: str, nonce: bytes, data_key: bytes | memoryview, context: bytes
) -> WrappedKey:
    """Wrap a data key for a key slot.  context: of the slot."""
    ciphertext = encrypt(_wrapping_key(secret), nonce, data_key, context)
    return WrappedKey(kind, fingerprint(secret), nonce, ciphertext)


def unwrap(secret: bytes, wrapped: WrappedKey, context: bytes) -> bytes:
    """Unwrap the data key of a key slot.  context: of the slot.  Raises DecryptionError."""
    return decrypt(_wrapping_key(secret), wrapped.nonce, wrapped.ciphertext, context)


def fingerprint(secret: bytes) -> bytes:
    """Return what identifies the secret of a key slot, and reveals nothing of it."""
    return derive(secret, b"gatewayd-key-fingerprint")


def commitment(data_key: bytes | memoryview, store: bytes, kid: int) -> bytes:
    """Bind a vault to one data key: AES-GCM alone would let a tag fit two keys (RFC 9771)."""
    header = MAGIC + store + kid.to_bytes(4, "big")
    return hmac.digest(derive(data_key, b"check"), header, "sha256")


def mac(data_key: bytes | memoryview, purpose: bytes, text: bytes) -> bytes:
    """Authenticate what the vault keeps in the clear, as only a holder of the data key can."""
    return hmac.digest(derive(data_key, b"stamp-" + purpose), text, "sha256")


def slot_context(store: bytes, kid: int, kind: str, material: bytes = b"") -> bytes:
    """Return the context of a wrapped data key: its vault, its number, its slot.

    material: by which the slot finds its key; it names the counter in the TPM, too.
    """
    name = b"gatewayd-dek" + store + kid.to_bytes(4, "big") + kind.encode()
    return name + b"\0" + material if material else name


def _wrapping_key(secret: bytes) -> bytes:
    return derive(secret, b"gatewayd-kek")


def derive(secret: bytes | memoryview, purpose: bytes) -> bytes:
    """Derive a key for one purpose (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=purpose).derive(
        cast("bytes", secret)
    )


def _cipher(key: bytes | memoryview) -> AESGCM:
    return AESGCM(cast("bytes", key))  # it takes any buffer


def encrypt(key: bytes, nonce: bytes, plain: bytes | memoryview, context: bytes) -> bytes:
    """Encrypt.  context: the associated data."""
    return _cipher(key).encrypt(nonce, bytes(plain), context)


def decrypt(key: bytes | memoryview, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes:
    """Decrypt what `encrypt` has made.  Raises DecryptionError."""
    try:
        return _cipher(key).decrypt(nonce, ciphertext, context)
    except (InvalidTag, ValueError):  # ValueError: a nonce or ciphertext of impossible length
        raise DecryptionError from None
