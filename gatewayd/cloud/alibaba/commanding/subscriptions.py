"""Which children of a gateway have their commands subscribed to: there is room for some only."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import chain, islice

from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkError
from gatewayd.runtime.tasks import BackgroundTask

log = logging.getLogger(__name__)

COMMANDED = 13
"""Children whose commands are subscribed to.  A gateway may have 100 topics ("Limits"): 21 are for
itself, 10 for the end of children (see WATCHED), and 5 for each of these."""


class CommandSubscriptions(BackgroundTask):
    """The subscriptions to commands of a gateway's children, over its newest session.

    The first that want commands have them; one that leaves makes room for the next.  The cloud
    subscribes devices to most of these topics by itself ("Auto-subscribed topics"); whether it does
    so for children of a gateway, it does not say.  So a child without room is not refused anything,
    and what arrives for it is handled as for any other.

    Over a new session of the gateway all of it is subscribed to again, for children whose sessions
    were handed over; others want it when they are back.
    """

    def __init__(self, link: GatewayLink[AlibabaUplink]) -> None:
        super().__init__(self._update)
        self._link = link
        self._wanted: dict[SubName, None] = {}
        self._uplink: AlibabaUplink | None = None
        self._subscribed: set[SubName] = set()

    def want(self, child: SubName, *, wanted: bool) -> None:
        """Subscribe to the commands of a child, or not any more; soon."""
        if wanted:
            self._wanted[child] = None
            if len(self._wanted) == COMMANDED + 1:
                log.warning(
                    "More than %d children of the gateway are to get commands, for which there is "
                    "no room; whether %s and later ones do, is left to the cloud.",
                    COMMANDED,
                    child.device,
                )
        else:
            self._wanted.pop(child, None)
        self.begin()

    async def _update(self) -> None:
        """Change one subscription after another, until all are as they are wanted."""
        with suppress(LinkError):
            uplink = self._newest()
            while (child := self._next()) is not None:
                subscribed = child in self._subscribed
                self._subscribed.discard(child)
                if subscribed:
                    await uplink.unsubscribe_from_commands(child)
                else:
                    await uplink.subscribe_to_commands(child)
                    self._subscribed.add(child)
                uplink = self._newest()

    def _newest(self) -> AlibabaUplink:
        """Return the gateway's session.  Raises NotSent."""
        uplink = self._link.get()
        if uplink is not self._uplink:
            self._uplink = uplink
            self._subscribed.clear()
        return uplink

    def _next(self) -> SubName | None:
        """Return a child whose subscription is to change; None where all are as wanted."""
        due = dict.fromkeys(islice(self._wanted, COMMANDED))
        leaving = (child for child in self._subscribed if child not in due)
        coming = (child for child in due if child not in self._subscribed)
        return next(chain(leaving, coming), None)
