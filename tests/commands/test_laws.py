"""Whatever cloud, child and doors do: each command ends once, and in its time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.commands.door import DoorCommand
from gatewayd.commands.pending import MOST_OF_CHILD
from gatewayd.commands.relay import CommandRelay
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandOutcome
from gatewayd.device.identity import DeviceId
from gatewayd.runtime.clock import Clock
from gatewayd.testing.clock import run
from tests.commands.doubles import ALICE, BOB, FORM, CommandedSession, command

LIMIT = 20.0
CHILDREN, NUMBERS = st.sampled_from((ALICE, BOB)), st.integers(0, 25).map(str)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("command"), CHILDREN, NUMBERS),
        st.tuples(
            st.sampled_from(("answer", "neutral", "done", "nobody", "passed")), CHILDREN, NUMBERS
        ),
        st.tuples(st.sampled_from(("open", "close", "forbid", "allow")), CHILDREN, st.just("")),
        st.tuples(st.just("wait"), CHILDREN, st.sampled_from(("0.5", "5", "19.5"))),
    ),
    max_size=60,
)  # fmt: skip


class World:
    """Two children, their sessions, and one door.

    A moment is a time and a number: much happens at one time of a clock that jumps.
    received: when each command was first received by a session.  ended: when it has ended.
    answers: what the cloud was answered.  opened: when each session of a child was.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.allowed: set[DeviceId] = {ALICE, BOB}
        self.sessions: dict[DeviceId, CommandedSession] = {}
        self.sent: dict[tuple[DeviceId, str], DoorCommand] = {}
        self.carried: Counter[tuple[DeviceId, str]] = Counter()
        self.received: dict[tuple[DeviceId, str], float] = {}
        self.ended: dict[tuple[DeviceId, str], list[tuple[float, int]]] = defaultdict(list)
        self.answers: dict[tuple[DeviceId, str], list[CommandAnswer]] = defaultdict(list)
        self.opened: dict[DeviceId, list[tuple[float, int]]] = defaultdict(list)
        self.numbers = count(1)
        clock = Clock(self.loop.time, lambda: 0)
        self.relay = CommandRelay(
            lambda child, _: child in self.allowed, 60.0, clock, self._show, lambda _: FORM
        )
        self.relay.connect(self)

    def _show(
        self, child: DeviceId, step: str, topic: str, payload: bytes = b"", **more: str | int
    ) -> None:
        if step == "answer":
            self.ended[child, str(more["id"])].append(self.moment())

    def moment(self) -> tuple[float, int]:
        return self.loop.time(), next(self.numbers)

    # CommandDoors.

    def send(self, command: DoorCommand) -> None:
        assert command.deadline > self.loop.time()
        which = (command.child, command.command.identifier)
        self.sent[which] = command
        self.carried[which] += 1
        waiting = Counter(child for child, _ in self.sent)
        assert waiting[command.child] <= MOST_OF_CHILD

    def end(self, command: DoorCommand) -> None:
        del self.sent[command.child, command.command.identifier]

    # Steps.

    def open(self, child: DeviceId, _: str) -> None:
        world = self

        class Session(CommandedSession):
            async def answer(self, command: ChildCommand, answer: CommandAnswer) -> bool:
                world.answers[child, command.identifier].append(answer)
                return True

        self.opened[child].append(self.moment())
        self.sessions[child] = Session()
        self.relay.session_opened(child, self.sessions[child])

    def close(self, child: DeviceId, _: str) -> None:
        if self.sessions.pop(child, None):
            self.relay.session_closed(child)

    def command(self, child: DeviceId, number: str) -> None:
        if child in self.sessions:
            self.received.setdefault((child, number), self.loop.time())
            self.sessions[child].send(command(number, seconds=LIMIT))

    def answer(self, child: DeviceId, number: str) -> None:
        self.relay.receive(child, f"sys/commands/response/request_id={number}", b"{}", b"")

    def neutral(self, child: DeviceId, number: str) -> None:
        self.relay.receive(child, f"answer/{number}", b"", b"")

    def done(self, child: DeviceId, number: str) -> None:
        self._conclude(child, number, CommandAnswer(CommandOutcome.DONE))

    def nobody(self, child: DeviceId, number: str) -> None:
        self._conclude(child, number, CommandAnswer(CommandOutcome.NO_LISTENER))

    def passed(self, child: DeviceId, number: str) -> None:
        self._conclude(child, number, None)

    def _conclude(self, child: DeviceId, number: str, answer: CommandAnswer | None) -> None:
        if (sent := self.sent.get((child, number))) is not None:
            sent.concluded(answer)
            sent.concluded(answer)  # a second time it means nothing

    def forbid(self, child: DeviceId, _: str) -> None:
        self.allowed.discard(child)

    def allow(self, child: DeviceId, _: str) -> None:
        self.allowed.add(child)

    async def wait(self, _: DeviceId, seconds: str) -> None:
        await asyncio.sleep(float(seconds))


async def play(steps: list[tuple[str, DeviceId, str]]) -> World:
    world = World()
    world.open(ALICE, "")
    for step, child, about in steps:
        done = getattr(world, step)(child, about)
        if done is not None:
            await done
        await asyncio.sleep(0)
    await asyncio.sleep(LIMIT)
    return world


@settings(max_examples=150)
@given(STEPS)
def test_each_command_ends_once_and_in_its_time(steps: list[tuple[str, DeviceId, str]]) -> None:
    world = run(play(steps))
    statistics = world.relay.statistics()
    assert not world.sent, "nothing waits for ever"
    assert statistics.waiting == 0
    assert all(count == 1 for count in world.carried.values()), "nothing is carried out twice"
    assert sum(statistics.ended.values()) == statistics.received == len(world.received)
    for which, begun in world.received.items():
        (at,) = world.ended[which]
        assert at[0] <= begun + LIMIT - 1
        answers = world.answers[which]
        assert len(answers) <= 1, "each is answered once"
        if answers and which not in world.carried:
            assert answers[0].outcome in (CommandOutcome.NOT_ALLOWED, CommandOutcome.TOO_MANY)
    lacking = [which for which in world.received if not world.answers[which]]
    assert statistics.unanswered == len(lacking), "only where there was no session"
    for which in lacking:
        (at,), given_up = world.ended[which], (world.received[which] + LIMIT, 0)
        assert not any(at < opened < given_up for opened in world.opened[which[0]])
