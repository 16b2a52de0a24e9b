"""The path of commands in tests: a session, the relay of commands, and real doors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.commands.relay import CommandRelay
from gatewayd.device.command import ChildCommand, CommandAnswer
from gatewayd.device.secret import Secret
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors.access import DoorAccess
from gatewayd.messages.doors.doors import DoorParts, Doors
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.runtime.tasks import cancel_and_wait
from tests.commands.doubles import CommandedSession
from tests.messages.doors.intakes import CHILD, Children, Intake, until

MAC = "a8032abe54dc"
IDENTITIES = {ChildKey.ID: CHILD, ChildKey.NAME: "kitchen", ChildKey.MAC: MAC}


class OfBothClouds:
    """The answers of children, whatever their cloud: what a test sends says whose it is."""

    @staticmethod
    def is_answer(topic: str) -> bool:
        return Alibaba.is_answer(topic) or Huawei.is_answer(topic)

    identifier_in = staticmethod(Alibaba.identifier_in)
    is_success = staticmethod(Huawei.is_success)


class CommandPath:
    """The path from the session of CHILD to its device, with an intake for what is no answer.

    directory: for what doors keep.  sites, own: as of `Doors`.
    """

    def __init__(
        self, directory: Path, sites: Mapping[str, DoorSettings], own: DoorAccess | None = None
    ) -> None:
        clock = Clock(asyncio.get_running_loop().time, wall_time)
        self.intake, self.session = Intake(), CommandedSession()
        self.relay = CommandRelay(
            lambda *_: True, 3600.0, clock, lambda *_, **__: None, lambda _: OfBothClouds
        )
        known = dict.fromkeys(IDENTITIES.items(), CHILD)
        parts = DoorParts(
            self.intake, Children(known), clock, lambda *_: Secret(b""), "host", directory,
            answers=self.relay, identities=lambda _: IDENTITIES,
        )  # fmt: skip
        self.doors = Doors(parts, sites, own)
        self.relay.connect(self.doors)
        self.relay.session_opened(CHILD, self.session)

    async def answer(self, wanted: ChildCommand) -> CommandAnswer:
        """Send a command, and return how it is answered."""
        before = len(self.session.answers)
        self.session.send(wanted)
        return (await self.answered(before + 1))[-1][1]

    async def answered(self, count: int = 1) -> list[tuple[str, CommandAnswer]]:
        """Return all answers, once there are so many."""
        await until(lambda: len(self.session.answers) >= count, self.relay.statistics)
        return self.session.answers

    @property
    def states(self) -> set[str]:
        return {state for state, _, _ in self.doors.states().values()}

    @property
    def dropped(self) -> dict[str, int]:
        """What the only door has dropped."""
        ((_, _, dropped),) = self.doors.states().values()
        return dict(dropped)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CommandPath]:
        """Run it, from when all doors are connected."""
        tasks = [asyncio.create_task(service()) for service in self.doors.services()]
        try:
            await until(lambda: self.states == {"connected"}, self.doors.states)
            yield self
        finally:
            await cancel_and_wait(tasks)
            await self.relay.aclose()
