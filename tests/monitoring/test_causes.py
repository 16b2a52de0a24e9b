"""Causes to call an operator: when each begins, that it is noticed once, and when it is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.views import (
    GatewayStanding,
    MessageCounts,
    MessageStatistics,
    ProviderView,
    SiteGatewayView,
    SiteState,
    SiteView,
)
from gatewayd.monitoring.causes import (
    RESTART,
    Cause,
    PendingChildren,
    StandingCauses,
    Subject,
    found,
)
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.settings import NoticeSettings
from gatewayd.site.shown import OFFLINE

NOW, DAY = 1_764_500_000_000_000, 86_400_000_000
SETTINGS = NoticeSettings()
WELL = GatewayFigures(
    now=NOW, started=NOW, version="", state="running", store="unsealed",
    clouds=[ProviderView("ali", "alibaba", "", "ready", certificate_expiry=NOW + 15 * DAY)],
    messages=MessageStatistics(capacity=1000, total=MessageCounts(bytes=800)),
)  # fmt: skip
GONE, WAITING = GatewayStanding.GONE, GatewayStanding.WAITING
OUTBOX, PENDING = Subject(Cause.OUTBOX), Subject(Cause.PENDING)
ONE, TWO = DeviceId("child-1"), DeviceId("child-2")


def outbox(size: int) -> GatewayFigures:
    """A gateway whose outbox of 1,000 bytes has so many."""
    return replace(WELL, messages=replace(WELL.messages, total=MessageCounts(bytes=size)))


def site(**facts: Any) -> GatewayFigures:
    return replace(WELL, site=SiteView(name="plant", **facts))


def cloud(state: str, days: int = 0) -> ProviderView:
    expiry = NOW + days * DAY if days else 0
    return ProviderView("ali", "alibaba", "", state, "no-route", "No way.", "Repair it.",
                        certificate_expiry=expiry)  # fmt: skip


def causes_of(figures: GatewayFigures, waiting: int = 0) -> dict[str, str]:
    return {f"{s.cause} {s.name}".strip(): text for s, text in found(figures, waiting, SETTINGS)}


def test_a_gateway_that_is_well_notices_nothing() -> None:
    assert not causes_of(WELL)
    assert not causes_of(replace(WELL, messages=MessageStatistics()))


@pytest.mark.parametrize(("figures", "cause", "text"), [
    (replace(WELL, clouds=[cloud("degraded")]), "cloud ali",
     "Cloud ali is degraded: No way. Repair it."),
    (replace(WELL, clouds=[cloud("failed")]), "cloud ali",
     "Cloud ali is failed: No way. Repair it."),
    (replace(WELL, clouds=[cloud("ready", 13)]), "certificate ali",
     "A certificate for cloud ali expires on 2025-12-13"),
    (replace(WELL, clouds=[cloud("idle", -3)]), "certificate ali",
     "A certificate for cloud ali expires on 2025-11-27"),
    (replace(WELL, store="sealed", explanation="No key."), "store sealed",
     "The secret store is sealed: No key."),
    (outbox(801), "outbox", "The outbox is 80 % full. See gatewayctl messages"),
    (site(state=SiteState.STOPPED, reason=Reason("x", "It ended.", "Start it.")), "site stopped",
     "Site plant: It ended. Start it."),
    (site(gateways=(SiteGatewayView("b", GONE),)), "site gone b",
     "Gateway b of site plant is gone. See gatewayctl site status"),
    (site(state=SiteState.DRAINED, reason=OFFLINE), "site drained",
     f"Site plant: {OFFLINE}"),
    (site(gateways=(SiteGatewayView("b", WAITING),)), "site waiting b",
     "Gateway b wants to join site plant. See gatewayctl site status"),
    (site(contested=2), "site contested",
     "2 children seem to be logged in elsewhere, too. See gatewayctl site status"),
])  # fmt: skip
def test_each_cause_has_a_sentence(figures: GatewayFigures, cause: str, text: str) -> None:
    assert causes_of(figures) == {cause: text}


@pytest.mark.parametrize("state", ["idle", "ready", "connecting", "throttled"])
def test_a_cloud_that_is_on_its_way_is_no_cause(state: str) -> None:
    assert not causes_of(replace(WELL, clouds=[cloud(state)]))


def test_a_drain_is_no_cause_nor_is_what_the_state_says_of_this_gateway() -> None:
    other = (SiteGatewayView("b", GatewayStanding.LIVE),)
    assert not causes_of(site(state=SiteState.DRAINED, gateways=other))
    assert not causes_of(site(gateway="b", gateways=(SiteGatewayView("b", GONE),)))


def test_the_outbox_has_to_be_much_emptier_until_that_is_over() -> None:
    for size, standing, is_so in (
        (750, (), False),
        (750, (OUTBOX,), True),
        (700, (OUTBOX,), False),
    ):
        assert (OUTBOX in dict(found(outbox(size), 0, SETTINGS, standing))) == is_so


def test_children_that_wait_for_long() -> None:
    waiting = PendingChildren()
    waiting.update(replace(WELL, pending=[ONE]), 0.0)
    waiting.update(replace(WELL, pending=[TWO], discovered=[ONE]), 3000.0)  # judged again
    waiting.update(replace(WELL, pending=[ONE, TWO]), 3600.0)
    assert waiting.longer(3600.0, 3600.0) == 1
    assert causes_of(WELL, waiting=1)["pending"].startswith("1 child waits")
    waiting.update(replace(WELL, pending=[TWO]), 7000.0)
    assert waiting.longer(3600.0, 7000.0) == 1
    waiting.update(WELL, 7001.0)
    assert waiting.longer(0.0, 7001.0) == 0


def test_a_cause_is_noticed_once_while_it_stands() -> None:
    causes = StandingCauses(hold=300.0)
    so = {PENDING: "1 child waits"}
    assert not causes.update(so, 0.0)
    assert not causes.update(so, 299.0)
    assert causes.update(so, 300.0) == {PENDING}
    assert not any(causes.update(so, 300.0 + minute * 60) for minute in range(600))
    assert causes.lines(Cause.PENDING) == ["1 child waits"]


def test_what_comes_and_goes_is_one_cause() -> None:
    causes = StandingCauses(hold=300.0)
    noticed = [now for now in range(0, 36_000, 60) if causes.update(
        {OUTBOX: "full"} if now < 1200 or now % 120 else {}, float(now))]  # fmt: skip
    assert noticed == [300]


def test_a_flicker_is_none() -> None:
    causes = StandingCauses(hold=300.0)
    assert not any(causes.update({OUTBOX: "full"} if n % 4 else {}, n * 60.0) for n in range(600))


def test_what_is_over_may_begin_again() -> None:
    causes = StandingCauses(hold=10.0)
    for now, is_so, begun in ((0, True, False), (10, True, True), (20, False, False),
                              (29, False, False), (30, False, False), (31, True, False),
                              (41, True, True)):  # fmt: skip
        assert bool(causes.update({OUTBOX: "full"} if is_so else {}, now)) == begun
    assert causes.standing == {OUTBOX}


def test_another_cloud_is_another_notice() -> None:
    causes, one, two = StandingCauses(0.0), Subject(Cause.CLOUD, "a"), Subject(Cause.CLOUD, "b")
    assert causes.update({one: "A."}, 0) == {one}
    assert causes.update({one: "A.", two: "B."}, 1) == {two}
    assert causes.lines(Cause.CLOUD) == ["A.", "B."]
    assert causes.update({two: "B."}, 2) == set()
    assert causes.lines(Cause.CLOUD) == ["B."]


def test_an_earlier_run_has_noticed_already() -> None:
    causes = StandingCauses(5.0)
    causes.inherit({PENDING})
    assert not causes.update({PENDING: "1 child waits"}, 0)
    assert causes.lines(Cause.PENDING) == ["1 child waits"]
    causes.update({}, 1)
    causes.update({}, 6)
    assert not causes.standing


def test_after_a_restart_children_and_clouds_are_waited_for() -> None:
    causes = StandingCauses(5.0)
    causes.inherit({PENDING, OUTBOX})
    for now in (0.0, 6.0, RESTART - 1):
        assert not causes.update({}, now)
        assert causes.standing == {PENDING, OUTBOX}
    assert not causes.update({PENDING: "1 child waits"}, RESTART)
    assert causes.standing == {PENDING}
    assert not causes.update({PENDING: "1 child waits"}, RESTART + 9)


def test_a_store_that_is_sealed_is_another_notice_than_one_that_is_degraded() -> None:
    causes = StandingCauses(0.0)
    for now, state in enumerate(("degraded", "sealed", "sealed")):
        figures = replace(WELL, store=state, explanation="Why.")
        begun = causes.update(dict(found(figures, 0, SETTINGS)), now)
        assert bool(begun) == (now < 2)
