"""The cryptography: what is bound to what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.secretstore.keyslots import table
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import DecryptionError, RowAddress
from gatewayd.secretstore.vault.data_keys import SlotKey

KEY, NONCE, STORE = bytes(range(32)), bytes(12), bytes(range(16))
FINGERPRINT = "d4ecae01e940447553d28c5622c1e2e73ddde1c21a654951dd38637f5b6f4b7c"
COMMITMENT = "ba77a71d5e21f173cbd6ca32de6dcaa888fa5ee8019b54000b7ff7d4a321d97c"
PLACE = RowAddress(STORE, 7, 1, "gatewayd/cloud", "child-1/device-secret#1")

places = st.builds(
    RowAddress,
    store=st.just(STORE),
    gen=st.integers(0, 2**63 - 1),
    kid=st.integers(0, 2**32 - 1),
    service=st.text(),
    username=st.text(),
)


@given(places, places)
def test_no_two_places_look_alike(one: RowAddress, other: RowAddress) -> None:
    assert (one.associated_data() == other.associated_data()) == (one == other)


def test_associated_data_is_as_written_down() -> None:
    assert PLACE.associated_data() == (
        b"gatewayd-vault-v1\0"
        + STORE
        + bytes([0, 0, 0, 0, 0, 0, 0, 7])
        + bytes([0, 0, 0, 1])
        + bytes([0, 0, 0, 14])
        + b"gatewayd/cloud"
        + b"child-1/device-secret#1"
    )


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, store=bytes(16)),
        replace(PLACE, gen=8),
        replace(PLACE, kid=2),
        replace(PLACE, service="gatewayd/clou", username="d" + PLACE.username),
        replace(PLACE, username="child-2/device-secret#1"),
    ],
)
def test_a_secret_opens_in_its_place_only(elsewhere: RowAddress) -> None:
    sealed = crypto.seal(KEY, NONCE, b"value", PLACE)
    assert crypto.unseal(KEY, NONCE, sealed, PLACE) == b"value"
    with pytest.raises(DecryptionError):
        crypto.unseal(KEY, NONCE, sealed, elsewhere)


def test_a_data_key_opens_in_its_slot_only() -> None:
    slot = SlotKey("kind", bytes(32), b"material")
    wrapped = table.secret_wrapper(slot, lambda _: NONCE)(memoryview(KEY), STORE, 1)
    assert slot.unwrap(wrapped, STORE, 1) == KEY
    for other, store, kid in (
        (replace(slot, kind="other"), STORE, 1),
        (replace(slot, material=b""), STORE, 1),
        (replace(slot, material=b"Material"), STORE, 1),
        (replace(slot, secret=bytes([1]) * 32), STORE, 1),
        (slot, bytes(16), 1),
        (slot, STORE, 2),
    ):
        with pytest.raises(DecryptionError):
            other.unwrap(wrapped, store, kid)


def test_the_derived_values_stay_what_they_are() -> None:
    """Vaults in the field depend on these bytes, computed here by hand from RFC 5869."""
    assert crypto.fingerprint(KEY).hex() == FINGERPRINT
    assert crypto.commitment(KEY, STORE, 1).hex() == COMMITMENT
