"""Certificates that were given, as the clock goes on, and after restarts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gatewayd.ca.bundle import read_bundle
from gatewayd.cloud.ca.given import GivenIdentities, given_identity
from gatewayd.cloud.ca.identity import CertificateIdentity
from gatewayd.device.record import CloudName
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

    def made(self) -> CertificateIdentity:
        """Return an identity that begins about now, and is good for 50 days."""
        return given_identity(read_bundle(identity(device_ca(), days=50).reveal()), "p_n", self.now)


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
