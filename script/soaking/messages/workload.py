"""python3 -m script.soaking.messages.workload DIRECTORY [killed | drain]: children speak.

A door is played that behaves as a broker does: what was not acknowledged to it is sent again,
marked as a repeat, with the same packet.  The cloud is played, too: its sessions come and go.  What
happens is written to the file "marks", a line for each: see marks.py.

Without a second argument, it ends by itself after a few runs; "killed" runs until it is killed;
"drain" brings to the cloud all that waits.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    Publication,
    Session,
    SessionEnd,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import AfterOutage, DropReason, Message
from gatewayd.device.reason import Reason
from gatewayd.messages.intake import IncomingMessage
from gatewayd.messages.outbox import file
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.relay import ChildStanding, MessageRelay
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.testing.waiting import until
from script.soaking.messages.marks import ChildMarks, read_marks
from script.soaking.powercut.trace import MARKS

CHILDREN = [DeviceId(f"child-{number:012x}") for number in range(6)]
DOOR = "site"
HELD = 400
"""Messages that the door has handed over, and that are not acknowledged, at most."""
BURST = 40
"""Messages of a child at once, at most."""
RUNS, BURSTS = 3, 6
"""Of a workload that ends by itself: runs, and bursts in each."""
CHECKPOINT = 8
"""Pages in the log after which SQLite writes them into the file: few, so that it happens."""
ENDED = MessageDelayed(Reason("ended", "The session ended."))

CHILD = ChildMessageSettings(after_outage=AfterOutage.IN_ORDER, rate=10_000, share=1 << 28)


class PlayedSession:
    """A session of a child at the played cloud.  Implements Session and SupportsMessages."""

    max_payload = 1 << 20

    def __init__(self, child: DeviceId, mark: Callable[..., None], rng: random.Random) -> None:
        self._child, self._mark, self._rng = child, mark, rng
        self.ended = asyncio.Event()

    async def publish(self, message: Message) -> Publication:
        if self.ended.is_set():
            return ENDED
        number = number_of(message.payload)
        self._mark("received", self._child, number)
        try:
            async with asyncio.timeout(self._rng.random() * 0.004):
                await self.ended.wait()
        except TimeoutError:
            self._mark("accepted", self._child, number)
            return MessageAccepted()
        return ENDED

    async def wait_closed(self) -> SessionEnd:
        await self.ended.wait()
        return SessionEnd(ENDED.reason)

    async def close(self) -> None:
        self.ended.set()


def marks_of(marks: Path) -> Mapping[str, ChildMarks]:
    """Return what earlier runs have marked."""
    return read_marks(marks.read_bytes().splitlines() if marks.exists() else ())


def payload_of(number: int) -> bytes:
    """Return the payload of a message."""
    return b"%d " % number + b"x" * (number * 37 % 300)


def number_of(payload: bytes) -> int:
    """Return the number that a payload begins with."""
    return int(payload.partition(b" ")[0])


class Workload:
    """One run of the relay.  marks: what earlier runs have marked."""

    def __init__(
        self, relay: MessageRelay, marks: dict[DeviceId, ChildMarks], descriptor: int
    ) -> None:
        self._relay, self._descriptor, self.rng = relay, descriptor, random.Random()
        self._marks, self._sessions = marks, dict[DeviceId, PlayedSession]()
        self._packet = sum(len(one.offered) for one in marks.values())
        self._held = 0

    def mark(self, what: str, child: DeviceId, *about: int) -> None:
        """Write a mark."""
        os.write(self._descriptor, f"{what} {child} {' '.join(map(str, about))}\n".encode())

    def repeat(self) -> None:
        """Offer what was not acknowledged, as a broker does to a door that is back."""
        again = [
            (packet, child, number)
            for child, marks in self._marks.items()
            for number, packet in marks.offered.items()
            if number not in marks.settled
        ]
        for packet, child, number in sorted(again):
            self._offer(child, number, packet % 65_535 + 1, repeated=True)

    def say(self, child: DeviceId) -> None:
        """Offer the next message of a child."""
        marks, self._packet = self._marks[child], self._packet + 1
        number = len(marks.offered)
        marks.offered[number] = self._packet
        self.mark("offered", child, number, self._packet)
        self._offer(child, number, self._packet % 65_535 + 1, repeated=False)

    def _offer(self, child: DeviceId, number: int, packet: int, *, repeated: bool) -> None:
        self._held += 1

        def settled(dropped: DropReason | None) -> None:
            assert dropped is None, f"it was dropped: {dropped}"
            self._held -= 1
            self._marks[child].settled.add(number)
            self.mark("settled", child, number)

        message = IncomingMessage(
            DOOR, child, "properties", payload_of(number), packet, repeated=repeated
        )
        self._relay.offer(message, settled)

    async def burst(self) -> None:
        """Let one child say something, when the door may hand over more."""
        await until(lambda: self._held < HELD)
        child = self.rng.choice(CHILDREN)
        for _ in range(self.rng.randrange(1, BURST)):
            self.say(child)

    async def acknowledged(self) -> None:
        """Wait until the door has nothing that is not acknowledged."""
        await until(lambda: not self._held)

    def come_or_go(self) -> None:
        """Open the session of one child, or end it."""
        child = self.rng.choice(CHILDREN)
        session = self._sessions.pop(child, None)
        if session is None:
            self.connect(child)
        else:
            self._relay.delivery.session_closed(child)
            session.ended.set()

    def connect(self, child: DeviceId) -> None:
        """Open the session of a child."""
        opened = self._sessions[child] = PlayedSession(child, self.mark, self.rng)
        session: Session = opened
        self._relay.delivery.session_opened(child, session)

    def connect_all(self) -> None:
        """Open all sessions."""
        for child in CHILDREN:
            if child not in self._sessions:
                self.connect(child)

    def disconnect_all(self) -> None:
        """End all sessions."""
        for child, session in self._sessions.items():
            self._relay.delivery.session_closed(child)
            session.ended.set()
        self._sessions.clear()

    async def delivered(self) -> None:
        """Bring all that waits to the cloud."""
        self.connect_all()
        await self.acknowledged()
        await until(lambda: not self._relay.statistics().total.waiting, patience=120)


@asynccontextmanager
async def running(
    directory: Path, marks: Path, *, delay: float = 0.0, often: bool = False
) -> AsyncIterator[Workload]:
    """Run the relay on a directory.  often: whether the log is written back often."""
    before = await asyncio.to_thread(marks_of, marks)
    clock = Clock(asyncio.get_running_loop().time, wall_time)
    relay = MessageRelay(
        MessageSettings(enabled=True, commit_delay=delay, child=CHILD),
        directory,
        ChildStanding(lambda _: True, lambda _: False, lambda _: "cloud"),
        clock,
        arrival=ArrivalClock(wall_time, is_right=lambda: True),
    )
    descriptor = os.open(marks, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    await relay.open([DOOR])
    workload = Workload(
        relay, {child: before.get(child, ChildMarks()) for child in CHILDREN}, descriptor
    )
    tasks = [asyncio.ensure_future(service()) for service in relay.services()]
    try:
        if often:
            await _checkpoint_often(relay)
        workload.repeat()
        yield workload
    finally:
        await cancel_and_wait(tasks)
        workload.disconnect_all()
        await relay.aclose()
        os.close(descriptor)


async def _checkpoint_often(relay: MessageRelay) -> None:
    outbox = relay._outbox  # noqa: SLF001  # only this needs it
    await outbox._thread.run(  # noqa: SLF001  # only this needs it
        lambda: outbox._file._run(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")  # noqa: SLF001  # only this needs it
    )


async def end_by_itself(directory: Path) -> None:
    """Run a few times, and stop in good order."""
    file.PLENTY = 1 << 62  # what is reserved says nothing, and takes time
    for run in range(RUNS):
        async with running(directory, directory / MARKS, often=run % 2 == 1) as workload:
            workload.rng.seed(run)
            for _ in range(BURSTS):
                workload.come_or_go()
                await workload.burst()
                await asyncio.sleep(0.005)
            await workload.acknowledged()


async def until_killed(directory: Path) -> None:
    """Run until killed."""
    async with running(directory, directory / MARKS, delay=0.005) as workload:
        while True:
            await workload.burst()
            await asyncio.sleep(workload.rng.random() * 0.01)
            if workload.rng.random() < 0.3:
                workload.come_or_go()


async def drain(directory: Path) -> None:
    """Bring to the cloud all that waits."""
    async with running(directory, directory / MARKS) as workload:
        await workload.delivered()


WAYS = {"": end_by_itself, "killed": until_killed, "drain": drain}

if __name__ == "__main__":
    asyncio.run(WAYS["".join(sys.argv[2:])](Path(sys.argv[1])))
