"""Does what the cloud asks of a gateway, or passes it on to whoever decides."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable

from gatewayd.cloud.alibaba import calls, topics
from gatewayd.cloud.alibaba.checkup import Checkup
from gatewayd.cloud.alibaba.envelope import (
    Change,
    Downlink,
    ForcedOff,
    Ordered,
    PermitJoin,
    TopoChanged,
    TopoNotified,
)
from gatewayd.cloud.alibaba.family import Family
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.alibaba.uplink import Uplink
from gatewayd.cloud.provider import Requests
from gatewayd.device.record import CloudName

log = logging.getLogger(__name__)

DISABLED = 522
"""The code for a child that was disabled, in a login and in an error of the cloud."""


class Ears:
    """Listens to the link of one provider.

    products: those that are configured.  most: children named by one message that are heeded.
    requests: who decides; may be set at any time.
    """

    def __init__(
        self, provider: str, family: Family, checkup: Checkup, products: Container[str], most: int
    ) -> None:
        self._provider, self._family, self._checkup = provider, family, checkup
        self._products, self._most = products, most
        self.requests: Requests | None = None

    def link_up(self, uplink: Uplink) -> None:
        """Learn at once who belongs to the gateway."""
        uplink.on_request = self.hear
        self._family.topology.begin()

    def link_lost(self) -> Iterable[CloudName]:
        """End every session, and return whose it was."""
        self._checkup.stop()
        return self._family.end_all()

    def hear(self, downlink: Downlink) -> None:
        """Take what the cloud asks.  Never blocks, never raises."""
        match downlink:
            case TopoNotified(children):
                self._wanted(children[: self._most])
            case PermitJoin(seconds, product):
                self._permitted(seconds, product)
            case TopoChanged(change, children):
                self._changed(change, children[: self._most])
            case Ordered(order, child):
                self._ordered(order, child)
            case ForcedOff(code, None):
                log.warning("The cloud says that a child is not online (%d), not which.", code)
                self._checkup.begin()
            case ForcedOff(code, SubName() as child):
                self._family.force_off(child, calls.denial(code, topics.ERROR))

    def call_back(self, name: CloudName) -> None:
        """What kept a child from logging in is gone."""
        if self.requests is not None:
            self.requests.try_again(name)

    def _wanted(self, children: Iterable[SubName]) -> None:
        if self.requests is not None:
            for child in children:
                self.requests.wanted(self._name(child))

    def _permitted(self, seconds: int, product: str) -> None:
        """Pass on a permit, unless it is for a product whose children cannot join here."""
        if product and product not in self._products:
            log.warning("The cloud permits children of a product to join that is not configured.")
        elif self.requests is not None:
            self.requests.permit_join(self._provider, seconds)

    def _changed(self, change: Change, children: Iterable[SubName]) -> None:
        match change:
            case Change.UNKNOWN:
                self._family.topology.begin()
            case Change.CREATED:
                for child in children:
                    self._family.topology.add(child)
            case Change.DELETED:
                for child in children:
                    self._family.take(child)
            case Change.ENABLED:
                for child in children:
                    self._enabled(child)
            case Change.DISABLED:
                for child in children:
                    self._disabled(child)

    def _ordered(self, order: str, child: SubName) -> None:
        if order == topics.DELETE:
            self._family.take(child)
        elif order == topics.DISABLE:
            self._disabled(child)
        else:
            self._enabled(child)

    def _enabled(self, child: SubName) -> None:
        self._family.pauses.end(child)
        self.call_back(self._name(child))

    def _disabled(self, child: SubName) -> None:
        self._family.force_off(child, calls.denial(DISABLED, topics.ERROR))

    def _name(self, child: SubName) -> CloudName:
        return CloudName(self._provider, child.product, child.device)
