"""Certificates that were given, as the clock goes on, and after restarts."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from gatewayd.ca.bundle import read_bundle
from gatewayd.cloud.ca.given import HOLDER, MAX_WITHOUT, GivenIdentities, given_identity
from gatewayd.cloud.ca.identity import CertificateIdentity, keep_identity
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import InvalidArgs
from tests.cloud.guarded import device_ca, identity
from tests.cloud.mqtt_broker.certified import MemoryStore

DAY = 86_400.0
NAME = CloudName("huawei", "p", "n")


@dataclass
class Desk:
    """What was given, and the clock.  now: seconds since the epoch."""

    now: float = field(default_factory=time.time)
    store: MemoryStore = field(default_factory=MemoryStore)

    def opened(self) -> GivenIdentities:
        """Return what was given, as after a restart."""
        return GivenIdentities("huawei", self.store, 30, lambda: self.now)

    def made(self, device_id: str = "p_n") -> CertificateIdentity:
        """Return an identity that begins about now, and is good for 50 days."""
        bundle = read_bundle(identity(device_ca(), days=50).reveal())
        return given_identity(bundle, device_id, self.now)


async def test_a_certificate_that_a_clock_behind_has_seen_is_used_once_the_clock_is_right() -> None:
    desk = Desk()
    right, made = desk.now, desk.made()
    await desk.opened().put(NAME, made)
    given, desk.now = desk.opened(), right - 90 * DAY
    assert await given.current(NAME) is None
    assert not await given.has_ended(NAME)
    desk.now = right
    assert given.replaces(NAME, identity(device_ca()))
    assert await given.current(NAME) == made
    desk.now = right + 21 * DAY
    assert await given.current(NAME) is None
    assert await given.has_ended(NAME)


async def test_only_names_that_were_given_one_are_in_memory() -> None:
    desk = Desk()
    given = desk.opened()
    await given.put(NAME, desk.made())
    for number in range(100):
        other = CloudName("huawei", "p", f"other-{number}")
        assert await given.current(other) is None
        assert not await given.remove(other)
    assert len(given._known) == 1
    assert await given.remove(NAME)
    assert len(given._known) == 0


class CountingStore(MemoryStore):
    """It counts what is asked of it.  meanwhile: called while it looks a device up."""

    asked = 0
    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def refs(self, device: DeviceId) -> Sequence[SecretRef]:
        self.asked += 1
        found = await super().refs(device)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


async def test_a_name_without_one_is_looked_up_once_and_has_one_as_soon_as_it_is_given() -> None:
    desk = Desk(store=(store := CountingStore()))
    given, made = desk.opened(), desk.made()
    for _ in range(4):
        assert await given.current(NAME) is None
    assert store.asked == 1
    await given.put(NAME, made)
    assert await given.current(NAME) == made
    assert await given.remove(NAME)
    for number in range(2 * MAX_WITHOUT):
        assert await given.current(CloudName("huawei", "p", f"other-{number}")) is None
    assert len(given._without) == MAX_WITHOUT


async def test_what_is_given_while_a_name_is_looked_up_is_found_the_next_time() -> None:
    desk = Desk(store=(store := CountingStore()))
    given, made = desk.opened(), desk.made()

    async def put() -> None:
        await given.put(NAME, made)

    store.meanwhile = put
    assert await given.current(NAME) is None
    assert await given.current(NAME) == made


async def test_no_two_devices_are_given_one_certificate_or_one_id() -> None:
    """What was replaced or removed is free again; a restart forgets nothing of it."""
    desk, one, other = Desk(), NAME, replace(NAME, device="other")
    first, second = desk.made("a"), desk.made("b")
    await desk.opened().put(one, first)
    await desk.opened().put(one, first)
    same_certificate = keep_identity("c", Secret(first.secret.reveal().partition(b"\n")[2]))
    for made, says in (
        (same_certificate, "The certificate was imported for p/n already"),
        (desk.made("a"), "The ID a was imported for p/n already"),
    ):
        with pytest.raises(InvalidArgs, match=says):
            await desk.opened().put(other, made)
        assert await desk.opened().current(other) is None
    await desk.opened().put(one, second)
    await desk.opened().put(other, first)
    with pytest.raises(InvalidArgs, match="imported for p/other already"):
        await desk.opened().put(one, first)
    assert await desk.opened().remove(other)
    await desk.opened().put(one, first)
    assert await desk.opened().remove(one)
    assert desk.store.slots == {}


async def test_a_crash_before_a_certificate_is_kept_keeps_it_from_no_one() -> None:
    desk = Desk()
    made = desk.made()
    await desk.opened().put(replace(NAME, device="other"), made)
    desk.store.slots = {r: s for r, s in desk.store.slots.items() if r.kind == HOLDER}
    await desk.opened().put(NAME, made)
    assert await desk.opened().current(NAME) == made
    assert len(desk.store.slots) == 3
