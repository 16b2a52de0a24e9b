"""Does what the platform tells of a gateway's children, or passes it on to whoever decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gatewayd.cloud.huawei.events import Notice, Status, Told
from gatewayd.cloud.huawei.family import Family
from gatewayd.cloud.huawei.names import default_device_id
from gatewayd.cloud.huawei.roster import Roster
from gatewayd.cloud.huawei.strays import Strays
from gatewayd.cloud.huawei.sync import Sync
from gatewayd.cloud.huawei.uplink import Uplink
from gatewayd.cloud.provider import Requests
from gatewayd.device.record import CloudName

_NEW = (Status.INACTIVE, Status.UNTOLD)


class Ears:
    """Listens to the link of one provider.

    products: those that children may have; none for any.
    requests: who decides; may be set at any time.
    """

    def __init__(
        self, provider: str, family: Family, roster: Roster, sync: Sync, products: Sequence[str]
    ) -> None:
        self._provider, self._products = provider, products
        self._family, self._roster, self._sync = family, roster, sync
        self._strays = Strays(roster, family.online)
        self._own = ""
        self.requests: Requests | None = None

    def link_up(self, uplink: Uplink) -> None:
        """Learn at once who belongs to the gateway, and report anew who was handed over."""
        self._own, uplink.on_notice = uplink.own, self.hear
        self._sync.begin()
        self._strays.begin()
        self._family.report_again()

    def link_lost(self) -> Iterable[CloudName]:
        """End every session, and return whose it was."""
        self._strays.stop()
        return self._family.end_all()

    def call_back(self, name: CloudName) -> None:
        """What kept a child from logging in is gone."""
        if self.requests is not None:
            self.requests.try_again(name)

    def hear(self, notice: Notice) -> None:
        """Take what the platform tells.  Never blocks, never raises."""
        if not self._sync.fresh(notice):
            return
        for told in notice.devices:
            if told.parent not in ("", self._own):
                continue  # a child of a child
            if notice.added:
                self._added(self._with_product(told))
            else:
                self._family.take(told.device_id)
        self._sync.heard()

    async def close(self) -> None:
        """End what is under way."""
        await self._strays.close()

    def _added(self, told: Told) -> None:
        """Learn of a child; one that nobody here has asked for, and that never was online, was
        created by somebody at the platform who wants it to join."""
        new = self._roster.learn(told) and told.status in _NEW
        allowed = told.product in (self._products or (told.product,))
        if new and told.product and told.node and allowed and self.requests is not None:
            self.requests.wanted(CloudName(self._provider, told.product, told.node))

    def _with_product(self, told: Told) -> Told:
        """Find the product of a child of which it is not told: its device ID may have it."""
        if told.product or not told.node:
            return told
        for product in self._products:
            if default_device_id(product, told.node) == told.device_id:
                return replace(told, product=product)
        return told
