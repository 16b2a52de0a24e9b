"""python3 -m script.benchmarks.message_relay FACTS: gatewayd's way of messages, without the rest.

A door at a near broker, the relay, and for each child a session of its own at a far broker, over
TLS.  What it needs is in a file of JSON.  It prints when it is ready, and on
SIGUSR1 how often it has committed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.cloud.command_router import ChildCommands
from gatewayd.cloud.mqtt import Login, MqttSession, open_connection
from gatewayd.cloud.publisher import MappedMessage, MqttPublisher
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import Message
from gatewayd.device.secret import Secret
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors.access import SiteBrokerAccess
from gatewayd.messages.doors.door import Door, Retry
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.doors.translation import OwnTopics
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.outbox.file import Changes, OutboxFile
from gatewayd.messages.relay import ChildStanding, MessageRelay
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.network.tls import Server, client_context
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.testing.waiting import until

DOOR = "near"
GC_THRESHOLDS = (10_000, 20, 20)
"""As gatewayd has them after its start, in __main__, which would take more memory than the rest."""
AT_ONCE = 20
"""Sessions that are opened at a time."""


@dataclass(slots=True)
class Counted:
    """What was counted.  commits: groups that were made durable."""

    commits: int = 0


class NoLimit:
    """No limit of what may leave.  Implements PublicationLimit."""

    async def acquire(self, size: int, ended: asyncio.Future[Any]) -> None: ...
    def arrived(self, size: int) -> None: ...


class Children:
    """The children of a bench: all of them may speak.  Implements ChildDirectory."""

    def __init__(self, children: list[DeviceId]) -> None:
        self._children = frozenset(children)

    def find(self, key: ChildKey, text: str) -> DeviceId | None:  # noqa: ARG002  # of the protocol
        return DeviceId(text) if text in self._children else None


async def main(facts: dict[str, Any]) -> None:
    """Run until SIGTERM."""
    loop, counted = asyncio.get_running_loop(), Counted()
    _count_commits(counted)
    clock = Clock(loop.time, wall_time)
    children = [DeviceId(name) for name in facts["children"]]
    relay = make_relay(Path(facts["directory"]), facts["commit_delay"], clock)
    await relay.open([DOOR])
    near = DoorSettings(socket=Path(facts["near_socket"]), client_id="gatewayd")
    access = SiteBrokerAccess(near, "gatewayd", lambda *_: Secret(b""))
    door = Door(DOOR, access, OwnTopics(Children(children)), relay, clock, Retry(0.1, 1.0))
    tasks = [asyncio.ensure_future(service()) for service in relay.services()]
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(counted.commits, flush=True))
    sessions = await _open_sessions(facts, children, relay)
    tasks.append(asyncio.ensure_future(door.run()))
    await until(lambda: door.status().state == "connected")
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    print("ready", flush=True)
    await stopped.wait()
    for child, session in sessions.items():
        relay.delivery.session_closed(child)
        await session.close()
    await cancel_and_wait(tasks)
    await relay.aclose()


def make_relay(directory: Path, commit_delay: float, clock: Clock) -> MessageRelay:
    """Make a relay whose bounds nothing meets."""
    settings = MessageSettings(
        commit_delay=commit_delay,
        child=ChildMessageSettings(rate=10_000, share=1 << 30),
        keep=1 << 30,
    )
    return MessageRelay(
        settings,
        directory,
        ChildStanding(lambda _: True, lambda _: False, lambda _: "far"),
        clock,
        arrival=ArrivalClock(wall_time, is_right=lambda: True),
    )


def _count_commits(counted: Counted) -> None:
    apply = OutboxFile.apply

    def count(self: OutboxFile, changes: Changes) -> None:
        counted.commits += 1
        apply(self, changes)

    OutboxFile.apply = count  # type: ignore[method-assign]  # nothing else counts them


async def _no_answer(*_: object) -> bool:
    """Answer no command: a bench sends none."""
    return False


async def _open_sessions(
    facts: dict[str, Any], children: list[DeviceId], relay: MessageRelay
) -> dict[DeviceId, MqttSession]:
    context = await asyncio.to_thread(client_context, Path(facts["ca_file"]))
    server = Server("localhost", facts["far_port"], context, 10.0, 30.0, address="127.0.0.1")
    turns, sessions = asyncio.Semaphore(AT_ONCE), dict[DeviceId, MqttSession]()

    async def open_one(child: DeviceId) -> None:
        async with turns:
            login = Login(child, child, Secret(b""))
            connection = await open_connection(server, login, 120)

        def to_far(message: Message) -> MappedMessage:
            return MappedMessage(f"far/{child}/{message.topic}", message.payload)

        def publisher() -> MqttPublisher:
            return MqttPublisher(connection, to_far, NoLimit(), 1 << 20)

        def commands() -> ChildCommands:
            return ChildCommands(_no_answer, list, lambda _: None)

        session = sessions[child] = MqttSession(connection, publisher, commands)
        relay.delivery.session_opened(child, session)

    await asyncio.gather(*(open_one(child) for child in children))
    return sessions


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
