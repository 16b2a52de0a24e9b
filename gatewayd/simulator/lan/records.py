"""What a child says by multicast DNS, and what it owes to a query.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gatewayd.simulator.lan.child import Child
from gatewayd.simulator.lan.dns import (
    ANY,
    IN,
    RESPONSE,
    Address,
    Data,
    Message,
    Name,
    Pointer,
    Question,
    Record,
    Service,
    Text,
    fold,
    name,
)

HOST_TTL = 120  # seconds, of what depends on the host (RFC 6762 10)
OTHER_TTL = 4500
LEGACY_TTL = 10  # for a resolver that knows no goodbyes (RFC 6762 6.7)


@dataclass(frozen=True, slots=True)
class Query:
    """Questions, and the answers the asker has, with the seconds it will yet keep them."""

    questions: tuple[Question, ...]
    known: Mapping[tuple[Name, Data], int]
    id: int = 0

    @property
    def unicast(self) -> bool:
        """Whether the asker would rather have the answer for itself (RFC 6762 5.4)."""
        return all(question.unicast for question in self.questions)

    def knows(self, record: Record) -> bool:
        """Whether the asker keeps it for half its life or longer (RFC 6762 7.1)."""
        return self.known.get(_key(record), -1) * 2 >= record.ttl

    def __or__(self, later: Query) -> Query:
        return Query(self.questions + later.questions, {**self.known, **later.known}, self.id)


def read(message: Message) -> Query:
    """Read a message as a query."""
    known = {_key(record): record.ttl for record in message.answers}
    return Query(message.questions, known, message.id)


def records(child: Child) -> tuple[Record, Record, Record, Record]:
    """All that a child has to say: PTR, SRV, TXT, A."""
    service, host = name(child.service), (child.host.encode(), b"local")
    instance = (child.instance.encode(), *service)
    text = tuple(string.encode() for string in child.text)
    return (
        Record(service, Pointer(instance), OTHER_TTL),
        Record(instance, Service(0, 0, child.port, host), HOST_TTL, flush=True),
        Record(instance, Text(text), OTHER_TTL, flush=True),
        Record(host, Address(child.address), HOST_TTL, flush=True),
    )


def announcement(child: Child) -> Message:
    """All records, unasked (RFC 6762 8.3)."""
    return Message(answers=records(child), flags=RESPONSE)


def goodbye(child: Child) -> Message:
    """All records, taken back (RFC 6762 10.1)."""
    gone = tuple(replace(record, ttl=0) for record in records(child))
    return Message(answers=gone, flags=RESPONSE)


def farewell(child: Child) -> Message:
    """The instance is taken back; the host stays."""
    return replace(goodbye(child), answers=goodbye(child).answers[:3])


def asked(child: Child, questions: Iterable[Question]) -> tuple[Record, ...]:
    """Return the child's records that any of the questions asks for."""
    questions = tuple(questions)
    return tuple(r for r in records(child) if any(asks(q, r) for q in questions))


def asks(question: Question, record: Record) -> bool:
    """Whether a record answers a question."""
    return (
        question.kind in (record.data.kind, ANY)
        and question.family in (IN, ANY)
        and fold(question.name) == fold(record.name)
    )


def reply(child: Child, answers: tuple[Record, ...]) -> Message:
    """Answer, and add what will be asked next: all of an instance, or its host's address.

    RFC 6763 12.1 and 12.2.
    """
    pointer, service, text, address = records(child)
    more: tuple[Record, ...] = ()
    if pointer in answers:
        more = (service, text, address)
    elif service in answers:
        more = (address,)
    rest = tuple(record for record in more if record not in answers)
    return Message(answers=answers, additionals=rest, flags=RESPONSE)


def legacy(query: Query, message: Message) -> Message:
    """Dress a reply for a resolver that knows unicast DNS only (RFC 6762 6.7)."""
    return Message(
        query.questions,
        tuple(map(_plain, message.answers)),
        additionals=tuple(map(_plain, message.additionals)),
        flags=message.flags,
        id=query.id,
    )


def _plain(record: Record) -> Record:
    return replace(record, ttl=min(record.ttl, LEGACY_TTL), flush=False)


def _key(record: Record) -> tuple[Name, Data]:
    data = record.data
    if isinstance(data, Pointer):
        data = Pointer(fold(data.target))
    return fold(record.name), data
