"""What discovery has refused last: when, where, whose, and why.  Pure, and bounded in all.

A flood of refusals costs a look-up each: of each cause few are noted until the notes are read, and
of each sender fewer.  In the list, the sender of which most is kept gives way first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_CAUSES: Final = 32
"""Causes that one discoverer notes between two readings."""
MAX_LISTED: Final = 96
"""Causes that a list keeps, of all discoverers together: more than there are in CAUSES."""
MAX_NOTED: Final = 16
"""Of each cause, between two readings of the notes."""
MAX_OF_SENDER: Final = 4
"""Of these, from one sender."""
MAX_KEPT: Final = 32
"""Refusals of each cause that a list keeps."""

CAUSES: Final[Mapping[str, str]] = {
    "bad-name": "The name holds bytes that are no UTF-8, or is longer than 63 bytes; change it.",
    "no-usable-address": "It announced no address that a device can have.",
    "unresolved": "It announced a name, and did not answer when it was asked for its records.",
    "resolve-failed": "Its records cannot be read; see the journal.",
    "ignored": "A rule ignores it; see gatewayctl rules list.",
    "queue-full": "Too many names waited to be asked for; raise resolve_queue.",
    "table-full": "Too many devices are kept; raise max_entries.",
    "crowded-address": "More than 256 devices are at one address.",
    "bad-key": "What it calls itself does not print, or is too long.",
    "bad-claim": "An identity that it claims does not print, or is that of no single device.",
    "foreign-goodbye": "Another address than its own has said goodbye for it.",
    "enquiry-failed": "It did not answer when it was asked for more.",
    "enquiry-queue-full": "Too many waited to be asked for more; it is, when it answers again.",
    "unasked": "It answers a question that gatewayd has not asked.",
    "fault": "It answers a question with a fault, as some cameras do; it may answer another.",
    "no-soap": "The message is none of SOAP.",
    "no-endpoint": "The message names no endpoint.",
    "no-ssdp": "The message is none of SSDP.",
    "no-udn": "The message names no device.",
    "refusal": "It refuses a search.",
    "foreign-message": "The message is of a kind that shows no device.",
    "malformed-xml": "Its XML cannot be read.",
    "document-type": "Its XML has a document type, which is never read.",
    "too-much-xml": "Its XML is deeper, or has more elements, than any that is read.",
    "description-elsewhere": "It announces a description that it does not serve itself.",
    "description-refused": "Its description is a redirect, compressed, too large or no HTTP.",
    "description-of-another": "Its description has another name than it has announced.",
    "no-description": "What it serves is no description of a UPnP device.",
    "not-described": "It answered no search, nor did it serve its description in time.",
    "truncated": "The message is shorter than it says.",
    "not-bacnet": "The message is none of BACnet/IP.",
    "forwarded": "A BBMD has forwarded it from another subnet: its sender is not the device.",
    "unconfigured": "The device has no instance yet; give it one.",
    "bad-i-am": "Its I-Am cannot be read.",
    "bad-station": "It is behind a router, at an address that there cannot be.",
    "segmented": "Its answer comes in segments, which are not read.",
    "no-identity": "It answers ListIdentity without an identity.",
    "no-knx": "The message is none of KNXnet/IP.",
    "no-coap": "The message is no response of CoAP.",
    "critical-option": "Its response has an option that has to be understood, and is not.",
    "no-link-format": "What it answers is no list of links.",
    "parts-do-not-fit": "The parts of its list are not of one whole.",
    "foreign-link": "Its link to a directory leads to another host, or nowhere.",
    "metadata-refused": "Its metadata are a redirect, compressed, too large or no HTTP.",
    "metadata-of-another": "Its metadata are of another endpoint than its own.",
    "no-metadata": "What it serves is no metadata of a device.",
    "not-there": "It has a lease, and the kernel does not find it.",
    "another-mac": "It has a lease, and the kernel finds another device at its address.",
    "no-mac": "The MAC of its lease is of no single device.",
    "refused": "It refuses to be asked, and is left alone for an hour; start its service.",
    "no-such-unit": "A gateway has no such unit, or none that answers; correct units.",
    "busy": "It says that it cannot answer now; it is asked again.",
    "refused-by-server": "It refuses what it is asked.",
    "nothing-shown": "It answers, and shows nothing of itself: check what it lets others read.",
    "off-host": "It names a server at another host; list that host.",
    "garbled": "What it answers cannot be read.",
    "endless": "It answers more than is read of any device.",
    "contradicts-device": "It announces another MAC or serial number for a device that is there.",
    "no-json": "What was published is no JSON.",
    "no-object": "What was published is no JSON object.",
    "no-list": "The list of devices is no list.",
    "no-text": "What was published is no text in UTF-8.",
    "no-device": "The message describes no device.",
    "no-identifier": "The message has no identifier of its device, and no MAC.",
    "no-eui64": "The device has no EUI-64.",
    "no-sparkplug": "The message is none of Sparkplug B.",
    "sequence-not-0": "A birth of Sparkplug B has to begin its sequence with 0.",
    "too-many-metrics": "The birth has more metrics than are read.",
    "too-many-parts": "The topic has more levels than are read.",
    "too-deep": "Its JSON is deeper than any that is read.",
    "long-status": "What says whether a device is there is longer than any word for it.",
    "mac-not-of-topic": "Its MAC is another than that in its topic.",
    "id-not-of-topic": "Its id is another than that in its topic.",
    "list-too-long": "A bridge lists more devices than are kept of one.",
    "statuses-full": "Too many topics say whether devices are there.",
    "candidates-full": "Too many devices wait to be asked what they are.",
    "old-death": "A death is of an earlier connection than the birth.",
    "stale": "The broker keeps its birth, and nothing says that it is there now.",
    "bad-mac": "The frame is from a MAC of no single device.",
    "not-an-answer": "The frame is no answer to what was asked.",
    "bad-json": "The report of lldpd is no JSON.",
    "no-report": "The report of lldpd has another form than lldpcli gives it.",
    "not-permitted": "The discovery helper may not reach it; allow its network in a drop-in.",
    "oversized": "The datagram is larger than any that is read.",
    "off-link": "The sender is not on the link of the interface.",
    "malformed": "The packet has fewer records than it says.",
    "packet-failed": "The packet cannot be read; see the journal at log level debug.",
    "sender-flood": "The sender has sent more than its share.",
    "link-flood": "All senders together have sent more than their share.",
    "query-flood": "There were too many queries; gatewayd answers none.",
    "unfit": "A discoverer has reported what it may not; report it to its author.",
    "unsent": "Too many reports waited to be read.",
}
"""What the causes of gatewayd's own discoverers mean, and what to do."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused, some times in a row.

    at: when it was noted, at most a second later; seconds of the event loop's clock.
    discoverer, interface: which refused it, and where; sender: its IP address; name: as announced.
    These are "" where it is not known.  cause: kebab-case, as in CAUSES.
    """

    at: float
    discoverer: str
    interface: str
    sender: str
    name: str
    cause: str
    times: int = 1


Noted = tuple[str, str, str]
"""Interface, sender and name."""


class RefusalNotes:
    """The refusals of one discoverer since they were read last; nothing here is sanitised."""

    def __init__(self) -> None:
        self._noted: dict[str, Counter[Noted]] = {}
        self._senders: Counter[tuple[str, str]] = Counter()

    def note(self, cause: str, interface: str, sender: str, name: str) -> None:
        """Note one, if there is room."""
        noted = self._noted.get(cause)
        if noted is None:
            if len(self._noted) >= MAX_CAUSES:
                return
            noted = self._noted[cause] = Counter()
        one = (interface, sender, name)
        if one in noted:
            noted[one] += 1
        elif len(noted) < MAX_NOTED and self._senders[cause, sender] < MAX_OF_SENDER:
            self._senders[cause, sender] += 1
            noted[one] = 1

    def take(self) -> Iterator[tuple[str, Noted, int]]:
        """Remove and yield the notes: cause, what was refused, and how often."""
        noted, self._noted = self._noted, {}
        self._senders.clear()
        for cause, those in noted.items():
            for one, times in those.items():
                yield cause, one, times


class RefusalList:
    """The newest refusals of each cause.  What is refused again counts as one."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[tuple[str, ...], Refusal]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def add(self, refusal: Refusal) -> None:
        """Keep a refusal as the newest of its cause; drop another if there is no room."""
        kept = self._kept.get(refusal.cause)
        if kept is None:
            if len(self._kept) >= MAX_LISTED:
                return
            kept = self._kept[refusal.cause] = {}
        key = (refusal.discoverer, refusal.interface, refusal.sender, refusal.name)
        before = kept.pop(key, None)
        kept[key] = replace(refusal, times=refusal.times + before.times) if before else refusal
        if len(kept) > MAX_KEPT:
            senders = Counter(one.sender for one in kept.values())
            loudest = max(senders.values())
            del kept[next(key for key, one in kept.items() if senders[one.sender] == loudest)]

    def newest(self) -> Sequence[Refusal]:
        """Return what is kept, the newest first."""
        kept = [one for those in self._kept.values() for one in those.values()]
        return sorted(kept, key=lambda one: -one.at)
