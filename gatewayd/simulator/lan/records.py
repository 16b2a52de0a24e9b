"""The multicast DNS records of a child, and its answers to a query.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.lan.dns import (
    ANY,
    IN,
    RESPONSE,
    Address6Data,
    AddressData,
    Data,
    DnsMessage,
    DnsQuestion,
    DnsRecord,
    Name,
    PointerData,
    SrvData,
    TextData,
    fold,
    name,
)

HOST_TTL = 120  # seconds, of what depends on the host (RFC 6762 10)
OTHER_TTL = 4500
LEGACY_TTL = 10  # for a resolver that knows no goodbyes (RFC 6762 6.7)


@dataclass(frozen=True, slots=True)
class MdnsQuery:
    """A query: questions, and the answers that the querier has, with their remaining seconds."""

    questions: tuple[DnsQuestion, ...]
    known: Mapping[tuple[Name, Data], int]
    id: int = 0

    @property
    def unicast(self) -> bool:
        """Whether the querier prefers a unicast answer (RFC 6762 5.4)."""
        return all(question.unicast for question in self.questions)

    def knows(self, record: DnsRecord) -> bool:
        """Whether the querier keeps a record for half its life or longer (RFC 6762 7.1)."""
        return self.known.get(_key(record), -1) * 2 >= record.ttl

    def __or__(self, later: MdnsQuery) -> MdnsQuery:
        return MdnsQuery(self.questions + later.questions, {**self.known, **later.known}, self.id)


def read(message: DnsMessage) -> MdnsQuery:
    """Read a message as a query."""
    known = {_key(record): record.ttl for record in message.answers}
    return MdnsQuery(message.questions, known, message.id)


def records(child: LanChild) -> tuple[DnsRecord, DnsRecord, DnsRecord, DnsRecord]:
    """Return all records of a child: PTR, SRV, TXT, A or AAAA."""
    service, host = name(child.service), (child.host.encode(), b"local")
    instance = (child.instance.encode(), *service)
    text = tuple(string.encode() for string in child.text)
    address = (Address6Data if ":" in child.address else AddressData)(child.address)
    return (
        DnsRecord(service, PointerData(instance), OTHER_TTL),
        DnsRecord(instance, SrvData(0, 0, child.port, host), HOST_TTL, flush=True),
        DnsRecord(instance, TextData(text), OTHER_TTL, flush=True),
        DnsRecord(host, address, HOST_TTL, flush=True),
    )


def announcement(child: LanChild) -> DnsMessage:
    """Return an unsolicited message of all records (RFC 6762 8.3)."""
    return DnsMessage(answers=records(child), flags=RESPONSE)


def goodbye(child: LanChild) -> DnsMessage:
    """Return a message that withdraws all records (RFC 6762 10.1)."""
    gone = tuple(replace(record, ttl=0) for record in records(child))
    return DnsMessage(answers=gone, flags=RESPONSE)


def instance_goodbye(child: LanChild) -> DnsMessage:
    """Return a message that withdraws the instance, but not the host."""
    return replace(goodbye(child), answers=goodbye(child).answers[:3])


def asked(child: LanChild, questions: Iterable[DnsQuestion]) -> tuple[DnsRecord, ...]:
    """Return the child's records that any of the questions asks for."""
    questions = tuple(questions)
    return tuple(r for r in records(child) if any(asks(q, r) for q in questions))


def asks(question: DnsQuestion, record: DnsRecord) -> bool:
    """Whether a record answers a question."""
    return (
        question.kind in (record.data.kind, ANY)
        and question.family in (IN, ANY)
        and fold(question.name) == fold(record.name)
    )


def reply(child: LanChild, answers: tuple[DnsRecord, ...]) -> DnsMessage:
    """Return an answer, with the records asked for next: an instance's, or its host's address.

    RFC 6763 12.1 and 12.2.
    """
    pointer, service, text, address = records(child)
    more: tuple[DnsRecord, ...] = ()
    if pointer in answers:
        more = (service, text, address)
    elif service in answers:
        more = (address,)
    rest = tuple(record for record in more if record not in answers)
    return DnsMessage(answers=answers, additionals=rest, flags=RESPONSE)


def legacy(query: MdnsQuery, message: DnsMessage) -> DnsMessage:
    """Convert a reply for a resolver of unicast DNS (RFC 6762 6.7)."""
    return DnsMessage(
        query.questions,
        tuple(map(_plain, message.answers)),
        additionals=tuple(map(_plain, message.additionals)),
        flags=message.flags,
        id=query.id,
    )


def _plain(record: DnsRecord) -> DnsRecord:
    return replace(record, ttl=min(record.ttl, LEGACY_TTL), flush=False)


def _key(record: DnsRecord) -> tuple[Name, Data]:
    data = record.data
    if isinstance(data, PointerData):
        data = PointerData(fold(data.target))
    return fold(record.name), data
