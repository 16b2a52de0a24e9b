"""Causes to call an operator: when each of them begins, and when it is over.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.device.views import GatewayStanding, SiteView
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.settings import NoticeSettings

MICRO = 1_000_000
DAY = 86_400
RESTART = 300.0
"""Seconds for which at least a cause has to be gone after a restart, until it is over: a gateway
that starts has yet to see its children, and to reach its clouds."""
SLACK = 10
"""Percent by which the outbox has to be emptier than where it was noticed, until that is over."""

_BAD_CLOUD = ("degraded", "failed")


class Cause(StrEnum):
    """A cause: its word is the name of a file, and the instance of the operator's unit."""

    PENDING = "pending"
    CLOUD = "cloud"
    CERTIFICATE = "certificate"
    STORE = "store"
    OUTBOX = "outbox"
    SITE = "site"


class Subject(NamedTuple):
    """What a cause is about.  name: of a cloud, or the state of the store; "" for all else."""

    cause: Cause
    name: str = ""


class PendingChildren:
    """Since when each child waits for an operator, by what was seen of it while this runs."""

    def __init__(self) -> None:
        self._since: dict[DeviceId, float] = {}

    def update(self, figures: GatewayFigures, now: float) -> None:
        """Note who waits now.

        One that is judged again, as its announcement has changed, goes on waiting.
        now: seconds of a steady clock.
        """
        before = self._since
        judged = {one: before[one] for one in figures.discovered if one in before}
        self._since = {one: before.get(one, now) for one in figures.pending} | judged

    def longer(self, seconds: float, now: float) -> int:
        """Return how many wait for so long, or longer."""
        return sum(now - since >= seconds for since in self._since.values())


def found(
    figures: GatewayFigures,
    waiting: int,
    settings: NoticeSettings,
    standing: Collection[Subject] = (),
) -> Iterator[tuple[Subject, str]]:
    """Yield what is so now, each with a sentence.

    waiting: how many children are pending for too long.  standing: what was noticed before.
    """
    if waiting:
        children = "1 child waits" if waiting == 1 else f"{waiting} children wait"
        yield (
            Subject(Cause.PENDING),
            (f"{children} for an operator. See gatewayctl list --state pending"),
        )
    for cloud in figures.clouds:
        if cloud.state in _BAD_CLOUD:
            why = " ".join(filter(None, (cloud.explanation or cloud.reason, cloud.remedy)))
            yield Subject(Cause.CLOUD, cloud.id), f"Cloud {cloud.id} is {cloud.state}: {why}"
        left = (cloud.certificate_expiry - figures.now) / MICRO / DAY
        if cloud.certificate_expiry and left < settings.certificate_days:
            day = datetime.fromtimestamp(cloud.certificate_expiry / MICRO, UTC)
            yield (
                Subject(Cause.CERTIFICATE, cloud.id),
                (f"A certificate for cloud {cloud.id} expires on {day:%Y-%m-%d}"),
            )
    if figures.store != "unsealed":
        yield (
            Subject(Cause.STORE, figures.store),
            f"The secret store is {figures.store}: {figures.explanation}",
        )
    used, capacity = figures.messages.total.bytes, figures.messages.capacity
    outbox = Subject(Cause.OUTBOX)
    bound = settings.outbox_percent - (SLACK if outbox in standing else 0)
    if capacity and 100 * used > bound * capacity:
        yield outbox, (f"The outbox is {100 * used // capacity} % full. See gatewayctl messages")
    yield from _of_site(figures.site)


def _of_site(site: SiteView) -> Iterator[tuple[Subject, str]]:
    """Yield what is wrong with the site, and with its children's names."""
    if site.troubled:
        yield Subject(Cause.SITE, site.state), f"Site {site.name}: {site.reason}"
    for one in (one for one in site.gateways if one.name != site.gateway):
        if one.standing is GatewayStanding.GONE:
            text = f"Gateway {one.name} of site {site.name} is gone. See gatewayctl site status"
            yield Subject(Cause.SITE, f"gone {one.name}"), text
        if one.standing is GatewayStanding.WAITING:
            text = f"Gateway {one.name} wants to join site {site.name}. See gatewayctl site status"
            yield Subject(Cause.SITE, f"waiting {one.name}"), text
    if site.contested:
        children = "1 child seems" if site.contested == 1 else f"{site.contested} children seem"
        text = f"{children} to be logged in elsewhere, too. See gatewayctl site status"
        yield Subject(Cause.SITE, "contested"), text


@dataclass(slots=True)
class StandingCauses:
    """What stands: noticed once, and over once it has been gone for a while.

    hold: seconds for which something must be so, or not, until that counts.
    standing: what was noticed.  earlier: what of it by an earlier run, and was not so since.
    """

    hold: float
    standing: set[Subject] = field(default_factory=set)
    earlier: set[Subject] = field(default_factory=set)
    texts: dict[Subject, str] = field(default_factory=dict)
    _changing: dict[Subject, float] = field(default_factory=dict)

    def inherit(self, subjects: Iterable[Subject]) -> None:
        """Take what an earlier run has noticed."""
        self.earlier.update(subjects)
        self.standing |= self.earlier

    def update(self, now_so: Mapping[Subject, str], now: float) -> set[Subject]:
        """Note what is so now; return what has to be noticed.  now: seconds of a steady clock."""
        self.texts.update(now_so)
        self.earlier -= now_so.keys()
        differs = now_so.keys() ^ self.standing
        self._changing = {one: self._changing.get(one, now) for one in differs}
        due = {one for one, since in self._changing.items() if now - since >= self._hold(one)}
        begun = due - self.standing
        self.standing ^= due
        self.earlier &= self.standing
        known = self.standing | now_so.keys()
        self.texts = {one: text for one, text in self.texts.items() if one in known}
        return begun

    def _hold(self, subject: Subject) -> float:
        return max(self.hold, RESTART) if subject in self.earlier else self.hold

    def lines(self, cause: Cause) -> list[str]:
        """Return the sentences of a cause that stands, in the order of what they are about."""
        subjects = sorted(one for one in self.standing if one.cause is cause)
        return [text for one in subjects if (text := self.texts.get(one))]


def causes(subjects: Iterable[Subject]) -> set[Cause]:
    """Return the causes of these."""
    return {one.cause for one in subjects}
