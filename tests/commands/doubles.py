"""Doubles of the two neighbours of the relay of commands: a session and the doors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.provider import CommandHandler, SessionEnd
from gatewayd.commands.door import DoorCommand
from gatewayd.commands.relay import CommandRelay
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.identity import DeviceId
from gatewayd.runtime.clock import Clock

ALICE, BOB = DeviceId("child-a"), DeviceId("child-b")


class CommandedSession:
    """A session over which a test sends commands.  acknowledges: whether answers arrive."""

    def __init__(self) -> None:
        self.handler: CommandHandler | None = None
        self.answers: list[tuple[str, CommandAnswer]] = []
        self.acknowledges, self.fails = True, False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def receive_commands(self, handler: CommandHandler | None) -> None:
        self.handler = handler

    async def answer(self, command: ChildCommand, answer: CommandAnswer) -> bool:
        await self.may_answer.wait()
        if self.fails:
            raise OSError("a fault of the plug-in")
        self.answers.append((command.identifier, answer))
        return self.acknowledges

    async def wait_closed(self) -> SessionEnd:
        raise NotImplementedError

    async def close(self) -> None: ...

    def send(self, command: ChildCommand) -> None:
        assert self.handler is not None, "nothing receives commands"
        self.handler(command)

    @property
    def outcomes(self) -> list[tuple[str, CommandOutcome]]:
        return [(identifier, answer.outcome) for identifier, answer in self.answers]


@dataclass
class RecordedDoors:
    """Doors that record what is sent; each command ends at once where `at_once` says how."""

    at_once: CommandAnswer | None = None
    sent: list[DoorCommand] = field(default_factory=list)
    ended: list[DoorCommand] = field(default_factory=list)

    def send(self, command: DoorCommand) -> None:
        self.sent.append(command)
        if self.at_once is not None:
            command.concluded(self.at_once)

    def end(self, command: DoorCommand) -> None:
        self.ended.append(command)


def command(
    identifier: str = "1",
    kind: CommandKind = CommandKind.SERVICE,
    *,
    seconds: float = 20.0,
    arguments: Mapping[str, object] | None = None,
    **more: Any,
) -> ChildCommand:
    """Make a command, as Huawei's are: the identifier is in both topics."""
    facts: dict[str, Any] = {
        "name": "reboot",
        "topic": f"sys/commands/request_id={identifier}",
        "payload": b'{"paras":{}}',
        "reply_topic": f"sys/commands/response/request_id={identifier}",
        **more,
    }
    return ChildCommand(identifier, kind, arguments=arguments or {}, seconds=seconds, **facts)


class OwnForm:
    """The form of answers of the commands that `command` makes, and with an id as at Alibaba."""

    def is_answer(self, topic: str) -> bool:
        return topic.startswith("sys/commands/response/")

    identifier_in = staticmethod(Alibaba.identifier_in)

    def is_success(self, _: ChildCommand, payload: bytes) -> bool:
        return b'"result_code":1' not in payload


FORM = OwnForm()


@dataclass
class Relayed:
    """A relay between a session of ALICE and doors.  steps, payloads: what the tap was shown."""

    allowed: bool = True
    session: CommandedSession = field(default_factory=CommandedSession)
    doors: RecordedDoors = field(default_factory=RecordedDoors)
    steps: list[tuple[str, str]] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    offset: float = 0.0  # of the clock

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        clock = Clock(lambda: loop.time() + self.offset, lambda: 1_800_000_000_000_000)
        self.relay = CommandRelay(lambda *_: self.allowed, 3600.0, clock, self._show, self._form)
        self.relay.connect(self.doors)
        self.relay.session_opened(ALICE, self.session)

    def _show(
        self, child: DeviceId, step: str, topic: str, payload: bytes = b"", **more: str | int
    ) -> None:
        self.steps.append((child, step))
        self.payloads.append(payload)

    def _form(self, child: DeviceId) -> OwnForm | None:
        return FORM if child in (ALICE, BOB) else None

    async def settle(self) -> None:
        """Let what was begun go as far as it can."""
        for _ in range(10):
            await asyncio.sleep(0)
