"""What keeps a message that is too large for the broker from being repeated for ever.

A broker says nothing about the packets that it does not accept: it closes the connection, as for
any other cause (mosquitto.conf(5), "max_packet_size").  So a large message which was under way
whenever a session ended, soon after it left, is given up; and where the largest one was under way,
none of the others can be the cause by its size.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Callable
from typing import Any

from gatewayd.cloud.mqtt_broker import reasons
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.provider import MessageAccepted, MessageRefused, Publication
from gatewayd.cloud.publisher import MessagePublisher
from gatewayd.device.message import Message

log = logging.getLogger(__name__)

LARGE = 1024
"""Bytes of a payload that a broker may not accept; below, no one configures a limit."""
SOON = 10.0
"""Seconds from a message to the end of the session that it may have caused."""
CUTS = 5
"""Sessions that a message may seem to have ended, until it is given up."""
MAX_SUSPECTS = 16


class LargeMessages:
    """What is known of the large messages of one child, from session to session."""

    def __init__(self) -> None:
        self._cut: dict[bytes, int] = {}
        self._cuts: dict[bytes, int] = {}
        self._limit = math.inf

    def begin(self) -> None:
        """Note that another session begins, and which message may have ended the one before.

        After one was given up, another that is as large is given up at once.
        """
        if not self._cut:
            return
        suspect = max(self._cut, key=lambda key: self._cut[key])
        certain = self._cut[suspect] >= self._limit
        self._cuts[suspect] = CUTS if certain else self._cuts.pop(suspect, 0) + 1
        if self._cuts[suspect] == CUTS:
            self._limit = min(self._limit, self._cut[suspect])
        if len(self._cuts) > MAX_SUSPECTS:
            del self._cuts[next(iter(self._cuts))]
        self._cut.clear()

    def cut(self, key: bytes, size: int) -> None:
        """Note that the session ended, and this was under way; of the others, the largest."""
        if len(self._cut) < MAX_SUSPECTS:
            self._cut[key] = size

    def accepted(self, key: bytes, size: int) -> None:
        """Note that the broker has one: it was none of the cause."""
        self._cuts.pop(key, None)
        if size >= self._limit:
            self._limit = math.inf

    def is_given_up(self, key: bytes) -> bool:
        """Whether a message is not to be sent again; then it is forgotten."""
        if self._cuts.get(key, 0) < CUTS:
            return False
        del self._cuts[key]
        return True


class CautiousPublisher:
    """A publisher that gives up what the broker cuts off.  Implements MessagePublisher.

    now: seconds of a steady clock.
    """

    def __init__(
        self, publisher: MessagePublisher, large: LargeMessages, now: Callable[[], float]
    ) -> None:
        self._publisher, self._large, self._now = publisher, large, now
        self.max_payload = publisher.max_payload
        large.begin()

    async def publish(self, message: Message, ended: asyncio.Future[Any]) -> Publication:
        """Publish a message once.  Raises Gone."""
        size, began = len(message.payload), self._now()
        if size < LARGE:
            return await self._publisher.publish(message, ended)
        key = hashlib.sha256(message.topic.encode() + b"\0" + message.payload).digest()
        if self._large.is_given_up(key):
            log.warning("The broker closes the connection on a message of %d bytes.", size)
            return MessageRefused(reasons.CUT_OFF)
        try:
            result = await self._publisher.publish(message, ended)
        except Gone as gone:
            if gone.left and self._now() - began < SOON:
                self._large.cut(key, size)
            raise
        if isinstance(result, MessageAccepted):
            self._large.accepted(key, size)
        return result
