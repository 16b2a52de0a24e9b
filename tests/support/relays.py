"""A relay of messages on a real file, with clouds that do what a test says."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    Publication,
    SessionEnd,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason, Message
from gatewayd.device.reason import Reason
from gatewayd.messages.intake import IncomingMessage
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.relay import ChildStanding, MessageRelay
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.testing.waiting import until

GONE = MessageDelayed(Reason("gone", "The session ended."))
ALICE, BOB = DeviceId("child-a11ce0000001"), DeviceId("child-b0b000000002")


class FakeCloud:
    """A cloud that keeps what it receives, by child, in order of the calls.

    open: while it is set, the cloud answers.  answers: how publications of a payload end, in order;
    after those, it is accepted.  admitted: the children that may speak; all others are gone.
    names: of the clouds of children.
    """

    def __init__(self) -> None:
        self.received: dict[DeviceId, list[Message]] = defaultdict(list)
        self.accepted: dict[DeviceId, list[bytes]] = defaultdict(list)
        self.order: list[tuple[DeviceId, bytes]] = []
        self.under_way = self.most_under_way = 0
        self.open = asyncio.Event()
        self.open.set()
        self.max_payload = 64 * 1024
        self.answers: dict[bytes, list[Publication | Exception]] = defaultdict(list)
        self.admitted = {ALICE, BOB}
        self.names: dict[DeviceId, str] = {}

    def standing(
        self, treatment: Callable[[DeviceId], ChildMessageSettings | None]
    ) -> ChildStanding:
        """Return what the relay asks of children."""
        return ChildStanding(
            lambda child: child in self.admitted,
            lambda child: child not in self.admitted,
            lambda child: self.names.get(child, "cloud"),
            treatment,
        )

    async def take(self, child: DeviceId, message: Message, ended: asyncio.Event) -> Publication:
        """Receive a message."""
        self.received[child].append(message)
        self.order.append((child, message.payload))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            opened, end = (asyncio.ensure_future(e.wait()) for e in (self.open, ended))
            try:
                await asyncio.wait({opened, end}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel_and_wait([opened, end])
            await asyncio.sleep(0)
            if ended.is_set():
                return GONE
            if self.answers[message.payload]:
                answer = self.answers[message.payload].pop(0)
                if isinstance(answer, Exception):
                    raise answer
                if not isinstance(answer, MessageAccepted):
                    return answer
            self.accepted[child].append(message.payload)
            return MessageAccepted()
        finally:
            self.under_way -= 1

    def payloads(self, child: DeviceId) -> list[bytes]:
        """Return what was received first, without repeats."""
        return list(dict.fromkeys(one.payload for one in self.received[child]))


class FakeMessageSession:
    """A session of a child at a FakeCloud.  Implements Session and SupportsMessages."""

    def __init__(self, cloud: FakeCloud, child: DeviceId) -> None:
        self._cloud, self._child, self.ended = cloud, child, asyncio.Event()
        self.max_payload = cloud.max_payload

    async def publish(self, message: Message) -> Publication:
        return await self._cloud.take(self._child, message, self.ended)

    async def wait_closed(self) -> SessionEnd:
        await self.ended.wait()
        return SessionEnd(GONE.reason)

    async def close(self) -> None:
        self.ended.set()


class SharingSession(FakeMessageSession):
    """A session that shares its connection with all others of its cloud."""

    def __init__(self, cloud: FakeCloud, child: DeviceId) -> None:
        super().__init__(cloud, child)
        self.connection: object = cloud


class RunningRelay:
    """A relay that runs, and how its messages were settled, in order."""

    def __init__(self, relay: MessageRelay, cloud: FakeCloud) -> None:
        self.relay, self.cloud = relay, cloud
        self.settled: list[tuple[bytes, DropReason | None]] = []
        self.sessions: dict[DeviceId, FakeMessageSession] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.said = 0

    def say(
        self,
        payload: bytes | str,
        child: DeviceId = ALICE,
        *,
        packet: int = 0,
        repeated: bool = False,
        topic: str = "properties",
    ) -> None:
        """Have a door receive a message."""
        self.said += 1
        content = payload.encode() if isinstance(payload, str) else payload
        message = IncomingMessage("site", child, topic, content, packet, repeated)
        self.relay.offer(message, lambda why: self.settled.append((content, why)))

    def connect(
        self,
        child: DeviceId = ALICE,
        kind: Callable[[FakeCloud, DeviceId], FakeMessageSession] = FakeMessageSession,
    ) -> FakeMessageSession:
        """Open a session, in place of another one."""
        session = self.sessions[child] = kind(self.cloud, child)
        self.relay.delivery.session_opened(child, session)
        return session

    def disconnect(self, child: DeviceId = ALICE) -> None:
        """End the session of a child, as the keeper does."""
        session = self.sessions.pop(child)
        self.relay.delivery.session_closed(child)
        session.ended.set()

    async def all_settled(self) -> None:
        """Wait until all that a door has received is settled."""
        await until(lambda: len(self.settled) >= self.said)

    async def accepted(self, count: int, child: DeviceId = ALICE) -> None:
        """Wait until the cloud has accepted so many messages."""
        await until(lambda: len(self.cloud.accepted[child]) >= count)

    async def empty(self) -> None:
        """Wait until nothing waits."""
        await until(lambda: self.relay.statistics().total.waiting == 0)

    @property
    def dropped(self) -> dict[str, int]:
        return dict(self.relay.statistics().total.dropped)


@asynccontextmanager
async def running_relay(  # noqa: PLR0913  # ruff counts keyword-only ones: what a test may play
    directory: Path,
    settings: MessageSettings | None = None,
    cloud: FakeCloud | None = None,
    *,
    wall: Callable[[], int] = wall_time,
    uptime: Callable[[], float] | None = None,
    is_right: Callable[[], bool] = lambda: True,
    treatment: Callable[[DeviceId], ChildMessageSettings | None] = lambda _: None,
) -> AsyncIterator[RunningRelay]:
    """Run a relay.  wall, is_right: of its clock.  uptime: seconds; None to go as that clock.

    treatment: as in `ChildStanding`.
    """
    running_since = uptime or (lambda: wall() / 1_000_000)
    cloud = cloud or FakeCloud()
    relay = MessageRelay(
        settings or MessageSettings(enabled=True, commit_delay=0),
        directory,
        cloud.standing(treatment),
        Clock(asyncio.get_running_loop().time, wall, lambda: 0.5),
        arrival=ArrivalClock(wall, running_since, is_right),
    )
    await relay.open(["site"])
    running = RunningRelay(relay, cloud)
    running.tasks = [asyncio.ensure_future(service()) for service in relay.services()]
    try:
        yield running
    finally:
        await cancel_and_wait(running.tasks)
        await relay.aclose()


async def killed(running: RunningRelay, directory: Path, copy: Path) -> None:
    """Copy the disk as a kill leaves it: what is not committed now is lost."""
    await running.relay.ping()
    await asyncio.to_thread(shutil.copytree, directory, copy)
