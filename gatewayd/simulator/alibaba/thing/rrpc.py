"""RRPCs of an operator: a device answers bytes in any form by bytes in any form, at once or never.

Sources: the vendor's pages "What is RRPC?" (help.aliyun.com/document_detail/90567), "Call custom
topics" (90570), and that on its call RRpc (69797): it waits for 8 seconds at most.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from gatewayd.simulator.alibaba import topics
from gatewayd.simulator.alibaba.devices import Name

FIRST = 1_213_074_105_461_474_816
"""The identifier of the first: theirs are numbers of 19 digits."""
LONGEST = 8.0
"""Seconds that a call may wait."""
MAX_WAITING = 1_000
"""RRPCs without an answer, at most."""


class Rrpcs:
    """The sender of RRPCs.

    push: sends a device a message on a topic; returns whether it has subscribed to it.
    is_extended: whether a device takes them on topics of their own; others get them on the general
    topic.
    """

    def __init__(
        self, push: Callable[[Name, str, bytes], bool], is_extended: Callable[[Name], bool]
    ) -> None:
        self._push, self._is_extended = push, is_extended
        self._numbers = itertools.count(FIRST)
        self._waiting: dict[tuple[Name, str], asyncio.Future[bytes]] = {}

    def next_id(self) -> str:
        """Return an identifier, unlike any other."""
        return str(next(self._numbers))

    async def call(
        self, device: Name, payload: bytes, rest: str = "", seconds: float = LONGEST
    ) -> bytes:
        """Call a device; return its answer.

        rest: of a topic that a user has defined, as `user/get`; "" for the general topic.
        Raises ConnectionError for a device that does not receive it, TimeoutError, OverflowError.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise OverflowError
        number = self.next_id()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[device, number] = answer
        try:
            topic = topics.rrpc(device, number, rest if self._is_extended(device) else "")
            if not self._push(device, topic, payload):
                raise ConnectionError("The device is offline, or has not subscribed to RRPCs.")
            async with asyncio.timeout(min(seconds, LONGEST)):
                return await answer
        finally:
            del self._waiting[device, number]

    def answered(self, device: Name, number: str, payload: bytes) -> bool:
        """Receive an answer; return whether it was waited for."""
        answer = self._waiting.get((device, number))
        if answer is None or answer.done():
            return False
        answer.set_result(payload)
        return True
