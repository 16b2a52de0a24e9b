"""The ledger of a device CA: what is issued for whom, and what is revoked, across crashes."""

from __future__ import annotations

import asyncio

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.ca.authority import read_authority
from gatewayd.cloud.ca import issued
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.ca.issued import (
    MAX_OF_ONE,
    IssuedCertificate,
    IssuedCertificates,
    decode,
    encode,
)
from gatewayd.cloud.ca.service import slots_of
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, StoreUnavailable, WrongState
from tests.cloud.guarded import device_ca, identity
from tests.cloud.mqtt_broker.certified import MemoryStore

ONE, OTHER = CloudName("plant", "meter", "1"), CloudName("plant", "meter", "2")
NOW = 1_000_000.0
SERIALS = st.integers(1, 2**159 - 1)
CERTIFICATES = st.lists(
    st.builds(IssuedCertificate, SERIALS, st.integers(0, 10**11), st.integers(1, 10**8)),
    unique_by=lambda one: one.serial,
)


def ledger(store: MemoryStore, now: float = NOW) -> IssuedCertificates:
    return IssuedCertificates("plant", store, lambda: now)


def made(serial: int, ends: float = NOW + 100, generation: int = 1) -> IssuedCertificate:
    return IssuedCertificate(serial, int(ends), generation)


async def serials(one: IssuedCertificates) -> set[int]:
    return {certificate.serial for certificate in await one.revoked()}


@given(CERTIFICATES)
def test_what_is_written_is_read(certificates: list[IssuedCertificate]) -> None:
    assert list(decode(encode(certificates))) == certificates


@pytest.mark.parametrize(
    "text", [b"x", b"-1 2 3", b"1 2", b"1 2 3 4", b"\xff 1 1", b"1 2 " + b"9" * 99]
)
def test_what_is_no_record_is_corrupt(text: bytes) -> None:
    with pytest.raises(SecretCorrupt):
        decode(Secret(text))


async def test_all_of_a_device_is_revoked_and_nothing_of_another() -> None:
    store = MemoryStore()
    one = ledger(store)
    for serial in (1, 2, 3 << 100):
        await one.note(ONE, made(serial))
    await one.note(OTHER, made(9))
    await one.note(CloudName("plant", "meter/1", ""), made(10))
    await one.revoke(ONE)
    assert await serials(one) == await serials(ledger(store)) == {1, 2, 3 << 100}
    await one.revoke(OTHER)
    assert await serials(ledger(store)) == {1, 2, 3 << 100, 9}
    assert len([ref for ref in store.slots if ref.kind == issued.REVOKED]) == 1


async def test_what_has_ended_is_neither_kept_nor_listed() -> None:
    store = MemoryStore()
    await ledger(store).note(ONE, made(1, NOW + 10))
    await ledger(store, NOW + 20).note(ONE, made(2))
    assert len(store.slots) == 1
    await ledger(store).revoke(ONE)
    assert await serials(ledger(store)) == {2}
    assert await serials(ledger(store, NOW + 200)) == set()
    later = ledger(store, NOW + 200)
    await later.note(OTHER, made(3, NOW + 300))
    await later.revoke(OTHER)
    (listed,) = [text for ref, text in store.slots.items() if ref.kind == issued.REVOKED]
    assert [one.serial for one in decode(listed)] == [3]


async def test_a_damaged_entry_keeps_no_child_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    one = ledger(store)
    for serial in (1, 2):
        await one.note(ONE, made(serial))
    damaged = next(iter(store.slots))
    store.slots[damaged] = Secret(b"damaged")
    await one.revoke(ONE)
    assert await serials(one) == {2}
    assert "may be good until it ends" in caplog.text


async def test_there_is_a_bound_for_a_device_and_for_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = ledger(MemoryStore())
    for serial in range(1, MAX_OF_ONE + 1):
        await one.note(ONE, made(serial))
    with pytest.raises(WrongState, match="valid certificates"):
        await one.note(ONE, made(99))
    monkeypatch.setattr(issued, "MAX_REVOKED", MAX_OF_ONE)
    await one.revoke(ONE)
    await one.note(OTHER, made(100))
    with pytest.raises(WrongState, match="revoked already"):
        await one.revoke(OTHER)
    assert len(await one.revoked()) == MAX_OF_ONE
    monkeypatch.undo()
    await one.revoke(OTHER)
    assert 100 in await serials(one)


