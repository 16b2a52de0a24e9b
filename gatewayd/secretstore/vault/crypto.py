"""The cryptography of the vault, as pure functions.

    secret of a key slot ──HKDF──► wrapping key ──AES-GCM──► data key ──AES-GCM──► each secret

What a ciphertext belongs to is in its associated data, so nothing can be moved elsewhere.
AES-256-GCM: NIST SP 800-38D.  HKDF: RFC 5869.  Random nonces of 96 bits serve 2^32 writes under
one key (SP 800-38D, 8.3).

A key in a page of memory of its own: not swapped, not dumped, wiped at the end.
"""

from __future__ import annotations

import ctypes
import hmac
import logging
import mmap
from dataclasses import dataclass
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"gatewayd-vault-v1\0"
KEY = 32
NONCE = 12
UUID = 16
_TEXT = "surrogateescape"


class DoesNotOpen(Exception):
    """The key is another one, or the bytes are."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key as one key slot keeps it.

    fingerprint: of the slot's secret alone, to tell a wrong key from damaged bytes.
    """

    kind: str
    fingerprint: bytes
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret lies: all that its ciphertext is bound to.

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


def seal(key: bytes | memoryview, nonce: bytes, plain: bytes, place: Place) -> bytes:
    """Encrypt one secret for its place."""
    return _cipher(key).encrypt(nonce, plain, place.associated_data())


def unseal(key: bytes | memoryview, nonce: bytes, ciphertext: bytes, place: Place) -> bytes:
    """Decrypt one secret.  Raises DoesNotOpen."""
    return decrypt(key, nonce, ciphertext, place.associated_data())


def wrap(
    secret: bytes, kind: str, nonce: bytes, data_key: bytes | memoryview, bound_to: bytes
) -> Wrapped:
    """Put a data key into a key slot.  bound_to: the slot's name."""
    ciphertext = encrypt(_wrapping_key(secret), nonce, data_key, bound_to)
    return Wrapped(kind, fingerprint(secret), nonce, ciphertext)


def unwrap(secret: bytes, wrapped: Wrapped, bound_to: bytes) -> bytes:
    """Take the data key out of a key slot.  bound_to: the slot's name.  Raises DoesNotOpen."""
    return decrypt(_wrapping_key(secret), wrapped.nonce, wrapped.ciphertext, bound_to)


def fingerprint(secret: bytes) -> bytes:
    """Name the secret of a key slot without telling anything of it."""
    return derive(secret, b"gatewayd-key-fingerprint")


def commitment(data_key: bytes | memoryview, store: bytes, kid: int) -> bytes:
    """Bind a vault to one data key: AES-GCM alone would let a tag fit two keys (RFC 9771)."""
    header = MAGIC + store + kid.to_bytes(4, "big")
    return hmac.digest(derive(data_key, b"check"), header, "sha256")


def stamp(data_key: bytes | memoryview, purpose: bytes, said: bytes) -> bytes:
    """Sign what the vault keeps in the clear, as only who has the data key can."""
    return hmac.digest(derive(data_key, b"stamp-" + purpose), said, "sha256")


def slot_name(store: bytes, kid: int, kind: str, material: bytes = b"") -> bytes:
    """Return what a wrapped data key is bound to: its vault, its number, its slot.

    material: by which the slot finds its key; it names the counter in the TPM, too.
    """
    name = b"gatewayd-dek" + store + kid.to_bytes(4, "big") + kind.encode()
    return name + b"\0" + material if material else name


def _wrapping_key(secret: bytes) -> bytes:
    return derive(secret, b"gatewayd-kek")


def derive(secret: bytes | memoryview, purpose: bytes) -> bytes:
    """Derive a key for one purpose (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=KEY, salt=None, info=purpose).derive(
        cast("bytes", secret)
    )


def _cipher(key: bytes | memoryview) -> AESGCM:
    return AESGCM(cast("bytes", key))  # it takes any buffer


def encrypt(key: bytes, nonce: bytes, plain: bytes | memoryview, bound_to: bytes) -> bytes:
    """Encrypt, bound to what is said in the clear."""
    return _cipher(key).encrypt(nonce, bytes(plain), bound_to)


def decrypt(key: bytes | memoryview, nonce: bytes, ciphertext: bytes, bound_to: bytes) -> bytes:
    """Decrypt what `encrypt` has made.  Raises DoesNotOpen."""
    try:
        return _cipher(key).decrypt(nonce, ciphertext, bound_to)
    except (InvalidTag, ValueError):  # ValueError: a nonce or ciphertext of impossible length
        raise DoesNotOpen from None


log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4


class KeyPage:
    """Holds one key.

    Where the kernel refuses to lock the page (RLIMIT_MEMLOCK), it is kept all the same: the
    service forbids swap for itself as well.
    """

    def __init__(self, key: bytes) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._page.madvise(mmap.MADV_DONTDUMP)
        if not _lock(self._page):
            log.debug("The kernel does not lock the page of the key.")
        self.key = memoryview(self._page)[: len(key)]
        self.key[:] = key

    def wipe(self) -> None:
        """Overwrite the key.  Wiping twice is fine."""
        if not self._page.closed:
            self.key[:] = bytes(len(self.key))
            self.key.release()
            self._page.close()


def protect_memory() -> None:
    """Keep the process from core dumps, and from others of the same user (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _lock(page: mmap.mmap) -> bool:
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(page))) == 0)
