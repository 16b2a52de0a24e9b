"""Which children of a gateway have their commands subscribed to: there is room for some only."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import chain, islice

from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.command_router import ChildCommands
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkDown, NoAnswer
from gatewayd.runtime.tasks import BackgroundTask

log = logging.getLogger(__name__)

COMMANDED = 11
"""Children whose commands are subscribed to.  A gateway may have 100 topics ("Limits"): 22 are for
itself, 10 for the end of children (see WATCHED), and 6 for each of these."""
AGAIN = 60.0
"""Seconds after which a request that the cloud has not answered is made again."""


class CommandSubscriptions(BackgroundTask):
    """The subscriptions to commands of a gateway's children, over its newest session.

    Those that expect commands have them, and then others, in the order in which they came; one that
    leaves makes room for the next.  The cloud subscribes devices to most of these topics by itself
    ("Auto-subscribed topics"); whether it does so for children of a gateway, it does not say.  So a
    child without room is not refused anything, and what arrives for it is handled as for any other.

    Over a new session of the gateway all of it is subscribed to again, for children whose sessions
    were handed over; others want it when they are back.
    """

    def __init__(self, link: GatewayLink[AlibabaUplink]) -> None:
        super().__init__(self._update)
        self._link = link
        self._expected: dict[SubName, None] = {}
        self._others: dict[SubName, None] = {}
        self._uplink: AlibabaUplink | None = None
        self._changed, self._has_warned = asyncio.Event(), False
        self._subscribed: set[SubName] = set()
        self._refused: set[SubName] = set()

    def want(self, child: SubName, commands: ChildCommands) -> None:
        """Subscribe to the commands of a child, or not any more; soon."""
        for wanted in (self._expected, self._others):
            wanted.pop(child, None)
        self._refused.discard(child)
        if commands.handler is not None:
            (self._expected if commands.expected else self._others)[child] = None
            if len(self._expected) > COMMANDED and not self._has_warned:
                self._has_warned = True
                log.warning(
                    "More than %d children of the gateway may get commands, for which there is no "
                    "room; whether %s and later ones do, is left to the cloud.",
                    COMMANDED,
                    child.device,
                )
        self.begin()

    def begin(self) -> None:
        """Have all subscriptions as is wanted, soon: after a change, or over a new session."""
        self._changed.set()
        super().begin()

    async def _update(self) -> None:
        """Have all subscriptions as they are wanted; without a session that waits for the next."""
        with suppress(LinkDown):
            while not await self._change():
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):
                        await self._changed.wait()

    async def _change(self) -> bool:
        """Change one subscription after another; return whether all were answered.

        Raises LinkDown.
        """
        self._changed.clear()
        uplink = self._newest()
        while (child := self._next()) is not None:
            subscribed = child in self._subscribed
            self._subscribed.discard(child)
            try:
                if subscribed:
                    await uplink.unsubscribe_from_commands(child)
                elif await uplink.subscribe_to_commands(child):
                    self._subscribed.add(child)
                else:
                    self._refused.add(child)
            except NoAnswer:
                if subscribed:
                    self._subscribed.add(child)
                return False
            uplink = self._newest()
        return True

    def _newest(self) -> AlibabaUplink:
        """Return the gateway's session.  Raises NotSent."""
        uplink = self._link.get()
        if uplink is not self._uplink:
            self._uplink = uplink
            self._subscribed.clear()
            self._refused.clear()
        return uplink

    def _next(self) -> SubName | None:
        """Return a child whose subscription is to change; None where all are as wanted."""
        due = dict.fromkeys(islice(chain(self._expected, self._others), COMMANDED))
        leaving = (child for child in self._subscribed if child not in due)
        coming = (one for one in due if one not in self._subscribed and one not in self._refused)
        return next(chain(leaving, coming), None)
