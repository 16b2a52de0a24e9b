"""What is shown of a site, and what of its changes is logged and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gatewayd.dbus.interfaces import load
from gatewayd.dbus.names import SITE
from gatewayd.dbus.objects import read_site
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.device.views import GatewayStanding, ShardView, SiteMode, SiteState, SiteView
from gatewayd.errors import InvalidArgs, NoSuchDevice, NotSupported, WrongState
from gatewayd.gateway_status import site_faults, site_line
from gatewayd.runtime.journal import MESSAGE_IDS
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.site.service import SiteParts, SiteService
from gatewayd.site.settings import SiteSettings
from gatewayd.site.shards import SHARDS
from gatewayd.site.shown import REASONS, ShownCopies, ShownMembers, with_etcd
from gatewayd.site.snapshot import ShardOwner, SiteGateway, SiteReading, SiteSnapshot
from gatewayd.site.watch import SiteWatch

NOW = 1_764_500_000_000_000
SETTINGS = SiteSettings(endpoints=("https://192.0.2.1:2379",), name="plant", gateway="gateway-a")
READING = SiteReading(
    9,
    gateways={"gateway-a": SiteGateway(1, "1.0"), "gateway-b": SiteGateway(2, "1.0")},
    owners={0: ShardOwner("gateway-a", 5, 1), 1: ShardOwner("gateway-b", 6, 2)},
)
MEMBERS = ShownMembers(
    fingerprint="AAAA", site_fingerprint="SSSS", epoch=2,
    members={"gateway-a": "AAAA", "gateway-b": "BBBB", "gateway-c": "CCCC"},
    waiting={"gateway-d": "DDDD"},
)  # fmt: skip
SEEN = SiteSnapshot(
    "plant", "gateway-a", READING, reachable=True, lease=1, left=8.4, owned={0: 5},
    gaining=frozenset({3}),
)  # fmt: skip
CHILD, NAME = DeviceId("child-1"), CloudName("east", "pump", "p7")


def shown(members: ShownMembers = MEMBERS, **changes: Any) -> SiteView:
    """The view of a site that differs so."""
    return with_etcd(replace(SEEN, **changes), members, ShownCopies(7, 2, "slow"), lost_at=0)


def test_a_site_in_order() -> None:
    view = shown()
    assert (view.mode, view.state, view.reason, view.quorum) == ("etcd", "ready", NONE, True)
    assert (view.owned, view.changing, view.left, view.epoch) == (1, 1, 8, 2)
    assert (view.replicated, view.unwritten, view.replication_fault) == (7, 2, "slow")
    standings = {one.name: (one.standing, one.fingerprint, one.shards) for one in view.gateways}
    assert standings == {
        "gateway-a": (GatewayStanding.LIVE, "AAAA", 1),
        "gateway-b": (GatewayStanding.LIVE, "BBBB", 1),
        "gateway-c": (GatewayStanding.GONE, "CCCC", 0),
        "gateway-d": (GatewayStanding.WAITING, "DDDD", 0),
    }
    assert len(view.shards) == SHARDS
    assert view.shards[:3] == (ShardView(0, "gateway-a", 5), ShardView(1, "gateway-b", 6),
                               ShardView(2))  # fmt: skip
    assert site_line(view) == "site plant: 1 of 64 shards, 2 of 4 gateways live"


@pytest.mark.parametrize(("members", "changes", "state"), [
    (MEMBERS, {"reachable": False}, SiteState.NO_QUORUM),
    (MEMBERS, {"reachable": False, "left": 0.0}, SiteState.STOPPED),
    (MEMBERS, {"reading": None, "reachable": False, "fault": "refused"}, SiteState.STOPPED),
    (MEMBERS, {"reading": None, "reachable": False}, SiteState.STARTING),
    (MEMBERS, {"lease": 0}, SiteState.STARTING),
    (MEMBERS, {"draining": True}, SiteState.DRAINING),
    (MEMBERS, {"draining": True, "owned": {}, "gaining": frozenset()}, SiteState.DRAINED),
    (ShownMembers(standing=SiteState.NOT_FOUNDED), {}, SiteState.NOT_FOUNDED),
    (ShownMembers(standing=SiteState.WAITING), {}, SiteState.WAITING),
    (ShownMembers(standing=SiteState.REMOVED), {}, SiteState.REMOVED),
    (ShownMembers(fault="it was written by another site"), {}, SiteState.FAULTY),
])  # fmt: skip
def test_states(members: ShownMembers, changes: Mapping[str, Any], state: SiteState) -> None:
    view = shown(members, **changes)
    assert view.state is state
    assert view.reason.code.startswith("site-")
    wanted = state in (SiteState.STARTING, SiteState.DRAINING, SiteState.DRAINED)
    assert bool(site_faults(view)) is not wanted
    assert str(state) in site_line(view)


def test_a_gateway_that_is_no_member_is_not_joined_whatever_it_says_of_itself() -> None:
    draining = {"gateway-a": SiteGateway(1, "1.0", draining=True)}
    nothing = ShownMembers(standing=SiteState.NOT_FOUNDED)
    (ours,) = shown(nothing, reading=SiteReading(9, gateways=draining)).gateways
    assert ours.standing is GatewayStanding.NOT_JOINED
    known = SiteReading(9, gateways=draining, members={"gateway-a": b""})
    (ours,) = shown(nothing, reading=known).gateways
    assert ours.standing is GatewayStanding.DRAINING


def test_what_etcd_holds_that_is_no_name_is_no_gateway() -> None:
    forged = replace(READING, owners={0: ShardOwner("", 5, 0)})
    hostile = replace(MEMBERS, waiting={**MEMBERS.waiting, "\x1b[2J\0": "EEEE"})
    view = shown(hostile, reading=forged)
    assert [one.name for one in view.gateways] == [f"gateway-{letter}" for letter in "abcd"]
    assert view.shards[0] == ShardView(0, "", 5)
    watch = SiteWatch()
    for reading in (forged, READING):
        watch.note(shown(reading=reading), reading)
    assert watch.taken_over == 0


def test_each_state_has_a_reason() -> None:
    assert REASONS.keys() == set(SiteState) - {SiteState.FAULTY}


def test_why_etcd_does_not_answer_is_said() -> None:
    view = shown(reachable=False, fault="192.0.2.1: refused.")
    assert "It failed last: 192.0.2.1: refused." in view.reason.text


def test_every_property_is_read_from_a_view() -> None:
    properties = load(SITE).properties
    read = {name: read_site(shown(), name) for name in properties}
    assert read["Gateways"][0] == ("gateway-a", "live", "1.0", "AAAA", 1)  # type: ignore[index]  # what a view holds has many types
    assert read["SecondsLeft"] == 8


def entries(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The entries of the catalogue that were logged, and none that it lacks."""
    found = [vars(one)["message_id"] for one in caplog.records if "message_id" in vars(one)]
    assert set(found) <= MESSAGE_IDS.keys()
    return found