class Failing(MemoryStore):
    """A store that ends after so many writes, as by SIGKILL."""

    left = 1_000_000

    async def _step(self) -> None:
        if self.left == 0:
            raise StoreUnavailable("killed")
        self.left -= 1
        await asyncio.sleep(0)

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        await self._step()
        await super().put(ref, secret)

    async def delete(self, ref: SecretRef) -> None:
        await self._step()
        await super().delete(ref)


async def test_at_whatever_step_it_is_killed_what_was_issued_can_be_revoked() -> None:
    for steps in range(12):
        store = Failing()
        store.left = steps
        one, noted = ledger(store), []
        try:
            for serial in (1, 2):
                await one.note(ONE, made(serial))
                noted.append(serial)
            await one.note(OTHER, made(3))
            noted.append(3)
            await one.revoke(OTHER)
            await one.revoke(ONE)
        except StoreUnavailable:
            pass
        store.left = 1_000_000
        again = ledger(store)
        await again.revoke(ONE)
        await again.revoke(OTHER)
        assert await serials(ledger(store)) >= set(noted), steps


async def test_what_failed_for_one_device_is_not_done_with_the_next() -> None:
    store = Failing()
    one = ledger(store)
    for name, serial in ((ONE, 1), (OTHER, 2)):
        await one.note(name, made(serial))
    store.left = 0
    with pytest.raises(StoreUnavailable):
        await one.revoke(ONE)
    store.left = 1_000_000
    await one.revoke(OTHER)
    assert await serials(ledger(store)) == {2}, "the first is still in use"


async def test_a_full_list_keeps_no_one_else_off_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Failing()
    one = ledger(store)
    for serial in (1, 2, 3):
        await one.note(ONE, made(serial))
    await one.note(OTHER, made(4))
    monkeypatch.setattr(issued, "MAX_REVOKED", 2)
    ended = await asyncio.gather(one.revoke(ONE), one.revoke(OTHER), return_exceptions=True)
    assert [type(error) for error in ended] == [WrongState, type(None)]
    assert await serials(ledger(store)) == {4}


async def test_many_at_once_are_all_listed() -> None:
    store = Failing()
    one = ledger(store)
    names = [CloudName("plant", "meter", str(n)) for n in range(1, 40)]
    await asyncio.gather(*(one.note(name, made(int(name.device))) for name in names))
    await asyncio.gather(*(one.revoke(name) for name in names))
    assert await serials(ledger(store)) == set(range(1, 40))


async def test_each_authority_has_a_list_of_its_own_which_stays_the_same_text() -> None:
    store, first, second = MemoryStore(), device_ca("one"), device_ca("two")
    moment = first.span.starts.timestamp() + 86_400
    keeper = AuthorityStore(lambda: moment)
    issued_then = IssuedCertificates("plant", store, lambda: moment)
    keeper.set_slots(slots_of("plant", store), issued_then)
    await keeper.keep(first, replace=False)
    await keeper.keep(second, replace=True)
    for serial, generation in ((7, 1), (8, 2)):
        await issued_then.note(ONE, made(serial, moment + 100, generation))
    empty = await keeper.revocation_lists()
    assert empty == await keeper.revocation_lists()
    await issued_then.revoke(ONE)
    text = await keeper.revocation_lists()
    assert text != empty
    found = {
        crl.issuer: [one.serial_number for one in crl]
        for crl in map(x509.load_pem_x509_crl, _blocks(text))
    }
    assert found == {second.certificate.subject: [8], first.certificate.subject: [7]}


def _blocks(text: str) -> list[bytes]:
    end = "-----END X509 CRL-----\n"
    return [(part + end).encode() for part in text.split(end) if part]


async def test_a_store_without_a_ledger_has_its_authority_and_nothing_revoked() -> None:
    """As an earlier version has left it."""
    store, authority = MemoryStore(), await asyncio.to_thread(device_ca)
    await store.put(
        SecretRef("plant", DeviceId("authority-plant"), 1, "authority"), authority.secret()
    )
    moment = authority.span.starts.timestamp() + 86_400
    keeper = AuthorityStore(lambda: moment)
    keeper.set_slots(slots_of("plant", store), IssuedCertificates("plant", store, lambda: moment))
    held = await keeper.require()
    assert held.authority.fingerprint == authority.fingerprint
    assert read_authority(authority.secret()).can_revoke
    assert "X509 CRL" in await keeper.revocation_lists()


async def test_an_identity_of_an_earlier_version_is_read() -> None:
    secret = identity(await asyncio.to_thread(device_ca))
    found = read_identity(Secret(b"Device-ID: prod_SEN-0001\n" + secret.reveal()))
    assert found.device_id == "prod_SEN-0001"
    assert found.chain.count("BEGIN CERTIFICATE") == 2
