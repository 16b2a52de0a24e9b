"""The recovery key slot: data keys wrapped for a public key, whose private half lies elsewhere.

X25519 (RFC 7748) with an ephemeral key, HKDF and AES-GCM; or RSA-OAEP (RFC 8017) of 3072 bits and
more.  A gateway can add to the slot, and cannot open it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from gatewayd.errors import ConfigError
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import NONCE_SIZE, DecryptionError, WrappedKey

KIND = "recovery"
RSA_BITS = 3072
MAX_PEM = 1 << 16
"""Bytes of a PEM file, at most."""
_RAW = 32
_REMEDY = f"use an X25519 key, or an RSA key of {RSA_BITS} bits or more, in PEM"


def make_private(random: Callable[[int], bytes]) -> bytes:
    """Return a new private key of X25519, PKCS #8, PEM, that is not encrypted."""
    key = X25519PrivateKey.from_private_bytes(random(_RAW))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_public(pem: bytes) -> bytes:
    """Return a public key as DER, the material of a recovery slot.  Raises ConfigError."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"that is no public key: {_REMEDY}") from None
    if not _fits(key):
        raise ConfigError(f"that public key cannot serve for recovery: {_REMEDY}")
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        wrap(public, memoryview(bytes(crypto.KEY_SIZE)), bytes(crypto.UUID_SIZE), 1, os.urandom)
    except (ValueError, InternalError):  # a point of small order (RFC 7748, 6.1), or odd numbers
        raise ConfigError(f"nothing can be encrypted for that public key: {_REMEDY}") from None
    return public


def slot_kind(public: bytes) -> str:
    """Return the kind of the slot of a public key: each has a slot of its own."""
    return f"{KIND}-{hashlib.sha256(public).hexdigest()[:16]}"


def wrap(
    public: bytes,
    data_key: memoryview,
    store: bytes,
    kid: int,
    random: Callable[[int], bytes],
) -> WrappedKey:
    """Wrap a data key for the recovery slot.

    Its fingerprint vouches for the public key: only a holder of the data key can change it.
    """
    kind = slot_kind(public)
    context, nonce = crypto.slot_context(store, kid, kind), random(NONCE_SIZE)
    match load_der_public_key(public):
        case X25519PublicKey() as theirs:
            ciphertext = _wrap_x25519(theirs, data_key, nonce, context, random)
        case RSAPublicKey() as theirs:
            ciphertext = theirs.encrypt(data_key.tobytes(), _oaep(context))
        case _:
            raise DecryptionError
    return WrappedKey(kind, vouch(data_key, public), nonce, ciphertext)


def vouch(data_key: bytes | memoryview, public: bytes) -> bytes:
    """Return what vouches for a public key, as only a holder of the data key can."""
    return crypto.mac(data_key, b"recovery", public)


class RecoveryKey:
    """The private half of a recovery key, held while it opens a vault.  Implements KeyOpener.

    pem: PKCS#8, encrypted or not.  password: None where it is not encrypted.
    Raises ConfigError.
    """

    def __init__(self, pem: bytes, password: bytes | None = None) -> None:
        try:
            key = load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError("that is no private key, or the password is wrong") from None
        if not isinstance(key, X25519PrivateKey | RSAPrivateKey):
            raise ConfigError(f"that private key cannot serve for recovery: {_REMEDY}")
        self._key: X25519PrivateKey | RSAPrivateKey = key
        self.public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.kind = slot_kind(self.public)

    def unwrap(self, wrapped: WrappedKey, store: bytes, kid: int) -> bytes:
        """Unwrap a data key of the slot.  Raises DecryptionError."""
        context = crypto.slot_context(store, kid, wrapped.kind)
        if isinstance(self._key, X25519PrivateKey):
            return _unwrap_x25519(self._key, wrapped, context)
        try:
            return self._key.decrypt(wrapped.ciphertext, _oaep(context))
        except ValueError:
            raise DecryptionError from None

    def matches(self, wrapped: WrappedKey) -> bool:
        """Return whether this is the right key: its slot is named after it."""
        return wrapped.kind == self.kind


def _fits(key: object) -> bool:
    if isinstance(key, RSAPublicKey):
        return key.key_size >= RSA_BITS
    return isinstance(key, X25519PublicKey)


def _oaep(context: bytes) -> OAEP:
    return OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=context)


def _wrap_x25519(
    theirs: X25519PublicKey,
    data_key: memoryview,
    nonce: bytes,
    context: bytes,
    random: Callable[[int], bytes],
) -> bytes:
    own = X25519PrivateKey.from_private_bytes(random(_RAW))
    sent = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key = _agreed(own, theirs, sent)
    return sent + crypto.encrypt(key, nonce, data_key, context)


def _unwrap_x25519(own: X25519PrivateKey, wrapped: WrappedKey, context: bytes) -> bytes:
    sent, ciphertext = wrapped.ciphertext[:_RAW], wrapped.ciphertext[_RAW:]
    try:
        key = _agreed(own, X25519PublicKey.from_public_bytes(sent), sent)
    except ValueError:  # a public key that is none, or of small order
        raise DecryptionError from None
    return crypto.decrypt(key, wrapped.nonce, ciphertext, context)


def _agreed(own: X25519PrivateKey, theirs: X25519PublicKey, sent: bytes) -> bytes:
    """Return the key that both halves agree upon, bound to what was sent."""
    return crypto.derive(own.exchange(theirs), b"gatewayd-recovery" + sent)