def test_what_happens_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatewayd")
    watch = SiteWatch()
    none_waits = replace(MEMBERS, waiting={})
    assert watch.note(shown(none_waits), READING)
    assert not watch.note(shown(none_waits), READING)
    assert not watch.note(shown(), READING)
    assert watch.note(shown(reachable=False), READING)
    assert watch.note(shown(reachable=False, left=0.0, owned={}), READING)
    assert watch.note(shown(), READING)
    assert entries(caplog) == [
        "site-member-waits", "site-quorum-lost", "site-stopped", "site-quorum-recovered",
    ]  # fmt: skip


def test_a_gateway_that_waits_itself_is_not_asked_to_accept_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch, ours = SiteWatch(), replace(MEMBERS, members={}, waiting={"gateway-a": "AAAA"})
    watch.note(shown(replace(ours, waiting={})), READING)
    watch.note(shown(ours), READING)
    assert entries(caplog) == []


def test_shards_of_a_gateway_that_is_gone_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    watch = SiteWatch()
    watch.note(shown(), READING)
    alone = {"gateway-a": READING.gateways["gateway-a"]}
    free = replace(READING, gateways=alone, owners={0: READING.owners[0]})
    watch.note(shown(reading=free), free)
    taken = replace(free, owners={**free.owners, 1: ShardOwner("gateway-a", 8, 1)})
    watch.note(shown(reading=taken), taken)
    watch.note(shown(reading=taken), taken)
    assert watch.taken_over == 1
    assert entries(caplog) == ["site-taken-over"]
    assert "took over 1 shard of gateway-b" in caplog.text


def test_a_shard_that_was_given_up_is_not_taken_over() -> None:
    watch = SiteWatch()
    watch.note(shown(), READING)
    given = replace(READING, owners={**READING.owners, 1: ShardOwner("gateway-a", 8, 1)})
    watch.note(shown(reading=given), given)
    assert watch.taken_over == 0


