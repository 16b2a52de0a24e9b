"""The devices on a LAN that is described in a few lines; hours of it pass at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from gatewayd.device.identity import (
    NAME_CONTESTED,
    NO_DEVICE,
    UNDISPUTED,
    Claim,
    DeviceId,
    Trust,
    claim,
    key_of,
)
from gatewayd.device.reason import Reason
from gatewayd.discovery.device_table import (
    MAX_CONTESTANTS,
    MAX_OBSERVATIONS_UNPINNED,
    TWO_CLAIMANTS,
    DeviceTable,
)
from gatewayd.discovery.discoverer import Context, Interest, Loss, LossReason, Origin, Sighting
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.presence import LEFT, REPLACED, SILENT, Observation, PresenceState
from gatewayd.discovery.resolver import IDENTITY_CONFLICT, MOVED_OR_CLONED
from gatewayd.discovery.settings import InventorySettings
from gatewayd.discovery.static import Static, StaticDevice, StaticSettings
from tests.support.tasks import in_background

MAC = "mac l2 00:11:22:33:44:77"
OTHER_MAC = "mac l2 00:11:22:33:44:66"
PATIENCE = 60.0
"""Seconds in which every suspect has answered or left."""

pytestmark = pytest.mark.jumping_clock


def claims(*texts: str) -> frozenset[Claim]:
    made = (claim(*text.split(" ", 2)) for text in texts)
    return frozenset(one for one in made if one is not None)


@dataclass
class RecordingListener:
    """A listener that records its notifications."""

    story: list[tuple[str, DeviceId]] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    merges: list[tuple[DeviceId, DeviceId]] = field(default_factory=list)

    def seen(self, device: DeviceId) -> None:
        self.story.append(("seen", device))

    def lost(self, device: DeviceId, reason: Reason) -> None:
        self.story.append(("lost", device))
        self.reasons.append(reason)

    def changed(self, device: DeviceId) -> None:
        self.story.append(("changed", device))

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        self.merges.append((kept, gone))

    def evicted(self, device: DeviceId) -> None:
        self.story.append(("evicted", device))

    def words(self, device: DeviceId) -> list[str]:
        return [word for word, of in self.story if of == device]

    def present(self) -> set[DeviceId]:
        """The devices that are there, by the last notification of each."""
        last = {of: word for word, of in self.story if word != "changed"}
        return {of for of, word in last.items() if word == "seen"} - {g for _, g in self.merges}


class Lan:
    """A LAN, and an inventory of it.  alive: what answers at an origin when it is asked."""

    def __init__(self, settings: InventorySettings | None = None) -> None:
        self.now = asyncio.get_running_loop().time
        self.listener = RecordingListener()
        self.alive: dict[Origin, Sighting] = {}
        self.kernel: dict[str, str] = {}
        self.asked: list[Origin] = []
        self.asking = self.most_at_once = 0
        self.fault: Exception | None = None
        context = Context(self.now, random.Random(7).random, self._interest)
        self.inventory = Inventory(
            settings or InventorySettings(),
            context,
            self._verify,
            self._corroborate,
            lambda _: frozenset(),
            self.listener,
        )

    def announce(self, origin: str, *said: str, alive: bool = True, **facts: object) -> Sighting:
        """Have something announced; it answers later if it is alive."""
        source, _, key = origin.partition(" ")
        base = Sighting(
            source, key, self.now(), 3600, "lan0", ("10.0.0.1",), None, claims(*said), {}, key
        )
        sighting = replace(base, **facts)  # type: ignore[arg-type]  # facts are fields by name
        if alive:
            self.alive[source, key] = sighting
        self.inventory.sight(sighting)
        return sighting

    def goodbye(self, origin: str, reason: LossReason = LossReason.GOODBYE) -> None:
        source, _, key = origin.partition(" ")
        self.inventory.lose(Loss(source, key, self.now(), reason))

    def die(self, origin: str) -> None:
        source, _, key = origin.partition(" ")
        del self.alive[source, key]

    async def sees(self, origin: str, *said: str, **facts: object) -> DeviceId:
        """Have something announced for the first time; return the device it turns out to be."""
        self.announce(origin, *said, **facts)  # type: ignore[arg-type]  # facts are fields by name
        await self.settle()
        return self.listener.story[-1][1]

    async def settle(self) -> None:
        """Wait until all reports are processed."""
        while self.inventory.counters()["sighting-queue"]:
            await asyncio.sleep(0)

    def _interest(self, attributes: Mapping[str, str]) -> Interest:
        return Interest(attributes.get("interest", "stranger"))

    def _corroborate(self, sighting: Sighting) -> Sighting:
        said = self.kernel.get(sighting.addresses[0] if sighting.addresses else "")
        if said is None:
            return sighting
        trust = max(sighting.trust, Trust.CORROBORATED)
        return replace(sighting, claims=sighting.claims | claims(said), trust=trust)

    async def _verify(self, sighting: Sighting) -> Sighting | None:
        self.asked.append((sighting.source, sighting.key))
        self.asking += 1
        self.most_at_once = max(self.most_at_once, self.asking)
        try:
            await asyncio.sleep(0.5)
            if self.fault is not None:
                raise self.fault
        finally:
            self.asking -= 1
        answer = self.alive.get((sighting.source, sighting.key))
        return replace(answer, at=self.now()) if answer else None


@asynccontextmanager
async def a_lan(settings: InventorySettings | None = None) -> AsyncIterator[Lan]:
    lan = Lan(settings)
    async with in_background(lan.inventory.run()):
        yield lan
    assert lan.asking == 0, "no question is left under way"


@pytest_asyncio.fixture
async def lan() -> AsyncIterator[Lan]:
    async with a_lan() as one:
        yield one


async def test_a_device_is_seen_once_and_known_by_all_its_evidence(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", attributes={"service": "_pm._tcp"})
    lan.announce("ssdp b", "serial pm A1", attributes={"upnp.model": "x"}, trust=Trust.LISTED)
    await lan.settle()
    evidence = lan.inventory.evidence(child)
    assert lan.listener.words(child) == ["seen", "changed"]
    assert evidence.views == (
        {"upnp.model": "x", "trust": "listed"},
        {"service": "_pm._tcp", "trust": "claimed"},
    )
    assert (evidence.trust, evidence.label, evidence.conflict) == (Trust.LISTED, "b", "")
    assert evidence.claims == claims("serial pm A1")
    assert evidence.addresses == ("10.0.0.1",)


async def test_what_is_repeated_changes_nothing_but_when_it_was_seen(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    changed = lan.inventory.changed_at(child)
    await asyncio.sleep(100)
    lan.announce("mdns a", "serial pm A1")
    await lan.settle()
    assert lan.listener.words(child) == ["seen"]
    assert lan.inventory.changed_at(child) == changed
    assert lan.inventory.last_seen(child) == lan.now() == 100


async def test_evidence_is_made_once_until_what_it_is_made_of_has_changed(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    first = lan.inventory.evidence(child)
    assert lan.inventory.evidence(child) is first
    lan.announce("mdns b", "serial pm A1", addresses=("10.0.0.2",))
    await lan.settle()
    second = lan.inventory.evidence(child)
    assert set(second.addresses) > set(first.addresses)
    lan.inventory.add_known(child, claims("serial pm A1", MAC))
    assert lan.inventory.evidence(child).claims == second.claims | claims(MAC)


async def test_an_address_that_changes_is_updated_in_place(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.announce("mdns a", "serial pm A1", addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    assert lan.listener.words(child) == ["seen", "changed"]
    assert lan.inventory.evidence(child).addresses == ("10.0.0.2",)


async def test_a_forged_goodbye_does_no_more_than_ask(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.goodbye("mdns a")
    lan.goodbye("mdns a")
    await lan.settle()
    assert lan.inventory.state(child) is PresenceState.SUSPECT
    await asyncio.sleep(PATIENCE)
    assert lan.inventory.state(child) is PresenceState.PRESENT
    assert lan.listener.words(child) == ["seen"]
    assert lan.asked == [("mdns", "a")]
    assert lan.inventory.counters()["goodbyes-refuted"] == 1


async def test_hours_of_forged_goodbyes_for_many_children_lose_none(lan: Lan) -> None:
    for n in range(30):
        lan.announce(f"mdns {n}", f"serial pm S{n}")
    for _ in range(3 * 60):
        for n in range(30):
            lan.goodbye(f"mdns {n}")
        await asyncio.sleep(60)
    assert {word for word, _ in lan.listener.story} == {"seen"}
    assert lan.most_at_once <= InventorySettings().probe_at_once
    assert lan.inventory.counters()["goodbyes-refuted"] == 3 * 60 * 30


async def test_a_goodbye_that_is_true_is_a_loss_after_two_questions(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.die("mdns a")
    lan.goodbye("mdns a")
    await asyncio.sleep(11)
    assert lan.listener.words(child) == ["seen"], "once may be chance"
    await asyncio.sleep(PATIENCE)
    assert lan.listener.words(child) == ["seen", "lost"]
    assert (lan.listener.reasons, len(lan.asked)) == ([LEFT], 2)
    assert lan.inventory.state(child) is PresenceState.ABSENT
    assert lan.inventory.evidence(child).views == ()
    assert await lan.sees("mdns a", "serial pm A1") == child
    assert lan.listener.words(child) == ["seen", "lost", "seen"]


async def test_silent_death_is_found_out_when_the_sighting_is_no_longer_valid(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", valid_for=1800.0)
    lan.die("mdns a")
    await asyncio.sleep(1800)
    assert lan.listener.words(child) == ["seen"]
    await asyncio.sleep(PATIENCE)
    assert lan.listener.words(child) == ["seen", "lost"]
    assert lan.listener.reasons == [SILENT]


async def test_the_newest_word_on_how_long_it_is_valid_counts(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", valid_for=86_400.0)
    lan.announce("mdns a", "serial pm A1", valid_for=60.0)
    lan.die("mdns a")
    await asyncio.sleep(60 + PATIENCE)
    assert lan.listener.words(child) == ["seen", "lost"]


async def test_a_device_seen_while_it_is_probed_is_there() -> None:
    async with a_lan(InventorySettings(probe_wait=0, probe_spread=0, probe_tries=1)) as lan:
        child = await lan.sees("mdns a", "serial pm A1")
        lan.die("mdns a")
        lan.goodbye("mdns a")
        await asyncio.sleep(0.2)
        assert lan.asking == 1
        lan.announce("mdns a", "serial pm A1", alive=False)
        await asyncio.sleep(PATIENCE)
        assert lan.listener.words(child) == ["seen"]


@pytest.mark.parametrize("seen_again", [False, True])
async def test_a_goodbye_is_newer_than_the_answer_to_a_question_before_it(seen_again: bool) -> None:
    async with a_lan(InventorySettings(probe_wait=0.3, probe_spread=0, probe_tries=1)) as lan:
        child = await lan.sees("mdns a", "serial pm A1")
        lan.goodbye("mdns a")
        await asyncio.sleep(0.5)
        assert lan.asking == 1
        if seen_again:
            lan.announce("mdns a", "serial pm A1")
            await lan.settle()
        lan.goodbye("mdns a")
        await asyncio.sleep(0.4)
        assert lan.asking == 0, "it has answered"
        lan.die("mdns a")
        await asyncio.sleep(PATIENCE)
        assert lan.listener.words(child) == ["seen", "lost"]


async def test_a_device_is_not_asked_twice_at_once() -> None:
    async with a_lan(InventorySettings(probe_wait=0, probe_spread=0)) as lan:
        lan.announce("mdns a", "serial pm A1")
        for _ in range(20):
            lan.goodbye("mdns a")
            await asyncio.sleep(0.1)
            lan.announce("mdns a", "serial pm A1")
            await asyncio.sleep(0.1)
        assert lan.most_at_once == 1


async def test_a_device_seen_while_it_waits_to_be_probed_is_not_probed() -> None:
    settings = InventorySettings(probe_wait=0, probe_spread=0, probe_at_once=1)
    async with a_lan(settings) as lan:
        for n in range(50):
            lan.announce(f"mdns {n}", f"serial pm S{n}")
            lan.goodbye(f"mdns {n}")
        await asyncio.sleep(0.2)
        for n in range(50):
            lan.announce(f"mdns {n}", f"serial pm S{n}")
        await asyncio.sleep(PATIENCE)
        assert len(lan.asked) == 1


async def test_a_silent_device_that_answers_stays(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", valid_for=1800.0)
    await asyncio.sleep(12 * 3600)
    assert lan.listener.words(child) == ["seen"]
    assert 20 <= len(lan.asked) <= 24


async def test_a_full_table_or_a_stopped_discoverer_says_nothing_of_a_device(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.goodbye("mdns a", LossReason.EVICTED)
    lan.goodbye("mdns a", LossReason.STOPPED)
    await asyncio.sleep(PATIENCE)
    assert lan.listener.words(child) == ["seen"]
    assert lan.asked == []
    counters = lan.inventory.counters()
    assert (counters["loss-evicted"], counters["loss-stopped"]) == (1, 1)


async def test_a_device_that_cannot_be_asked_is_not_absent(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.die("mdns a")
    lan.fault = ValueError("a plug-in's own")
    lan.goodbye("mdns a")
    await asyncio.sleep(3600)
    assert lan.listener.words(child) == ["seen"]
    assert lan.inventory.counters()["probes-failed"] > 10
    lan.fault = None
    await asyncio.sleep(2 * PATIENCE)
    assert lan.listener.words(child) == ["seen", "lost"]


async def test_a_flapping_device_is_not_reported_until_it_is_steady(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    for _ in range(120):
        lan.die("mdns a")
        lan.goodbye("mdns a")
        await asyncio.sleep(30)
        lan.announce("mdns a", "serial pm A1")
        await asyncio.sleep(30)
    assert lan.listener.words(child) == ["seen", "lost", "seen", "lost", "changed"]
    assert lan.inventory.is_flapping(child)
    await asyncio.sleep(3400)
    assert lan.listener.words(child)[-1] == "seen"
    assert not lan.inventory.is_flapping(child)


async def test_a_goodbye_right_after_a_sighting_does_not_hide_the_device(lan: Lan) -> None:
    lan.announce("mdns a", "serial pm A1")
    lan.goodbye("mdns a")
    await asyncio.sleep(PATIENCE)
    assert len(lan.listener.present()) == 1


async def test_the_hue_bridge_is_one_child_once_the_kernel_knows_its_mac(lan: Lan) -> None:
    hue = ("mac hue ec:b5:fa:ff:fe:12:34:56", "serial hue ecb5fafffe123456")
    lan.kernel["10.0.0.5"] = "mac l2 ec:b5:fa:12:34:56"
    first = await lan.sees("ssdp u", "uuid upnp uuid:2f402f80", addresses=("10.0.0.5",))
    second = await lan.sees("mdns hue", *hue, addresses=())
    assert lan.listener.present() == {first, second}
    lan.announce("mdns hue", *hue, addresses=("10.0.0.5",))
    await asyncio.sleep(PATIENCE)
    assert lan.listener.merges == [(first, second)]
    evidence = lan.inventory.evidence(first)
    assert (len(evidence.views), evidence.trust) == (2, Trust.CORROBORATED)
    assert lan.inventory.counters()["devices"] == 1


async def test_what_the_kernel_finds_out_counts_at_once(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", "mac pm 00:11:22:33:44:77")
    assert lan.inventory.evidence(child).trust is Trust.CLAIMED
    lan.kernel["10.0.0.1"] = MAC
    lan.inventory.neighbour_found("10.0.0.2")
    lan.inventory.neighbour_found("10.0.0.1")
    await asyncio.sleep(1)
    assert lan.inventory.evidence(child).trust is Trust.CORROBORATED
    assert lan.inventory.last_seen(child) == 0, "it was not seen again"
    assert lan.listener.words(child) == ["seen", "changed"]


@pytest.mark.parametrize(("mac", "counts"), [(MAC, True), (OTHER_MAC, False)])
async def test_an_old_sighting_gets_no_mac_but_its_own(lan: Lan, mac: str, counts: bool) -> None:
    """By then another device may have its address."""
    child = await lan.sees("mdns a", "serial pm A1", "mac pm 00:11:22:33:44:77")
    await asyncio.sleep(600)
    lan.kernel["10.0.0.1"] = mac
    lan.inventory.neighbour_found("10.0.0.1")
    await asyncio.sleep(1)
    assert (claims(mac) <= lan.inventory.evidence(child).claims) is counts


async def test_what_the_kernel_finds_out_refutes_no_goodbye(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", alive=False)
    lan.goodbye("mdns a")
    await lan.settle()
    lan.kernel["10.0.0.1"] = MAC
    lan.inventory.neighbour_found("10.0.0.1")
    await asyncio.sleep(PATIENCE)
    assert lan.listener.words(child) == ["seen", "lost"]


async def test_six_sensors_behind_one_bridge_stay_six(lan: Lan) -> None:
    for n in range(6):
        lan.announce(f"mqtt {n}", f"serial z2m S{n}", MAC)
    await asyncio.sleep(PATIENCE)
    assert len(lan.listener.present()) == 6
    assert all(not lan.inventory.evidence(one).conflict for one in lan.listener.present())


async def test_an_address_reused_by_another_device_carries_no_identity(lan: Lan) -> None:
    old = await lan.sees("modbus 10.0.0.9", MAC)
    lan.announce("modbus 10.0.0.9", OTHER_MAC)
    await lan.settle()
    assert lan.inventory.evidence(old).conflict == NAME_CONTESTED
    await asyncio.sleep(PATIENCE)
    (new,) = lan.listener.present()
    assert new != old
    assert (lan.listener.words(old)[-1], lan.listener.reasons) == ("lost", [REPLACED])
    assert lan.inventory.evidence(new).conflict == ""


async def test_a_forger_who_takes_a_name_does_not_drive_the_device_away(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.announce("mdns a", "serial pm FORGED", alive=False)
    await asyncio.sleep(PATIENCE)
    assert "lost" not in lan.listener.words(child)
    assert lan.listener.present() == {child}


async def test_a_renamed_device_stays_one_child(lan: Lan) -> None:
    child = await lan.sees("mdns kitchen", "serial pm A1", MAC)
    lan.announce("mdns bathroom", "serial pm A1", MAC)
    lan.die("mdns kitchen")
    lan.goodbye("mdns kitchen")
    await asyncio.sleep(PATIENCE)
    assert lan.listener.present() == {child}
    assert lan.inventory.evidence(child).label == "bathroom"
    assert "lost" not in lan.listener.words(child)


async def test_a_device_that_moved_to_another_address_and_name_is_no_conflict(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.die("mdns a")
    lan.announce("mdns b", "serial pm A1", addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(child)
    assert (evidence.addresses, evidence.conflict) == (("10.0.0.2",), "")


async def test_an_answer_of_long_ago_does_not_make_a_conflict_of_a_move(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.goodbye("mdns a")
    await asyncio.sleep(PATIENCE)
    lan.die("mdns a")
    lan.announce("mdns b", "serial pm A1", addresses=("10.0.0.2",))
    for _ in range(60):
        await asyncio.sleep(1)
        assert lan.inventory.evidence(child).conflict == ""
    assert lan.inventory.evidence(child).addresses == ("10.0.0.2",)


async def test_two_that_answer_to_one_serial_conflict_until_one_is_gone(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1", trust=Trust.LISTED)
    lan.announce("mdns b", "serial pm A1", addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, evidence.trust) == (TWO_CLAIMANTS, Trust.CLAIMED)
    lan.die("mdns b")
    lan.goodbye("mdns b")
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, evidence.trust) == ("", Trust.LISTED)


UPNP = "uuid upnp 2f402f80-da50-11e1-9b23-ecb5fa123456"
ROUND = 300.0
"""Seconds from one question to all until the next."""


async def rounds(lan: Lan, count: int, *macs: str) -> None:
    """Have devices behind these MACs answer so many rounds, each from an address of its own."""
    for _ in range(count):
        for mac in macs:
            where = (f"10.0.0.{int(mac[-2:], 16)}",)
            lan.announce("ssdp u", UPNP, mac, addresses=where)
            await asyncio.sleep(1)
        await asyncio.sleep(ROUND)


async def test_two_devices_of_one_uuid_that_answer_with_one_key_are_in_conflict(lan: Lan) -> None:
    child = await lan.sees("ssdp u", UPNP, MAC)
    lan.inventory.pin(child)
    await rounds(lan, 2, MAC, OTHER_MAC)
    assert lan.inventory.evidence(child).conflict == TWO_CLAIMANTS
    await rounds(lan, 13, MAC)
    assert lan.inventory.evidence(child).conflict == "", "one of them has left"
    assert lan.listener.present() == {child}


async def test_a_device_of_a_uuid_may_move_to_another_of_its_ports(lan: Lan) -> None:
    child = await lan.sees("ssdp u", UPNP, MAC)
    lan.inventory.pin(child)
    for mac in (OTHER_MAC, MAC):
        await rounds(lan, 13, mac)
        assert lan.inventory.evidence(child).conflict == ""


async def test_two_devices_of_one_uuid_with_names_of_their_own_are_in_conflict(lan: Lan) -> None:
    child = await lan.sees("mdns a", UPNP, MAC)
    lan.announce("mdns b", UPNP, OTHER_MAC, addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    assert lan.inventory.evidence(child).conflict == TWO_CLAIMANTS
    lan.die("mdns a")
    lan.goodbye("mdns a")
    await asyncio.sleep(PATIENCE)
    assert lan.inventory.evidence(child).conflict == "", "it has moved and has another name"


async def test_an_operator_says_whether_one_uuid_is_of_one_device(lan: Lan) -> None:
    child = await lan.sees("ssdp u", UPNP, MAC)
    lan.inventory.pin(child)
    await rounds(lan, 2, MAC, OTHER_MAC)
    both = lan.inventory.identity(child, None)
    assert {one.value for one in both} == {"001122334466"}
    lan.inventory.answer(dict.fromkeys(both, child))
    await rounds(lan, 2, MAC, OTHER_MAC)
    assert lan.inventory.evidence(child).conflict == ""
    assert lan.listener.present() == {child}


@pytest.mark.parametrize("order", [(MAC, OTHER_MAC), (OTHER_MAC, MAC)])
async def test_an_operator_splits_two_devices_of_one_uuid(lan: Lan, order: tuple[str, str]) -> None:
    child = await lan.sees("ssdp u", UPNP, MAC)
    lan.inventory.pin(child)
    await rounds(lan, 2, *order)
    assert lan.inventory.evidence(child).conflict == TWO_CLAIMANTS
    lan.inventory.answer(dict.fromkeys(lan.inventory.disputed(child, None), NO_DEVICE))
    await rounds(lan, 2, MAC, OTHER_MAC)
    other = next(one for one in lan.listener.present() if one != child)
    assert {lan.inventory.evidence(one).conflict for one in (child, other)} <= UNDISPUTED
    assert claims(OTHER_MAC) <= lan.inventory.evidence(other).claims


async def test_a_forged_second_claimant_that_does_not_answer_is_dropped(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.announce("mdns b", "serial pm A1", addresses=("10.0.0.66",), alive=False)
    for _ in range(5):
        await asyncio.sleep(1)
        lan.announce("mdns b", "serial pm A1", addresses=("10.0.0.66",), alive=False)
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, evidence.addresses) == ("", ("10.0.0.1",))


def meter(n: int, mac: str = "pm") -> tuple[str, ...]:
    """What one of several meters announces that all have the serial number of the factory."""
    return "serial pm 0815", f"mac {mac} 00:11:22:33:55:{n:02x}"


async def test_two_devices_with_one_serial_wait_in_conflict_and_each_names_the_other(
    lan: Lan, caplog: pytest.LogCaptureFixture
) -> None:
    one = await lan.sees("mdns 1", *meter(1), trust=Trust.CORROBORATED)
    lan.inventory.pin(one)
    two = await lan.sees("mdns 2", *meter(2), addresses=("10.0.0.2",))
    for child, rival in ((one, two), (two, one)):
        evidence = lan.inventory.evidence(child)
        assert (evidence.conflict, evidence.rivals) == (IDENTITY_CONFLICT, (rival,))
    await asyncio.sleep(PATIENCE)
    assert lan.listener.merges == []
    warned = [one.message_id for one in caplog.records if one.levelname == "WARNING"]  # type: ignore[attr-defined]  # of `extra`
    assert warned == ["identity-conflict"]
    assert lan.inventory.disputed(one, two) == {Claim("serial", "pm", "0815")}
    lan.die("mdns 2")
    lan.goodbye("mdns 2")
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(one)
    assert (evidence.conflict, evidence.rivals) == ("", ())
    assert evidence.trust is Trust.CORROBORATED


@pytest.mark.parametrize("mac", ["pm", "l2"])
async def test_three_that_show_one_serial_are_three_without_a_conflict(lan: Lan, mac: str) -> None:
    for n in range(3):
        lan.announce(f"mdns {n}", *meter(n, mac), addresses=(f"10.0.0.{n}",))
        await lan.settle()
    present = lan.listener.present()
    evidences = [lan.inventory.evidence(child) for child in sorted(present)]
    assert len(present) == 3
    assert {(len(one.views), one.conflict) for one in evidences} == {(1, "")}
    assert {one.common for one in evidences} == {frozenset({"0815"})}
    assert {claim.kind for one in evidences for claim in one.claims} == {"mac"}
    await asyncio.sleep(2 * PATIENCE)
    assert lan.listener.present() == present


async def test_one_that_showed_a_serial_once_keeps_no_device_waiting(lan: Lan) -> None:
    forged = await lan.sees("mdns 1", *meter(1))
    device = await lan.sees("mdns 2", *meter(2), addresses=("10.0.0.2",))
    assert lan.inventory.evidence(device).rivals == (forged,)
    lan.die("mdns 1")
    lan.goodbye("mdns 1")
    await asyncio.sleep(PATIENCE)
    lan.announce("mdns 2", *meter(2), addresses=("10.0.0.2",))
    await lan.settle()
    evidence = lan.inventory.evidence(device)
    assert (evidence.conflict, evidence.rivals) == ("", ())
    assert Claim("serial", "pm", "0815") in evidence.claims


class CountingTable(DeviceTable):
    """A table that counts how often it looks for all that shows something."""

    looked = 0

    def _showing(self, keys: Collection[Claim]) -> list[Observation]:
        self.looked += 1
        assert self.looked < 20, "it never ends"
        return super()._showing(keys)


async def test_a_table_that_is_too_small_for_all_does_not_change_its_mind_for_ever() -> None:
    table = CountingTable(InventorySettings(max_unadmitted=2), RecordingListener(), lambda: 0.5)
    uuid, mac = "uuid b aaaaaaaa-0000-4000-8000-000000000001", "mac l2 00:11:22:33:44:"
    child = "child-1"
    table.add_known(DeviceId(child), claims(mac + "08", "serial b s2"), 0.0)
    said: list[tuple[str, int, tuple[str, ...]]] = [
        ("b 3", 0, (mac + "08", "serial b s2")),
        ("a 8", 3, ()),
        ("b 11", 0, ("serial a s2", "serial b s2", uuid)),
        ("b 11", 0, (mac + "03", "serial a s3")),
        ("a 8", 0, (mac + "07", "serial a s3")),
        ("b 5", 1, ()),
        ("a 6", 0, (mac + "05", "serial a s3")),
        ("a 6", 3, (mac + "09", "serial a s3")),
        ("b 11", 0, ()),
        ("a 6", 0, (mac + "0b", "serial a s3", uuid)),
        ("b 13", 3, ()),
        ("b 5", 3, (mac + "0b", "serial a s3")),
        ("a 8", 0, (mac + "01", "serial a s3")),
    ]
    for now, (origin, rank, texts) in enumerate(said):
        interface, _, key = origin.partition(" ")
        shown = claims(*texts)
        sighting = Sighting("mdns", origin, now, 60, interface, ("10.0.0.1",), None, shown, {}, key)
        table.looked = 0
        table.add_sighting(sighting, now, rank=rank)


async def test_an_answer_that_two_are_two_moves_what_is_seen_to_each(lan: Lan) -> None:
    """Two that the kernel alone sees apart are one device in conflict, until they are split."""
    child = await lan.sees("mdns 1", *meter(1, "l2"))
    lan.inventory.pin(child)
    lan.announce("mdns 2", *meter(2, "l2"), addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    assert lan.inventory.evidence(child).conflict == MOVED_OR_CLONED
    (serial,) = disputed = lan.inventory.disputed(child, None)
    assert lan.inventory.distinctive(child, disputed)
    lan.inventory.answer({serial: NO_DEVICE})
    await asyncio.sleep(PATIENCE)
    (other,) = lan.listener.present() - {child}
    for one in (child, other):
        evidence = lan.inventory.evidence(one)
        assert (evidence.conflict, len(evidence.views)) == ("", 1)
    assert "lost" not in lan.listener.words(child)
    lan.die("mdns 2")
    lan.goodbye("mdns 2")
    await asyncio.sleep(PATIENCE)
    assert lan.inventory.identity(child, None) == {serial}, "a wrong answer can be taken back"
    lan.inventory.answer({serial: child})
    assert serial in lan.inventory.evidence(child).claims


async def test_a_second_mac_of_a_child_is_its_own_by_an_answer(lan: Lan) -> None:
    child = await lan.sees("mdns 1", *meter(1, "l2"))
    lan.inventory.pin(child)
    lan.announce("mdns 2", *meter(2, "l2"), addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    own = lan.inventory.identity(child, None)
    assert own == {Claim("mac", "l2", "001122335502")}
    lan.inventory.answer(dict.fromkeys(own, child))
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, len(evidence.views)) == ("", 2)
    assert lan.listener.present() == {child}


async def test_an_answer_that_two_are_one_moves_what_is_seen_of_the_other(lan: Lan) -> None:
    child = await lan.sees("mdns 1", *meter(1))
    lan.inventory.pin(child)
    other = await lan.sees("mdns 2", *meter(2), addresses=("10.0.0.2",))
    own = lan.inventory.distinctive(other)
    lan.inventory.answer(dict.fromkeys(own, child))
    await lan.settle()
    assert lan.listener.merges == [(child, other)]
    evidence = lan.inventory.evidence(child)
    assert (len(evidence.views), evidence.conflict) == (2, "")
    lan.announce("mdns 3", *meter(2), addresses=("10.0.0.2",))
    await lan.settle()
    assert len(lan.inventory.evidence(child).views) == 3


async def test_what_a_forged_sighting_gave_to_a_child_is_another_devices_again(lan: Lan) -> None:
    child = await lan.sees("mdns 1", "serial pm C1", MAC)
    lan.inventory.pin(child)
    uuid = "uuid hub aaaaaaaa-0000-4000-8000-000000000001"
    lan.announce("mdns x", "serial pm C1", uuid, alive=False)
    lan.announce("mdns 2", uuid, OTHER_MAC, addresses=("10.0.0.2",))
    await asyncio.sleep(PATIENCE)
    assert lan.listener.present() == {child}
    assert lan.inventory.evidence(child).conflict not in UNDISPUTED
    lan.goodbye("mdns x")
    await asyncio.sleep(PATIENCE)
    taken = lan.inventory.distinctive(child, {key_of(c) for c in claims("serial pm C1", MAC)})
    assert {one.kind for one in taken} == {"uuid"}
    lan.inventory.answer(dict.fromkeys(taken))
    await asyncio.sleep(PATIENCE)
    (other,) = lan.listener.present() - {child}
    for one in (child, other):
        assert lan.inventory.evidence(one).conflict == ""
    assert claims(uuid) <= lan.inventory.evidence(other).claims


async def test_a_contested_name_says_nothing_of_who_two_devices_are(lan: Lan) -> None:
    one = await lan.sees("mdns a", "serial pm A1", trust=Trust.CORROBORATED)
    await lan.sees("mdns a", "serial pm A2", trust=Trust.CORROBORATED)
    (two,) = lan.listener.present() - {one}
    for child, rival in ((one, two), (two, one)):
        evidence = lan.inventory.evidence(child)
        assert (evidence.conflict, evidence.rivals) == (NAME_CONTESTED, (rival,))
        assert (evidence.conflict in UNDISPUTED, evidence.trust) == (True, Trust.CORROBORATED)


async def test_a_clone_of_an_admitted_child_lowers_its_trust_until_approved(lan: Lan) -> None:
    child = DeviceId("child-1")
    lan.inventory.add_known(child, claims("serial pm A1", MAC))
    lan.announce("mdns a", "serial pm A1", OTHER_MAC, trust=Trust.CORROBORATED)
    await asyncio.sleep(PATIENCE)
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, evidence.trust) == (MOVED_OR_CLONED, Trust.CLAIMED)
    lan.inventory.pin(child)
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, evidence.trust) == ("", Trust.CORROBORATED)
    assert lan.listener.words(child) == ["seen", "changed"]


async def test_a_device_that_proves_its_key_may_move(lan: Lan) -> None:
    child = DeviceId("child-1")
    lan.inventory.add_known(child, claims("cert x abc", MAC))
    lan.announce("mqtt a", "cert x abc", OTHER_MAC, trust=Trust.AUTHENTICATED)
    await lan.settle()
    evidence = lan.inventory.evidence(child)
    assert (evidence.conflict, evidence.trust) == ("", Trust.AUTHENTICATED)


async def test_a_link_between_two_admitted_children_is_shown_at_both(lan: Lan) -> None:
    one, two = DeviceId("child-1"), DeviceId("child-2")
    lan.inventory.add_known(one, claims("serial a 1"))
    lan.inventory.add_known(two, claims("uuid b 2"))
    lan.announce("mdns 1", "serial a 1")
    lan.announce("mdns 2", "uuid b 2")
    lan.announce("mdns x", "serial a 1", "uuid b 2", alive=False)
    await lan.settle()
    conflicts = {lan.inventory.evidence(child).conflict for child in (one, two)}
    assert conflicts == {IDENTITY_CONFLICT}
    lan.goodbye("mdns x")
    await asyncio.sleep(PATIENCE)
    assert {lan.inventory.evidence(child).conflict for child in (one, two)} == {""}
    assert lan.listener.merges == []


async def test_a_link_that_is_no_longer_claimed_is_no_longer_a_conflict(lan: Lan) -> None:
    one, two = DeviceId("child-1"), DeviceId("child-2")
    lan.inventory.add_known(one, claims("serial a 1"))
    lan.inventory.add_known(two, claims("uuid b 2"))
    lan.announce("mdns 1", "serial a 1")
    lan.announce("mdns 2", "uuid b 2")
    lan.announce("mdns x", "serial a 1", "uuid b 2")
    await lan.settle()
    lan.announce("mdns x", "serial a 1")
    await lan.settle()
    assert {lan.inventory.evidence(child).conflict for child in (one, two)} == {""}
    assert lan.listener.words(two) == ["seen", "changed", "changed"]


async def test_a_child_that_a_stranger_is_merged_into_has_changed(lan: Lan) -> None:
    child = DeviceId("child-1")
    lan.announce("mdns 1", "serial a 1")
    stranger = await lan.sees("ssdp 2", "uuid b 2")
    lan.inventory.add_known(child, claims("serial a 1", "uuid b 2"))
    lan.announce("mdns 1", "serial a 1")
    await lan.settle()
    lan.announce("ssdp 2", "uuid b 2")
    await lan.settle()
    assert lan.listener.merges[-1] == (child, stranger)
    assert lan.listener.words(child) == ["seen", "changed"]
    assert len(lan.inventory.evidence(child).views) == 2


async def test_a_weak_device_is_its_place_and_comes_back_as_itself(lan: Lan) -> None:
    child = await lan.sees("mdns lamp")
    assert await lan.sees("mdns other lamp") != child
    lan.inventory.pin(child)
    lan.die("mdns lamp")
    lan.goodbye("mdns lamp")
    await asyncio.sleep(PATIENCE)
    assert await lan.sees("mdns lamp") == child


async def test_a_forgotten_device_is_created_again(lan: Lan) -> None:
    child = await lan.sees("mdns a", "serial pm A1")
    lan.inventory.forget(child)
    assert lan.inventory.state(child) is PresenceState.ABSENT
    assert await lan.sees("mdns a", "serial pm A1") == child
    assert lan.listener.words(child) == ["seen", "seen"]


async def test_a_flood_leaves_children_and_wanted_ones_in_place() -> None:
    settings = InventorySettings(max_unadmitted=256, max_queued=128)
    async with a_lan(settings) as lan:
        for n in range(300):
            child = DeviceId(f"child-{n}")
            lan.inventory.add_known(child, claims(f"serial pm S{n}"))
            lan.announce(f"mdns {n}", f"serial pm S{n}")
            if not n % 100:
                await lan.settle()
        await lan.settle()
        wanted = {
            await lan.sees(f"mdns w{n}", f"serial w W{n}", attributes={"interest": "wanted"})
            for n in range(20)
        }
        for n in range(50_000):
            lan.announce(f"mdns f{n}", f"serial f F{n}", alive=False)
            if not n % 100:
                await lan.settle()
        await lan.settle()
        counters = lan.inventory.counters()
        assert counters["devices"] <= 300 + 256
        assert counters["observations"] <= 300 + 256
        assert counters["devices-evicted"] > 49_000
        assert wanted <= lan.listener.present()
        lan.announce("mdns 7", "serial pm S7", addresses=("10.0.0.77",))
        await lan.settle()
        assert lan.inventory.evidence(DeviceId("child-7")).addresses == ("10.0.0.77",)


async def test_strangers_of_one_source_never_make_room_for_a_flood_of_another() -> None:
    async with a_lan(InventorySettings(max_unadmitted=100, max_queued=100)) as lan:
        for n in range(20):
            await lan.sees(f"mdns/lan0 {n}", f"serial pm S{n}")
        quiet = lan.listener.present()
        for n in range(5000):
            lan.announce(f"ssdp/lan{n % 2} f{n}", f"serial f F{n}", alive=False)
            if n % 500 == 0:
                lan.announce(f"mdns/lan0 late-{n}", f"serial pm L{n}")
            if n % 1000 == 0:
                await lan.settle()
        await lan.settle()
        assert lan.inventory.counters()["devices-evicted"] > 300
        present = lan.listener.present()
        assert quiet <= present
        labels = {lan.inventory.evidence(one).label for one in present}
        assert {f"late-{n}" for n in range(0, 5000, 500)} <= labels


async def test_there_is_room_for_one_source_while_another_floods() -> None:
    async with a_lan(InventorySettings(max_queued=100)) as lan:
        for n in range(500):
            lan.announce(f"ssdp/lan0 f{n}", f"serial f F{n}", alive=False)
        async with asyncio.timeout(60):
            await lan.inventory.room("static")
        assert lan.inventory.counters()["sighting-queue"] == 100


async def test_a_stranger_for_whom_there_is_no_room_is_not_reported() -> None:
    async with a_lan(InventorySettings(max_unadmitted=16)) as lan:
        for n in range(16):
            lan.announce(f"mdns w{n}", f"serial w W{n}", attributes={"interest": "wanted"})
        lan.announce("mdns f", "serial f F")
        await lan.settle()
        assert [word for word, _ in lan.listener.story] == ["seen"] * 16
        assert lan.inventory.counters()["devices"] == 16


async def test_who_claims_a_listed_identity_stays_while_others_as_plausible_come_and_go() -> None:
    async with a_lan(InventorySettings(max_unadmitted=16)) as lan:
        child = await lan.sees("mdns c", "serial pm PM1", attributes={"interest": "listed"})
        for n in range(1000):
            lan.announce(f"mdns w{n}", f"serial w W{n}", attributes={"interest": "wanted"})
            if not n % 100:
                await lan.settle()
        await lan.settle()
        assert lan.inventory.counters()["devices-evicted"] > 900
        assert child in lan.listener.present()


async def test_what_comes_faster_than_it_is_processed_is_dropped_strangers_first() -> None:
    settings = InventorySettings(max_queued=100)
    async with a_lan(settings) as lan:
        lan.inventory.add_known(DeviceId("child-1"), claims("serial pm A1"))
        lan.announce("mdns a", "serial pm A1")
        for n in range(50_000):
            lan.inventory.sight(Sighting("mdns", f"f{n}", 0, 60, "", (), None, frozenset(), {}, ""))
        lan.announce("mdns b", "serial pm A1")
        assert lan.inventory.counters()["sighting-queue"] == 100
        assert lan.inventory.counters()["sighting-queue-overflow"] == 50_002 - 100
        await lan.settle()
        assert len(lan.inventory.evidence(DeviceId("child-1")).views) == 2


@pytest.mark.parametrize("flood", [False, True])
async def test_every_device_that_an_operator_listed_is_seen(
    caplog: pytest.LogCaptureFixture, flood: bool
) -> None:
    """With the usual settings, and while strangers announce themselves as fast as they can."""
    listed = tuple(StaticDevice(key=f"meter-{n}", serial=f"PM-{n:05}") for n in range(5000))
    static = Static("static", StaticSettings(listed))
    async with a_lan() as lan:
        context = Context(lan.now, lambda: 0.5, lambda _: Interest.STRANGER)
        async with in_background(static.run(context, lan.inventory)):
            for n in range(10_000 if flood else 0):
                lan.announce(f"mdns f{n}", f"serial f F{n}", alive=False)
                if not n % 100:
                    await lan.settle()
            await asyncio.sleep(1)
            await lan.settle()
        present = [
            device for device in lan.listener.present()
            if lan.inventory.evidence(device).trust is Trust.LISTED
        ]  # fmt: skip
        assert len(present) == len(listed)
        strangers = InventorySettings().max_unadmitted if flood else 0
        assert lan.inventory.counters()["devices"] == len(listed) + strangers
        assert lan.inventory.counters()["sighting-queue-overflow"] == 0
    assert ("max_unadmitted" in caplog.text) is flood


async def test_where_a_bound_is_met_there_is_a_warning_with_its_number_and_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_lan(InventorySettings(max_queued=16, max_unadmitted=16)) as lan:
        for n in range(17):
            lan.announce(f"mdns {n}", f"serial f F{n}")
        await lan.settle()
        for n in range(17, 20):  # once each
            lan.announce(f"mdns {n}", f"serial f F{n}")
            await lan.settle()
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert [("max_queued" in one, "max_unadmitted" in one) for one in warnings] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert all(" 16 " in one for one in warnings)


async def test_one_device_with_a_thousand_names_is_followed_at_a_few(lan: Lan) -> None:
    for n in range(1000):
        lan.announce(f"mdns {n}", "serial pm A1", alive=False)
    await lan.settle()
    counters = lan.inventory.counters()
    assert (counters["devices"], counters["observations"]) == (1, MAX_OBSERVATIONS_UNPINNED)
    assert counters["observations-refused"] == 1000 - MAX_OBSERVATIONS_UNPINNED


async def test_one_name_with_a_thousand_serials_is_contested_by_a_few(lan: Lan) -> None:
    lan.inventory.add_known(DeviceId("child-1"), claims("serial pm A1"))
    lan.announce("mdns a", "serial pm A1")
    await lan.settle()
    for n in range(1000):
        lan.announce("mdns a", f"serial pm F{n}", alive=False)
        await lan.settle()
    assert lan.inventory.counters()["observations"] <= 1 + 1 + MAX_CONTESTANTS
    await asyncio.sleep(PATIENCE)
    assert lan.listener.present() == {DeviceId("child-1")}


async def test_nothing_is_left_when_it_is_cancelled_amid_questions() -> None:
    settings = InventorySettings(probe_wait=0, probe_spread=0)
    async with a_lan(settings) as lan:
        for n in range(100):
            lan.announce(f"mdns {n}", f"serial pm S{n}")
            lan.goodbye(f"mdns {n}")
        async with asyncio.timeout(30):
            while lan.asking < settings.probe_at_once:
                await asyncio.sleep(0)
        assert lan.most_at_once == settings.probe_at_once
