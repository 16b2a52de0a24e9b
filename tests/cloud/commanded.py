"""A child that does what its cloud wants, over a session of whatever cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud.provider import SupportsCommands
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind

Answer = Callable[[ChildCommand], CommandAnswer]


class ObedientChild:
    """A child that answers what its session receives.  received: all of that."""

    def __init__(self, session: object, answer: Answer) -> None:
        assert isinstance(session, SupportsCommands)
        self._session, self._answer = session, answer
        self.received: list[ChildCommand] = []
        self._answering: list[asyncio.Task[bool]] = []
        session.receive_commands(self._receive)

    def _receive(self, command: ChildCommand) -> None:
        self.received.append(command)
        if command.kind is not CommandKind.MESSAGE:
            answer = self._session.answer(command, self._answer(command))
            self._answering.append(asyncio.ensure_future(answer))

    async def acknowledged(self) -> list[bool]:
        """Return whether the cloud has acknowledged each answer."""
        return await asyncio.gather(*self._answering)
