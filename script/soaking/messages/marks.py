"""What happened to messages, as the workload has marked it, and what must hold of it.

A mark is a line: what, child and number of the message, and for `offered` its packet.  It is
written before a message is offered, when it is settled, and when the cloud receives and accepts it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class ChildMarks:
    """The marks of one child.

    offered: packet by number.  settled: what was acknowledged, and is to reach the cloud.
    received: in the order in which it came, repeats too.  accepted: what the cloud has.
    """

    offered: dict[int, int] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    received: list[int] = field(default_factory=list)
    accepted: set[int] = field(default_factory=set)

    @property
    def unacknowledged(self) -> list[int]:
        """What a broker sends again to a door that is back."""
        return [number for number in self.offered if number not in self.settled]

    @property
    def repeats(self) -> int:
        """Messages that the cloud received again."""
        return len(self.received) - len(set(self.received))


def read_marks(lines: Iterable[bytes]) -> Mapping[str, ChildMarks]:
    """Sum up the marks of each child.  The last line may be half written."""
    children: dict[str, ChildMarks] = defaultdict(ChildMarks)
    for line in lines:
        match line.split():
            case [b"offered", child, number, packet]:
                children[child.decode()].offered[int(number)] = int(packet)
            case [b"settled", child, number]:
                children[child.decode()].settled.add(int(number))
            case [b"received", child, number]:
                children[child.decode()].received.append(int(number))
            case [b"accepted", child, number]:
                children[child.decode()].accepted.add(int(number))
    return children


def lost(marks: ChildMarks, stored: Iterable[int] = ()) -> list[int]:
    """Return what was acknowledged, and neither is stored nor has reached the cloud."""
    return sorted(marks.settled - marks.accepted - set(stored))


def out_of_order(received: Iterable[int]) -> list[int]:
    """Return first copies that came after a later message."""
    newest, seen, wrong = -1, set[int](), []
    for number in received:
        if number not in seen and number < newest:
            wrong.append(number)
        seen.add(number)
        newest = max(newest, number)
    return wrong


def repeated_at_once(received: Iterable[int]) -> int:
    """Return how many were repeated by one process at most: each begins with the oldest it has."""
    seen, most, count, before = set[int](), 0, 0, -1
    for number in received:
        count = 0 if number not in seen else count + 1 if number > before else 1
        most = max(most, count)
        seen.add(number)
        before = number
    return most


def stored_twice(numbers: Iterable[int]) -> list[int]:
    """Return what is in the outbox more than once."""
    return sorted(number for number, count in Counter(numbers).items() if count > 1)
