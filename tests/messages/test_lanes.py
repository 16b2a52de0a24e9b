"""The lanes of a child against a plain list: nothing is lost, and order is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gatewayd.device.message import AfterOutage
from gatewayd.messages.lanes import READ_AHEAD, ChildLanes, MemoryUse, Waiting, WaitingList, size_of
from gatewayd.messages.outbox.file import StoredMessage

LIVE_FIRST, IN_ORDER = AfterOutage


def stored(number: int, size: int = 4) -> StoredMessage:
    return StoredMessage(number, 1, 1, 0, 1, "properties", bytes(size))


def waiting(one: StoredMessage) -> Waiting:
    return Waiting(one.number, size_of(one.topic, one.payload), one.door)


class LanesAgainstAList(RuleBasedStateMachine):
    """What waits is a list; where its lanes differ in what they say, they are wrong."""

    @initialize(order=st.sampled_from(AfterOutage))
    def begin(self, order: AfterOutage) -> None:
        self.memory = MemoryUse()
        self.lanes, self.order = ChildLanes(order, self.memory), order
        self.disk: dict[int, StoredMessage] = {}
        self.under_way: dict[int, bool] = {}
        self.late_to, self.last, self.online = 0, 0, False
        self.sent: dict[bool, int] = {True: 0, False: 0}
        self.dropped: set[int] = set()
        self.reading: list[Waiting] = []

    @rule(size=st.integers(0, 3000), count=st.integers(1, 90), kept=st.booleans())
    def append(self, size: int, count: int, kept: bool) -> None:
        for _ in range(count):
            self.last += 1
            one = self.disk[self.last] = stored(self.last, size)
            if not self.online:
                self.late_to = self.last
            self.lanes.append(waiting(one), one if kept else None)

    @precondition(lambda self: not self.online)
    @rule()
    def open(self) -> None:
        self.lanes.opened()
        self.online = True

    @precondition(lambda self: self.online)
    @rule()
    def close(self) -> None:
        self.put_back()
        self.lanes.closed()
        self.online, self.late_to = False, self.last
        self.sent = {True: 0, False: 0}

    @rule()
    def put_back(self) -> None:
        self.lanes.put_back()
        for late in (True, False):
            back = [n for n, was_late in self.under_way.items() if was_late is late]
            self.sent[late] = min([self.sent[late], *(n - 1 for n in back)])
        self.under_way.clear()

    @precondition(lambda self: self.online)
    @rule(count=st.integers(1, 80))
    def send(self, count: int) -> None:
        for _ in range(count):
            one = self.lanes.next()
            if one is None:
                if self.lanes.needs_reading:
                    self.read()
                continue
            assert self.lanes.take() is one
            number = one.waiting.number
            assert one.stored is self.disk[number], "it is what was stored"
            assert number > self.sent[one.late], "each lane is in order"
            self.sent[one.late] = number
            assert one.late or number > self.late_to, "what waited is late"
            left = self.disk.keys() - self.under_way.keys()
            if self.order is AfterOutage.IN_ORDER:
                assert number == min(left), "in order, the oldest leaves"
            elif one.late:
                assert all(n <= self.late_to for n in left), "live first, no live one waits"
            self.under_way[number] = one.late

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.under_way)))
        assert self.lanes.done(number) == waiting(self.disk.pop(number))
        del self.under_way[number]

    @rule()
    def drop(self) -> None:
        one, left = self.lanes.drop_oldest(), self.disk.keys() - self.under_way.keys()
        assert (one.number if one else None) == min(left, default=None)
        if one is not None:
            del self.disk[one.number]

    @precondition(lambda self: self.online and not self.reading)
    @rule(most=st.integers(0, 20_000))
    def begin_to_read(self, most: int) -> None:
        self.reading = self.lanes.to_read(most)
        assert len(self.reading) <= READ_AHEAD
        if most and self.lanes.needs_reading:
            assert self.reading

    @precondition(lambda self: self.reading)
    @rule()
    def end_reading(self) -> None:
        rows = [self.disk[one.number] for one in self.reading if one.number in self.disk]
        assert not self.lanes.read(self.reading, rows), "what is missing has left its lane"
        self.reading = []

    def read(self) -> None:
        wanted = self.lanes.to_read(1)
        assert wanted, "what needs reading can be read"
        self.lanes.read(wanted, [self.disk[one.number] for one in wanted])

    @invariant()
    def counts_agree(self) -> None:
        assert self.lanes.count == len(self.disk)
        assert self.lanes.size == sum(waiting(one).size for one in self.disk.values())
        assert self.lanes.under_way == len(self.under_way)
        first = sorted(self.disk.keys() - self.under_way.keys())
        assert self.lanes.oldest(5) == first[:5]
        in_memory = self.lanes.loaded()
        assert all(self.disk[one.number] is one for one in in_memory)
        assert self.memory.used == sum(waiting(one).size for one in in_memory)
        if not self.online:
            assert not in_memory


TestLanes = LanesAgainstAList.TestCase


@pytest.mark.parametrize("count", [1, 1023, 1024, 5000])
def test_a_waiting_list_frees_what_has_left(count: int) -> None:
    line = WaitingList()
    for number in range(count):
        line.append(Waiting(number, 100, 1))
    for number in range(count - 1):
        assert line.pop().number == number
        if number % 7 == 0:
            line.append(Waiting(count + number, 100, 1))
    line.prepend([Waiting(5, 1, 1), Waiting(6, 1, 1)])
    assert [one.number for one in line][:3] == [5, 6, count - 1]
    assert len(line._numbers) <= len(line) + 2048, "places before the head are freed"


def test_what_is_missing_on_the_disk_is_returned_and_removed() -> None:
    lanes = ChildLanes(AfterOutage.LIVE_FIRST, MemoryUse())
    ones = [stored(number) for number in range(1, 6)]
    for one in ones:
        lanes.append(waiting(one), None)
    lanes.opened()
    wanted = lanes.to_read(10_000)
    assert [one.number for one in lanes.read(wanted, [ones[1], ones[4]])] == [1, 3, 4]
    assert [lanes.take().waiting.number for _ in range(2)] == [2, 5]
    assert lanes.count == 2


def test_in_order_a_new_message_is_late_while_it_waits_behind_late_ones() -> None:
    lanes = ChildLanes(AfterOutage.IN_ORDER, MemoryUse())
    lanes.append(waiting(stored(1)), None)
    lanes.opened()
    lanes.append(waiting(stored(2)), stored(2))
    lanes.read(lanes.to_read(1000), [stored(1), stored(2)])
    assert [lanes.take().late for _ in range(2)] == [True, True]
    lanes.done(1)
    lanes.done(2)
    lanes.append(waiting(stored(3)), stored(3))
    assert not lanes.take().late


def test_what_was_put_before_and_moved_keeps_its_order_and_its_columns() -> None:
    one, other = WaitingList(), WaitingList()
    listed = [Waiting(number, number * 10, number % 7) for number in range(100)]
    for waits in listed[40:]:
        one.append(waits)
    for waits in listed[40:50]:
        assert one.pop() == waits
    one.prepend(listed[20:50])
    for waits in listed[:20]:
        other.append(waits)
    assert other.pop() == listed[0]
    assert one.pop() == listed[20]
    one.move_to(other)
    assert [*other] == [*listed[1:20], *listed[21:]]
    assert not len(one)
    one.append(listed[5])
    assert one.pop() == listed[5]


def drained(lanes: ChildLanes, ones: Sequence[StoredMessage]) -> list[int]:
    """Take all that waits, in order."""
    taken = []
    while lanes.count:
        lanes.read(lanes.to_read(1_000_000), ones)
        taken.append(lanes.take().waiting.number)
        lanes.done(taken[-1])
    return taken


def test_another_order_waits_until_there_is_one_lane() -> None:
    """What is live came before what a change would put behind the late ones."""
    ones, lanes = [stored(number) for number in range(6)], ChildLanes(LIVE_FIRST, MemoryUse())
    lanes.append(waiting(ones[0]), None)
    lanes.opened()
    lanes.append(waiting(ones[1]), ones[1])
    lanes.order(AfterOutage.IN_ORDER)
    lanes.append(waiting(ones[2]), ones[2])
    assert drained(lanes, ones) == [1, 2, 0], "still live first"
    lanes.append(waiting(ones[3]), ones[3])
    lanes.closed()
    lanes.append(waiting(ones[4]), None)
    lanes.opened()
    lanes.append(waiting(ones[5]), ones[5])
    assert drained(lanes, ones) == [3, 4, 5], "in order after the next outage at the latest"


def test_another_order_counts_at_once_where_nothing_is_live() -> None:
    ones, lanes = [stored(number) for number in range(2)], ChildLanes(IN_ORDER, MemoryUse())
    lanes.append(waiting(ones[0]), None)
    lanes.opened()
    lanes.order(LIVE_FIRST)
    lanes.append(waiting(ones[1]), ones[1])
    assert drained(lanes, ones) == [1, 0]
