"""An operator's answer counts wherever announcements are compared, in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.device.identity import NO_DEVICE, Claim, DeviceId
from gatewayd.discovery.device_table import TWO_CLAIMANTS, DeviceTable
from gatewayd.discovery.discoverer import Origin, Sighting
from gatewayd.discovery.settings import InventorySettings
from tests.discovery.test_inventory import RecordingListener, claims

CHILD = DeviceId("child-1")
SERIAL = "serial pm 0815"
MANY = 1000
"""Probes after which a LAN of so few devices has long been quiet."""


def nothing(_n: int) -> tuple[str, ...]:
    return ()


def same_digits(n: int) -> tuple[str, ...]:
    return (f"mac l2 00:11:22:33:55:{n:02x}",)


def virtual(n: int) -> tuple[str, ...]:
    return (f"mac l2 02:11:22:33:55:{n:02x}",)


@dataclass
class Gateway:
    """The table of a gateway with one child on record, which may be restarted.

    alive: what answers at an origin.  record: what is on record of the child.
    """

    record: frozenset[Claim]
    alive: dict[Origin, Sighting] = field(default_factory=dict)
    answers: dict[Claim, DeviceId] = field(default_factory=dict)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.restart([])

    def restart(self, order: list[Origin]) -> None:
        """Begin with what is on record, and with what announces itself, in this order."""
        self.table = DeviceTable(InventorySettings(), RecordingListener(), lambda: 0.5)
        self.table.answer(dict(self.answers), self.now, lambda _: 0)
        self.table.add_known(CHILD, self.record, self.now)
        for origin in order:
            self.announce(self.alive[origin])

    def announce(self, sighting: Sighting) -> None:
        self.alive[sighting.origin] = sighting
        self.table.add_sighting(replace(sighting, at=self.now), self.now, rank=0)
        self.settle()

    def leave(self, origin: Origin) -> None:
        del self.alive[origin]
        for observation in self.table._observations.at(origin):
            self.table._remove(observation, observation.cause, self.now)

    def settle(self) -> None:
        """Ask whoever is to be asked, until all has been said."""
        for _ in range(MANY):
            moment = self.table.next()
            if moment is None or moment > self.now + 60:
                return
            self.now = max(self.now, moment)
            asked = self.table.due(self.now)
            if asked is not None:
                self.reply(asked.origin)
        raise AssertionError("the gateway asks for ever")

    def reply(self, origin: Origin) -> None:
        for observation in self.table._observations.at(origin):
            if observation.checking and (said := self.alive.get(origin)) is not None:
                answer = replace(said, at=self.now)
                self.table.probe_answered(observation, answer, self.now, rank=0)
            elif observation.checking:
                self.table.probe_unanswered(observation, self.now)

    def answer(self, answers: dict[Claim, DeviceId | None]) -> None:
        held = {**self.answers, **answers}
        self.answers = {key: whose for key, whose in held.items() if whose is not None}
        self.table.answer(answers, self.now, lambda _: 0)
        self.settle()

    def merge(self, origin: Origin) -> None:
        """Have the device at an origin be the child, as the manager does."""
        other = self.table._observations.at(origin)[0].device
        assert other != CHILD
        self.answer(dict.fromkeys(self.table.identity(CHILD, other), CHILD))

    def take_back(self) -> None:
        self.answer(dict.fromkeys(self.answers))

    @property
    def conflict(self) -> str:
        return self.table.evidence(CHILD).conflict

    @property
    def devices(self) -> set[DeviceId]:
        there = self.table._presences.values()
        return {one.device for one in there if one.observations}


def device(n: int, *more: str, mac: bool = True) -> Sighting:
    own = (f"mac pm 00:11:22:33:55:{n:02x}",) if mac else ()
    shown = claims(SERIAL, *own, *more)
    return Sighting("mdns", f"{n}", 0, 3600, "lan0", (f"10.0.0.{n}",), None, shown, {}, f"{n}")


KERNELS = [nothing, same_digits, virtual]
RECORDS = [(SERIAL, "mac pm 00:11:22:33:55:01"), ("mac pm 00:11:22:33:55:01",)]
FIRST, SECOND, THIRD = (("mdns", f"{n}") for n in (1, 2, 3))
EVENTS = st.lists(
    st.sampled_from(["restart", "back", "first-leaves", "second-leaves", "first", "second",
                     "first-moves", "second-moves", "again"]),
    max_size=8,
)  # fmt: skip


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=10, deadline=None)
@given(events=EVENTS, backwards=st.booleans(), bare=st.booleans())
def test_two_that_an_operator_has_merged_are_one_and_a_third_is_a_claimant(
    record: tuple[str, ...],
    kernel: Callable[[int], tuple[str, ...]],
    events: list[str],
    backwards: bool,
    bare: bool,
) -> None:
    one, two = device(1, *kernel(1)), device(2, *kernel(2))
    gateway = Gateway(claims(*record, *kernel(1)))
    for sighting in (two, one) if backwards else (one, two):
        gateway.announce(sighting)
    assert gateway.conflict
    gateway.merge(SECOND)
    assert gateway.conflict == ""
    for number, event in enumerate(events):
        there = sorted(gateway.alive, reverse=backwards)
        match event:
            case "restart":
                gateway.restart(there)
            case "first-leaves" | "second-leaves":
                origin = FIRST if event == "first-leaves" else SECOND
                if origin in gateway.alive:
                    gateway.leave(origin)
            case "first" | "second":
                gateway.announce(one if event == "first" else two)
            case "first-moves" | "second-moves":
                moved = one if event == "first-moves" else two
                gateway.announce(replace(moved, addresses=(f"10.0.1.{number}",)))
            case "again":
                at_another = replace(two, source="ssdp", claims=claims(SERIAL, *kernel(2)))
                gateway.announce(replace(at_another, addresses=two.addresses))
                gateway.announce(two)
                gateway.leave(at_another.origin)
            case "back":
                gateway.now += 1000
        assert gateway.conflict == "", events[: number + 1]
        assert gateway.devices <= {CHILD}, events[: number + 1]
    gateway.announce(one)
    gateway.announce(two)
    gateway.announce(device(3, *kernel(3), mac=not bare))
    assert gateway.conflict, "a third one of the serial is no part of the answer"
    gateway.restart(sorted(gateway.alive, reverse=backwards))
    assert gateway.conflict, "nor is it after a restart"
    gateway.leave(THIRD)
    gateway.settle()
    assert gateway.conflict == ""
    gateway.take_back()
    assert gateway.conflict, "an answer that is taken back counts no more"
    gateway.restart(sorted(gateway.alive, reverse=backwards))
    assert gateway.conflict, "nor does it after a restart"


def test_what_is_merged_before_it_shows_the_serial_is_two_again_once_that_is_taken_back() -> None:
    """Who resolved to the child by an answer still does by the serial, and is asked then."""
    one, two = device(1, "serial board 7", mac=False), device(2)
    gateway = Gateway(one.claims)
    gateway.announce(one)
    gateway.announce(replace(two, claims=two.claims - claims(SERIAL)))
    gateway.merge(SECOND)
    gateway.announce(two)
    assert (gateway.conflict, gateway.devices) == ("", {CHILD})
    gateway.take_back()
    assert (gateway.conflict, gateway.devices) == (TWO_CLAIMANTS, {CHILD})


def test_two_that_an_operator_has_split_are_two_after_a_restart_in_any_order() -> None:
    one, two = device(1), device(2)
    for order in ([FIRST, SECOND], [SECOND, FIRST]):
        gateway = Gateway(one.claims)
        gateway.announce(one)
        gateway.announce(two)
        (serial,) = claims(SERIAL)
        gateway.answer({serial: NO_DEVICE})
        for _ in range(2):
            assert (gateway.conflict, len(gateway.devices)) == ("", 2)
            gateway.restart(order)


def test_what_shows_all_that_a_merged_device_does_elsewhere_is_its_clone() -> None:
    one, two = device(1), device(2)
    for original in (one, two):
        gateway = Gateway(one.claims)
        gateway.announce(one)
        gateway.announce(two)
        gateway.merge(SECOND)
        gateway.announce(replace(original, key="clone", addresses=("10.0.0.9",)))
        assert gateway.conflict == TWO_CLAIMANTS