class FakeSite:
    """The parts of a site, which record what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.seen = SEEN
        self.elsewhere = NONE

    def parts(self) -> SiteParts:
        def does(*what: str) -> Any:
            async def ask(*arguments: str) -> Any:
                self.asked.append((*what, *arguments))
                return "SSSS"

            return ask

        commands = {one: does(one) for one in ("found", "join", "accept", "remove", "drain",
                                               "resume")}  # fmt: skip
        return SiteParts(
            snapshot=lambda: self.seen, members=lambda: MEMBERS, copies=ShownCopies,
            shard_of=lambda _: 1, elsewhere=lambda _: self.elsewhere, **commands,
        )  # fmt: skip


def service(settings: SiteSettings, parts: SiteParts | None) -> SiteService:
    """The service of a gateway that has one child, and another without a name."""

    def resolve(text: str) -> DeviceId:
        if not text.startswith("child-"):
            raise NoSuchDevice("No such device")
        return DeviceId(text)

    return SiteService(
        settings, parts, resolve=resolve, wall=lambda: NOW, known=lambda: [NAME],
        name_of=lambda device: NAME if device == CHILD else None,
    )  # fmt: skip


async def test_commands_go_to_the_parts() -> None:
    site = FakeSite()
    ours = service(SETTINGS, site.parts())
    assert await ours.found("olga") == "SSSS"
    await ours.join("SSSS", "olga")
    await ours.accept("gateway-d", "DDDD", "olga")
    await ours.remove("gateway-c", "olga")
    await ours.drain({}, "olga")
    await ours.resume("olga")
    assert site.asked == [
        ("found",), ("join", "SSSS"), ("accept", "gateway-d", "DDDD"), ("remove", "gateway-c"),
        ("drain",), ("resume",),
    ]  # fmt: skip


async def test_the_last_gateway_that_lives_is_drained_by_a_word_alone() -> None:
    """One that is drained itself lives, and has nothing."""
    site = FakeSite()
    ours = service(SETTINGS, site.parts())
    assert await ours.harm_of("Drain") == ()
    resting = {**READING.gateways, "gateway-b": SiteGateway(2, "1.0", draining=True)}
    for others in ({"gateway-a": SiteGateway(1, "1.0")}, resting):
        site.seen = replace(SEEN, reading=replace(READING, gateways=others))
        (said,) = await ours.harm_of("Drain")
        assert "1 child of this one would have none" in said
        with pytest.raises(WrongState, match=r"1 child.*option offline"):
            await ours.drain({}, "olga")
    assert not site.asked
    await ours.drain({"offline": True}, "olga")
    assert site.asked == [("drain",)]
    site.seen = replace(site.seen, draining=True)
    assert await ours.harm_of("Drain") == (), "it is drained"
    site.seen, site.elsewhere = replace(SEEN, reading=None), Reason("site-starting")
    assert "0 children" in (await ours.harm_of("Drain"))[0]


@pytest.mark.parametrize("options", [{"online": True}, {"offline": "true"}])
async def test_a_drain_has_one_option(options: Mapping[str, object]) -> None:
    ours = service(SETTINGS, FakeSite().parts())
    with pytest.raises(InvalidArgs, match="the boolean offline"):
        await ours.drain(options, "olga")
    with pytest.raises(InvalidArgs, match="must be Drain"):
        await ours.harm_of("Resume")


def test_a_drained_gateway_with_no_other_is_trouble() -> None:
    """As where two are drained at the same moment, or the other one died since."""
    alone = replace(READING, gateways={"gateway-a": SiteGateway(1, "1.0", draining=True)})
    view = shown(draining=True, owned={}, gaining=frozenset(), reading=alone)
    assert (view.state, view.reason.code) == (SiteState.DRAINED, "site-offline")
    assert site_faults(view)


async def test_whose_a_child_is() -> None:
    site = FakeSite()
    ours = service(SETTINGS, site.parts())
    here = await ours.owner("child-1")
    assert (here["Here"], here["Shard"], here["Gateway"], here["Token"]) == (
        True,
        1,
        "gateway-b",
        6,
    )
    site.elsewhere = Reason("owned-by-another", "It is owned by gateway-b.", "Go there.")
    there = await ours.owner("child-1")
    assert (there["Here"], there["Explanation"], there["CloudId"]) == (
        False, "It is owned by gateway-b.", "pump/p7",
    )  # fmt: skip
    with pytest.raises(WrongState, match="no name at a cloud"):
        await ours.owner("child-2")


@pytest.mark.parametrize(("share", "mode"), [("", SiteMode.ALONE), ("1/1", SiteMode.SHARE)])
async def test_a_gateway_without_etcd(share: str, mode: SiteMode) -> None:
    ours = service(SiteSettings(share=share), None)
    assert (ours.view().mode, ours.view().share, ours.view().state) == (mode, share, "ready")
    found = await ours.owner("child-1")
    assert found["Here"]
    assert "Shard" not in found
    with pytest.raises(NotSupported, match="set endpoints"):
        await ours.drain({}, "olga")
    with pytest.raises(NotSupported, match="set endpoints"):
        await ours.harm_of("Drain")
    await ours.run(lambda: None)  # ends at once


async def test_since_when_etcd_does_not_answer() -> None:
    site = FakeSite()
    ours, changes = service(SETTINGS, site.parts()), asyncio.Event()
    running = asyncio.create_task(ours.run(changes.set))
    await asyncio.wait_for(changes.wait(), 60)
    changes.clear()
    assert ours.view().lost_at == 0
    site.seen = replace(SEEN, reachable=False)
    assert (ours.view().lost_at, ours.view().quorum) == (NOW, False)
    await asyncio.wait_for(changes.wait(), 60)
    await cancel_and_wait({running})
    site.seen = SEEN
    assert ours.view().lost_at == 0
