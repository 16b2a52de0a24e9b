"""The recovery key slot: only the private key opens it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
)

from gatewayd.errors import ConfigError
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault.crypto import DecryptionError, WrappedKey
from tests.support.pem_keys import Private, private_pem, public_pem

STORE, DEK = bytes(16), bytes(range(32))
KINDS: dict[str, Callable[[], Private]] = {
    "x25519": x25519.X25519PrivateKey.generate,
    "rsa": partial(rsa.generate_private_key, 65537, 3072),
}


@cache
def private(kind: str) -> Private:
    """Return the key of this kind; it is made by the first test that needs it."""
    return KINDS[kind]()


@pytest.fixture(params=KINDS)
def key(request: pytest.FixtureRequest) -> RecoveryKey:
    return RecoveryKey(private_pem(private(request.param)))


def wrapped(key: RecoveryKey, kid: int = 1) -> WrappedKey:
    return recovery.wrap(key.public, memoryview(DEK), STORE, kid, os.urandom)


def test_the_private_key_opens_what_was_wrapped_for_the_public_one(key: RecoveryKey) -> None:
    assert key.unwrap(wrapped(key), STORE, 1) == DEK
    assert wrapped(key).kind == key.kind
    assert DEK not in wrapped(key).ciphertext


def test_the_same_key_is_never_wrapped_alike(key: RecoveryKey) -> None:
    assert wrapped(key).ciphertext != wrapped(key).ciphertext


def test_what_was_wrapped_opens_in_its_place_only(key: RecoveryKey) -> None:
    one = wrapped(key)
    for store, kid in ((bytes([1] * 16), 1), (STORE, 2)):
        with pytest.raises(DecryptionError):
            key.unwrap(one, store, kid)


@pytest.mark.parametrize("at", [0, 31, 40, -1])
def test_a_flipped_bit_does_not_open(key: RecoveryKey, at: int) -> None:
    one = wrapped(key)
    damaged = bytearray(one.ciphertext)
    damaged[at] ^= 1
    with pytest.raises(DecryptionError):
        key.unwrap(WrappedKey(one.kind, one.fingerprint, one.nonce, bytes(damaged)), STORE, 1)


@pytest.mark.parametrize("size", [0, 10, 32])
def test_a_short_one_does_not_open(key: RecoveryKey, size: int) -> None:
    one = wrapped(key)
    with pytest.raises(DecryptionError):
        key.unwrap(WrappedKey(one.kind, b"", one.nonce, bytes(size)), STORE, 1)


def test_another_private_key_does_not_open() -> None:
    one = wrapped(RecoveryKey(private_pem(private("x25519"))))
    other = RecoveryKey(private_pem(x25519.X25519PrivateKey.generate()))
    assert not other.matches(one)
    with pytest.raises(DecryptionError):
        other.unwrap(one, STORE, 1)


def test_a_public_key_is_read_and_names_its_slot() -> None:
    for one in map(private, KINDS):
        der = recovery.read_public(public_pem(one))
        assert recovery.slot_kind(der) == RecoveryKey(private_pem(one)).kind
        assert recovery.slot_kind(der).startswith("recovery-")


@pytest.mark.parametrize(
    "pem",
    [
        lambda: b"",
        lambda: b"nonsense",
        lambda: public_pem(rsa.generate_private_key(65537, 2048)),
        lambda: public_pem(ec.generate_private_key(ec.SECP256R1())),
        lambda: private_pem(private("x25519")),
    ],
    ids=["nothing", "nonsense", "short RSA", "of a curve", "private"],
)
def test_what_cannot_serve_is_refused(pem: Callable[[], bytes]) -> None:
    with pytest.raises(ConfigError, match="X25519"):
        recovery.read_public(pem())


def test_a_private_key_may_have_a_password() -> None:
    pem = private_pem(private("x25519"), BestAvailableEncryption(b"pass"))
    assert RecoveryKey(pem, b"pass").kind == RecoveryKey(private_pem(private("x25519"))).kind
    for password in (None, b"wrong"):
        with pytest.raises(ConfigError, match="password"):
            RecoveryKey(pem, password)


def test_a_private_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError):
        RecoveryKey(private_pem(ec.generate_private_key(ec.SECP256R1())))


def test_who_has_the_data_key_vouches_for_the_public_one(key: RecoveryKey) -> None:
    assert recovery.vouch(DEK, key.public) == wrapped(key).fingerprint
    assert recovery.vouch(DEK, b"another") != wrapped(key).fingerprint
    assert recovery.vouch(bytes(32), key.public) != wrapped(key).fingerprint
