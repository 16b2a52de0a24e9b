"""The site for operators: the port `OwnershipCommands`, and the view that D-Bus shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.views import Facts, SiteMode, SiteView
from gatewayd.errors import InvalidArgs, NotSupported, WrongState
from gatewayd.site.settings import SiteSettings
from gatewayd.site.shown import ShownCopies, ShownMembers, with_etcd, without_etcd
from gatewayd.site.snapshot import SiteSnapshot
from gatewayd.site.watch import SiteWatch

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the site."""

NO_ETCD = (
    "This gateway has no site on etcd: set endpoints and name in [site], then run systemctl "
    "restart gatewayd"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteParts:
    """What runs of a site on etcd, as operators use it.

    snapshot, members, copies: return what is so now.
    found: makes the site, and returns its fingerprint.  join: asks to be a member of the site with
    a fingerprint.  accept: lets a gateway in, by its name and fingerprint.  remove: by its name.
    drain, resume: have this gateway give up all shards, and have some again.
    shard_of: returns the shard of a child.
    elsewhere: returns why a child is not this gateway's, as `Ownership` has it.
    The commands raise CallerError, StoreError.
    """

    snapshot: Callable[[], SiteSnapshot]
    members: Callable[[], ShownMembers]
    copies: Callable[[], ShownCopies]
    found: Callable[[], Awaitable[str]]
    join: Callable[[str], Awaitable[None]]
    accept: Callable[[str, str], Awaitable[None]]
    remove: Callable[[str], Awaitable[None]]
    drain: Callable[[], Awaitable[None]]
    resume: Callable[[], Awaitable[None]]
    shard_of: Callable[[CloudName], int]
    elsewhere: Callable[[CloudName], Reason]


class SiteService:
    """The commands of operators on the site: the port `OwnershipCommands`.

    parts: None for a gateway without etcd.
    resolve: returns the id of the child that is meant; raises NoSuchDevice, AmbiguousId.
    name_of: returns what a child is called at its cloud, or would be; None where it has no name.
    known: returns what the children with a record here are called at their clouds.
    wall: microseconds since the epoch.
    """

    def __init__(
        self,
        settings: SiteSettings,
        parts: SiteParts | None,
        *,
        resolve: Callable[[str], DeviceId],
        name_of: Callable[[DeviceId], CloudName | None],
        known: Callable[[], Iterable[CloudName]],
        wall: Callable[[], int],
    ) -> None:
        self._settings, self._parts = settings, parts
        self._name_of, self._known, self._wall = name_of, known, wall
        self._elsewhere = parts.elsewhere if parts is not None else settings.ownership().elsewhere
        self._watch = SiteWatch()
        self.resolve = resolve

    def view(self) -> SiteView:
        """Return what is shown of the site now."""
        if self._parts is None:
            return without_etcd(self._settings)
        return self._view(self._parts.snapshot(), self._parts)

    def _view(self, seen: SiteSnapshot, parts: SiteParts) -> SiteView:
        answers = seen.reachable or not (seen.fault or seen.reading)
        lost_at = self._watch.heed(reachable=answers, now=self._wall())
        view = with_etcd(seen, parts.members(), parts.copies(), lost_at=lost_at)
        return replace(view, taken_over=self._watch.taken_over)

    async def run(self, changed: Callable[[], None]) -> None:
        """Log what happens to the site, until cancelled; at once where there is no etcd.

        changed: called when this gateway stands otherwise than before.
        """
        while self._parts is not None:
            seen = self._parts.snapshot()
            if self._watch.note(self._view(seen, self._parts), seen.reading):
                changed()
            await asyncio.sleep(LOOK)

    async def found(self, caller: str) -> str:
        fingerprint = await self._on_etcd().found()
        log.warning("The site %s was founded by %s.", self._settings.name, caller)
        return fingerprint

    async def join(self, fingerprint: str, caller: str) -> None:
        await self._on_etcd().join(fingerprint)
        log.warning("To join site %s was requested by %s.", self._settings.name, caller)

    async def accept(self, gateway: str, fingerprint: str, caller: str) -> None:
        await self._on_etcd().accept(gateway, fingerprint)
        log.warning("Gateway %s was let into the site by %s.", gateway, caller)

    async def remove(self, gateway: str, caller: str) -> None:
        await self._on_etcd().remove(gateway)
        log.warning("Gateway %s was removed from the site by %s.", gateway, caller)

    async def harm_of(self, command: str) -> Sequence[str]:
        if command != "Drain":
            raise InvalidArgs("Command must be Drain")
        seen = self._on_etcd().snapshot()
        return () if seen.draining or self.view().has_others else (self._if_offline(),)

    async def drain(self, options: Mapping[str, object], caller: str) -> None:
        offline = options.get("offline", False)
        if options.keys() - {"offline"} or not isinstance(offline, bool):
            raise InvalidArgs("Options are the boolean offline")
        if not offline and (refused := await self.harm_of("Drain")):
            raise WrongState(f"Not drained. {refused[0]} It is done with the option offline")
        log.warning("The drain of this gateway was requested by %s.", caller)
        await self._on_etcd().drain()

    def _if_offline(self) -> str:
        ours = sum(not self._elsewhere(name).code for name in self._known())
        children = "1 child" if ours == 1 else f"{ours} children"
        return (
            f"No other gateway of the site lives: {children} of this one would have none, and be "
            "offline until gatewayctl site resume."
        )

    async def resume(self, caller: str) -> None:
        await self._on_etcd().resume()
        log.warning("This gateway has children again, as %s has decided.", caller)

    async def owner(self, device: str) -> Facts:
        """Return which gateway has a child, and why."""
        found = self.resolve(device)
        name = self._name_of(found)
        if name is None:
            raise WrongState(f"Device {found} has no name at a cloud, so that it is no gateway's")
        reason = self._elsewhere(name)
        facts: dict[str, str | int | bool] = {
            "Id": found,
            "CloudId": f"{name.product}/{name.device}",
            "Here": not reason.code,
            "Reason": reason.code,
            "Explanation": reason.text or self._why_here(),
            "Remedy": reason.remedy,
        }
        return {**facts, **self._shard_facts(name)}

    def _shard_facts(self, name: CloudName) -> Facts:
        if self._parts is None:
            return {}
        shard, reading = self._parts.shard_of(name), self._parts.snapshot().reading
        owner = reading.owners.get(shard) if reading is not None else None
        return {
            "Shard": shard,
            "Gateway": owner.gateway if owner is not None else "",
            "Token": owner.token if owner is not None else 0,
        }

    def _why_here(self) -> str:
        match self.view().mode:
            case SiteMode.ALONE:
                return "This gateway has its site for itself."
            case SiteMode.SHARE:
                return f"It is in share {self._settings.share} of the site, which this gateway has."
            case SiteMode.ETCD:
                return "This gateway has its shard."

    def _on_etcd(self) -> SiteParts:
        if self._parts is None:
            raise NotSupported(NO_ETCD)
        return self._parts
