"""The gateway's side of its sub-devices: what its routes have in common, joined."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager

from gatewayd.cloud import mqtt
from gatewayd.cloud.huawei.calls import Calls
from gatewayd.cloud.huawei.ears import Ears
from gatewayd.cloud.huawei.events import node_name
from gatewayd.cloud.huawei.family import Family
from gatewayd.cloud.huawei.roster import Roster
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.sync import Sync
from gatewayd.cloud.huawei.uplink import Uplink
from gatewayd.cloud.provider import Requests
from gatewayd.cloud.subdevices.link import Link
from gatewayd.cloud.subdevices.watch import Watch
from gatewayd.cloud.times import REAL_TIME, Time
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName

PATIENCE, LEAVE = 5.0, 20.0
"""Seconds that the platform has to answer when the gateway leaves, and for all children together;
those that are not reported offline by then are when the gateway is back."""


class Children:
    """All children of one gateway.

    provider: its name in the configuration.  own: the gateway.  host: of the instance.
    random: so many bytes nobody can guess.
    """

    def __init__(
        self,
        provider: str,
        settings: HuaweiSettings,
        own: HuaweiGateway,
        time: Time = REAL_TIME,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._settings, self._own, self._time, self._random = settings, own, time, random
        self.host = settings.host
        self._link = Link[Uplink]()
        self.roster = Roster(own.children)
        sync = Sync(self._link, self.roster, settings.reply_timeout, time.now)
        calls = Calls(self._link, own.status_per_second, self.roster.report)
        self.family = Family(calls, self.roster, sync, time.now)
        self._ears = Ears(provider, self.family, self.roster, sync, settings.products)
        self._watch = Watch(provider, self._link, self._ears, own.children)

    def listen(self, requests: Requests) -> None:
        """Tell somebody what the platform asks for, from now on."""
        self._ears.requests = requests

    def uplink(self, connection: mqtt.Connection, device_id: str) -> Uplink:
        """Return the link that a connection of the gateway makes.  device_id: the gateway's."""
        timeout, rate = self._settings.reply_timeout, self._own.status_per_second
        return Uplink(device_id, connection, timeout, rate, self._time, self._random)

    def serve_over(self, uplink: Uplink) -> None:
        """Serve the children over the gateway's new session from now on."""
        self._link.put(uplink)
        self._watch.look()

    def tell(self, ails: Reason | None) -> None:
        """Let the children say what ails the gateway; None where that is not known.

        It may be a second login that fails: nothing ails a gateway that is online.
        """
        self._watch.ails = None if self._link.current else ails

    def handover(self) -> AbstractContextManager[None]:
        """Meanwhile the gateway logs in, perhaps in place of a session that it has."""
        return self._watch.handover()

    async def leave(self, uplink: Uplink) -> None:
        """Report all children offline, before the gateway closes this session of it.

        The platform would leave them online.  They are, where a newer session serves them.
        """
        if self._link.current is uplink:
            await self.family.online.leave(PATIENCE, LEAVE)

    async def obstacle(self, name: CloudName) -> Reason | None:
        """Tell why the platform cannot be asked for this child now, after a short wait."""
        if (pause := self.family.pauses.reason(node_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Tell why the gateway is not online, after a short wait; None if it is."""
        return await self._watch.offline(name)

    async def close(self) -> None:
        """End what is under way."""
        await self._watch.close()
        await self._ears.close()
        await self.family.close()
