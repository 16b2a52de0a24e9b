"""`gatewayctl site`, in words, and over a real bus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gatewayd.cli.output.terminal import Terminal
from gatewayd.cli.site import status_lines
from gatewayd.dbus.interfaces import load
from gatewayd.dbus.methods import SITE_METHODS
from gatewayd.dbus.names import OWN_SITE, SITE
from gatewayd.dbus.objects import ExportedObject, read_site
from gatewayd.device.reason import Reason
from gatewayd.device.views import (
    GatewayStanding,
    ShardView,
    SiteGatewayView,
    SiteMode,
    SiteState,
    SiteView,
)
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, served
from tests.support.gatewayctl import ctl

LIVE, GONE = GatewayStanding.LIVE, GatewayStanding.GONE
PLANT = SiteView(
    mode=SiteMode.ETCD, name="plant", gateway="a", left=9, owned=33, taken_over=31,
    fingerprint="AA", site_fingerprint="SS", epoch=2, replicated=120,
    shards=(ShardView(0, "a", 5), ShardView(1)),
    gateways=(
        SiteGatewayView("a", LIVE, "1.0", "AA", 33), SiteGatewayView("b", GONE, "", "BB", 31),
    ),
)  # fmt: skip
LOST = SiteView(
    mode=SiteMode.ETCD, state=SiteState.NO_QUORUM, name="plant", gateway="a", lost_at=1, left=3,
    reason=Reason("site-no-quorum", "etcd does not answer.", "Start it."), unwritten=2,
    replication_fault="It is full.", contested=2, yielded=1,
)  # fmt: skip


def properties(view: SiteView) -> Mapping[str, Any]:
    """The properties of a view, as D-Bus returns them."""
    return {name: read_site(view, name) for name in load(SITE).properties}


def lines(view: SiteView, *, shards: bool = False) -> list[str]:
    return list(status_lines(properties(view), Terminal(), shards=shards))


def test_a_site_in_order() -> None:
    assert lines(PLANT, shards=True) == [
        "Site plant: ready",
        "This gateway: a, fingerprint AA",
        "Fingerprint of the site: SS, key 2",
        "etcd answers; without it this gateway would go on for 9 s",
        "Shards: 33 here, 31 taken over from gateways that were gone",
        "Children in etcd, of those known here: 120",
        "",
        "GATEWAY  STATE  SHARDS  VERSION  FINGERPRINT",
        "a        live   33      1.0      AA",
        "b        gone   31      -        BB",
        "",
        "SHARD  GATEWAY  TOKEN",
        "0      a        5",
        "1      -        -",
    ]


def test_a_site_without_quorum() -> None:
    printed = lines(LOST)
    assert printed[:3] == [
        "Site plant: no-quorum", "Why: etcd does not answer.", "What to do: Start it.",
    ]  # fmt: skip
    assert printed[5].startswith("etcd does not answer since ")
    assert printed[5].endswith("; this gateway goes on for 3 s")
    assert "Children in etcd, of those known here: 0, 2 changes wait" in printed
    assert "  It is full." in printed
    assert "The gateways, as they were then:" in printed
    assert printed[-1] == (
        "2 children seem to be logged in elsewhere, too, 1 left to it: "
        "see gatewayctl explain of each"
    )


def test_a_site_that_was_not_read_yet() -> None:
    starting = SiteView(mode=SiteMode.ETCD, state=SiteState.STARTING, name="plant", gateway="a")
    assert "etcd has not answered yet" in lines(starting)


@pytest.mark.parametrize(("view", "said"), [
    (SiteView(), "This gateway has its site for itself."),
    (SiteView(mode=SiteMode.SHARE, share="1/3"),
     "This gateway has share 1/3 of the children of its site."),
])  # fmt: skip
def test_a_gateway_without_etcd(view: SiteView, said: str) -> None:
    assert lines(view) == [said]


class RecordingSite:
    """Commands on a site that record their calls."""

    def __init__(self, *, here: bool = False) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.here = here
        self.harm: tuple[str, ...] = ()

    async def owner(self, device: str) -> Mapping[str, str | int | bool]:
        who = {"Gateway": "a" if self.here else "b", "Shard": 7, "Token": 9}
        why = "This gateway has its shard." if self.here else "It is owned by b."
        remedy = "" if self.here else "Run this there."
        return {"Id": device, "CloudId": "pump/p7", "Here": self.here, "Reason": "",
                "Explanation": why, "Remedy": remedy, **who}  # fmt: skip

    async def found(self, caller: str) -> str:
        self.asked.append(("found",))
        return "SS"

    async def join(self, fingerprint: str, caller: str) -> None:
        self.asked.append(("join", fingerprint))

    async def accept(self, gateway: str, fingerprint: str, caller: str) -> None:
        self.asked.append(("accept", gateway, fingerprint))

    async def remove(self, gateway: str, caller: str) -> None:
        self.asked.append(("remove", gateway))

    async def harm_of(self, command: str) -> tuple[str, ...]:
        return self.harm

    async def drain(self, options: Mapping[str, object], caller: str) -> None:
        self.asked.append(("drain", options["offline"]))

    async def resume(self, caller: str) -> None:
        self.asked.append(("resume",))


@pytest.mark.integration
async def test_the_commands_over_a_bus(bus: PrivateBus) -> None:
    site = RecordingSite()
    served_site = ExportedObject(OWN_SITE, PLANT, SITE_METHODS.bind(site))
    async with served(bus, RecordingCommands(), further=(served_site,)):
        status, printed = await ctl(bus, "site", "status")
        assert (status, printed.splitlines()[0]) == (0, "Site plant: ready")
        status, printed = await ctl(bus, "site", "owner", "child-1")
        assert (status, printed.splitlines()) == (0, [
            "child-1 (pump/p7) is owned by b.", "Why: It is owned by b.",
            "What to do: Run this there.", "Shard: 7, token 9",
        ])  # fmt: skip
        site.here = True
        _, printed = await ctl(bus, "site", "owner", "child-1")
        assert printed.splitlines()[0] == "child-1 (pump/p7) is owned by this gateway."
        assert await ctl(bus, "site", "found") == (0, "Fingerprint of the site: SS\n")
        for words in (("join", "SS"), ("accept", "b", "BB"), ("remove", "b", "--yes"), ("drain",),
                      ("resume",)):  # fmt: skip
            assert await ctl(bus, "site", *words) == (0, "")
        status, printed = await ctl(bus, "site", "remove", "b")
        assert status == 1
        assert "Use --yes" in printed
        site.harm = ("No other gateway lives.",)
        status, printed = await ctl(bus, "site", "drain")
        assert (status, "No other gateway lives. Use --yes" in printed) == (1, True)
        assert await ctl(bus, "site", "drain", "--yes") == (0, "")
    assert site.asked == [
        ("found",), ("join", "SS"), ("accept", "b", "BB"), ("remove", "b"), ("drain", False),
        ("resume",), ("drain", True),
    ]  # fmt: skip
