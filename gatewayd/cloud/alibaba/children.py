"""The gateway's side of its sub-devices: what their routes have in common, joined."""

from __future__ import annotations

from gatewayd.cloud.alibaba.calls import Calls
from gatewayd.cloud.alibaba.checkup import Checkup
from gatewayd.cloud.alibaba.ears import Ears
from gatewayd.cloud.alibaba.entries import sub_name
from gatewayd.cloud.alibaba.family import Family, Signing
from gatewayd.cloud.alibaba.finds import Finds
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaSettings
from gatewayd.cloud.alibaba.uplink import Uplink
from gatewayd.cloud.provider import Requests
from gatewayd.cloud.subdevices.link import Link
from gatewayd.cloud.subdevices.watch import Watch
from gatewayd.cloud.times import Time
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName


class Children:
    """All children of one gateway.

    provider: its name in the configuration.  own: the gateway.
    """

    def __init__(
        self,
        provider: str,
        settings: AlibabaSettings,
        own: AlibabaGateway,
        link: Link[Uplink],
        time: Time,
    ) -> None:
        self._tells = own.tell_found
        self.calls = Calls(link, time.now)
        signing = Signing(settings.sign_method, time.wall)
        self.family = Family(self.calls, signing, own.children, time.now)
        self._finds = Finds(self.calls.tell_found)
        self._checkup = Checkup(self.family, time.now)
        self._ears = Ears(provider, self.family, self._checkup, settings.products, own.children)
        self._watch = Watch(provider, link, self._ears, own.children)

    def listen(self, requests: Requests) -> None:
        """Tell somebody what the cloud asks for, from now on."""
        self._ears.requests = requests

    def look(self) -> None:
        """Take notice of the gateway's new session."""
        self._watch.look()

    def tell(self, ails: Reason | None) -> None:
        """Let the children say what ails the gateway; None where that is not known."""
        self._watch.ails = ails

    async def obstacle(self, name: CloudName) -> Reason | None:
        """Tell why the cloud cannot be asked for this child now, after a short wait."""
        if (pause := self.family.pauses.reason(sub_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Tell why the gateway is not online, after a short wait; None if it is."""
        return await self._watch.offline(name)

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
