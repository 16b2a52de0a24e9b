"""Private keys: made, read and written.  All of it blocks, for up to seconds with RSA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gatewayd.errors import InvalidArgs

Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_EXPONENT = 65537
_RSA_BITS = range(2048, 4097)
_CURVES: Mapping[str, str] = {"secp256r1": "ec-p256", "secp384r1": "ec-p384"}

ALGORITHMS: Mapping[str, Callable[[], Key]] = {
    "rsa-2048": partial(rsa.generate_private_key, _EXPONENT, 2048),
    "rsa-3072": partial(rsa.generate_private_key, _EXPONENT, 3072),
    "rsa-4096": partial(rsa.generate_private_key, _EXPONENT, 4096),
    "ec-p256": partial(ec.generate_private_key, ec.SECP256R1()),
}
"""The keys that are made, by the word for them in settings and options."""

_LABELS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")


def pem_blocks(pem: bytes, label: bytes) -> Iterator[slice]:
    """Yield where each block of one label lies in a PEM text (RFC 7468).

    In time linear in the text: it may have as many beginnings as fit, and no end.
    """
    begin, end = b"-----BEGIN %s-----" % label, b"-----END %s-----" % label
    at = 0
    while (start := pem.find(begin, at)) >= 0:
        at = start + len(begin)
        if not pem[at : at + 1].isspace():
            continue
        stop = pem.find(end, at)
        if stop < 0:
            return
        at = stop + len(end)
        yield slice(start, at)


def make_key(algorithm: str) -> Key:
    """Make a key.  algorithm: one of ALGORITHMS."""
    return ALGORITHMS[algorithm]()


def read_key(pem: bytes, passphrase: bytes | None = None) -> Key:
    """Return the one private key in a PEM text.

    Raises InvalidArgs: there is none, or more; it is encrypted otherwise; it is too weak.
    """
    blocks = _key_blocks(pem)
    if len(blocks) != 1:
        raise InvalidArgs(f"One private key in PEM form is needed, not {len(blocks)}")
    try:
        key = serialization.load_pem_private_key(pem[blocks[0]], passphrase)
    except TypeError:  # says the library of a passphrase that is missing, or not needed
        raise InvalidArgs(
            "The private key is not encrypted"
            if passphrase
            else "The private key is encrypted: give its passphrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidArgs("The private key cannot be read with this passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise InvalidArgs("The private key is neither RSA nor of an elliptic curve")
    public_key(key.public_key())
    return key


def _key_blocks(pem: bytes) -> list[slice]:
    return [block for label in _LABELS for block in pem_blocks(pem, label)]


def is_locked(pem: bytes) -> bool:
    """Whether the private key in a PEM text is encrypted."""
    return b"ENCRYPTED" in pem


def unlock(pem: bytes, passphrase: bytes) -> bytes:
    """Return a PEM text with its private key in the clear.  Raises InvalidArgs."""
    clear = key_pem(read_key(pem, passphrase)).strip()
    (block,) = _key_blocks(pem)
    return pem[: block.start] + clear + pem[block.stop :]


def public_key(key: object) -> PublicKey:
    """Return a public key that is strong enough.  Raises InvalidArgs."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in _RSA_BITS:
            return key
        raise InvalidArgs("An RSA key must have 2048 to 4096 bits")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise InvalidArgs("A key must be RSA, or of the curve P-256 or P-384")


def algorithm_of(key: PublicKey) -> str:
    """Return the word for a key, as "rsa-2048"."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return _CURVES[key.curve.name]


def key_pem(key: Key) -> bytes:
    """Return a key in the clear (PKCS #8): only for use in a Secret."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
