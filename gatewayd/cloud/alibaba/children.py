"""The gateway's side of its sub-devices: what their routes have in common, joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.cloud.alibaba import child_reasons
from gatewayd.cloud.alibaba.calls import Calls
from gatewayd.cloud.alibaba.checkup import Checkup
from gatewayd.cloud.alibaba.ears import Ears
from gatewayd.cloud.alibaba.entries import sub_name
from gatewayd.cloud.alibaba.family import Family, Signing
from gatewayd.cloud.alibaba.finds import Finds
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaSettings
from gatewayd.cloud.alibaba.uplink import Link
from gatewayd.cloud.alibaba.watch import Watch
from gatewayd.cloud.provider import Requests
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName


@dataclass(frozen=True, slots=True)
class Time:
    """now: seconds of a steady clock.  wall: seconds since the epoch."""

    now: Callable[[], float]
    wall: Callable[[], float]


class Children:
    """All children of one gateway.

    provider: its name in the configuration.  own: the gateway.
    ails: why the gateway is not logged in; None where that is not known.
    """

    def __init__(
        self, provider: str, settings: AlibabaSettings, own: AlibabaGateway, link: Link, time: Time
    ) -> None:
        self._device, self._tells = f"gateway-{provider}", own.tell_found
        self.calls = Calls(link, time.now)
        signing = Signing(settings.sign_method, time.wall)
        self.family = Family(self.calls, signing, own.children, time.now)
        self._finds = Finds(self.calls.tell_found)
        self._checkup = Checkup(self.family, time.now)
        self._ears = Ears(provider, self.family, self._checkup, settings.products, own.children)
        self._watch = Watch(link, self._ears, self._ears.call_back, own.children)
        self.ails: Reason | None = None

    def listen(self, requests: Requests) -> None:
        """Tell somebody what the cloud asks for, from now on."""
        self._ears.requests = requests

    def look(self) -> None:
        """Take notice of the gateway's new session."""
        self.ails = None
        self._watch.look()

    async def obstacle(self, name: CloudName) -> Reason | None:
        """Tell why the cloud cannot be asked for this child now, after a short wait."""
        if (pause := self.family.pauses.reason(sub_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Tell why the gateway is not online, after a short wait; None if it is."""
        if await self._watch.up(name) is None:
            return child_reasons.gateway_offline(self._device, self.ails)
        return None

    def found(self, name: CloudName) -> None:
        """Tell the cloud of a child that waits, where the configuration says so."""
        if self._tells:
            self._finds.tell(sub_name(name))

    async def close(self) -> None:
        """End what is under way."""
        await self._finds.close()
        await self._watch.close()
        await self._checkup.close()
        await self.family.close()
