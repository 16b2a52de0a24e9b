"""The table of what one source has found on one interface: it makes sightings, and losses.

It stays within bounds whatever is found: by a number of entries, and by a share of them for each
address.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gatewayd.device.identity import Claim, claim, strength
from gatewayd.discovery import sanitize
from gatewayd.discovery.comparison import same_facts
from gatewayd.discovery.discoverer import (
    LONGEST,
    MATCHABLE,
    MAX_ATTRIBUTES,
    SHORTEST,
    Context,
    Health,
    Interest,
    Loss,
    LossReason,
    Sighting,
    Sink,
)
from gatewayd.discovery.probing.protocol import Found, Goodbye
from gatewayd.discovery.queues import DeadlineQueue, EvictionQueue
from gatewayd.discovery.sanitize import usable_addresses

log = logging.getLogger(__name__)

MAX_KEY = 512
"""Characters of a key."""
MAX_CLAIMS = 16
MAX_AT_ONE_ADDRESS = 256
"""Devices of one address: a router may have as many behind it."""
MAX_FORMER = 4
"""Addresses at which a device is asked, too, as it answered there before."""
KNOWN = 2
"""What is added to the rank of a device on record: more than what a rule that wants it does."""
SAME_ANSWER = 10.0
"""Seconds in which what was found again, with the same facts, is the same answer once more."""


@dataclass(frozen=True, slots=True)
class FoundPlace:
    """Where a table is filled from.

    kind: of the discoverer, as "ssdp".  name: of its section.  interface: "" if it has none.
    """

    kind: str
    name: str
    interface: str

    @property
    def source(self) -> str:
        """The source of its sightings."""
        return f"{self.name}/{self.interface}" if self.interface else self.name


@dataclass(frozen=True, slots=True)
class _Entry:
    """One device.

    home: whose share it counts for.  where: when each address answered.
    places: until when it is asked at an address, in the order in which it answered first.
    """

    sighting: Sighting
    home: str
    where: dict[str, float]
    places: Mapping[str, float]


class FoundTable:
    """The table.  When it is full, those leave first that no rule wants, then the oldest; devices
    on record stay longest.

    limit: how many entries it may have.  lifetime: seconds for which is believed what has no
    lifetime of its own.
    health: counts what happens; several tables may share it.
    """

    def __init__(
        self,
        place: FoundPlace,
        *,
        limit: int,
        lifetime: float,
        context: Context,
        sink: Sink,
        health: Health,
    ) -> None:
        self._place, self._limit, self._lifetime = place, limit, lifetime
        self._context, self._sink, self._health = context, sink, health
        self._entries: dict[str, _Entry] = {}
        self._ranks: EvictionQueue[str] = EvictionQueue()
        self._deadlines: DeadlineQueue[str] = DeadlineQueue()
        self._at: dict[str, EvictionQueue[str]] = {}
        self._left: OrderedDict[str, Mapping[str, float]] = OrderedDict()
        self._renewed = float("-inf")
        self._has_warned = False

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Sighting | None:
        """Return the last sighting of a key; None if it has no entry."""
        entry = self._entries.get(key)
        return entry.sighting if entry else None

    def places(self, key: str, address: str) -> tuple[str, ...]:
        """Return where a device is of which an answer came from an address just now: there, and at
        its address of the other family, if that has answered in the last rounds: by one answer a
        stranger must not have its own address there for a day."""
        now, entry = self._context.now(), self._entries.get(key)
        if entry is None:
            return (address,)
        if address in entry.where:
            entry.where[address] = now
        oldest = now - min(entry.sighting.valid_for, self._lifetime)
        others = (one for one, at in entry.where.items() if at > oldest)
        return (address, *(one for one in others if (":" in one) != (":" in address)))

    def former(self, known: Sighting) -> tuple[str, ...]:
        """Return where else a device has answered lately: any host may forge an answer from
        another address, and a goodbye from there."""
        entry, now = self._entries.get(known.key), self._context.now()
        places = entry.places if entry else self._left.get(known.key, {})
        return tuple(one for one, until in places.items()
                     if until > now and one not in known.addresses)  # fmt: skip

    def interest(self, found: Found) -> Interest:
        """Return what the rules want of a device."""
        return self._context.interest(self._attributes(found, ()))

    def add(self, found: Found, addresses: Collection[str] = (), *, sender: str = "") -> None:
        """Report what was found, unless it is the same answer once more.

        addresses: where it is, of the datagram's sender; () for what has none.
        sender: whose share of the table it counts for; the first address by default.
        """
        sighting = self._sighting(found, addresses)
        if sighting is None:
            return
        known = self.get(sighting.key)
        if known is not None and self._is_repeated(known, sighting):
            return
        interest = self._context.interest(sighting.attributes)
        if interest is Interest.IGNORED:
            self._refuse("ignored", sighting.label, sighting.addresses)
        elif self._keep(sighting, sender, interest):
            self._health.sighted += 1
            self._sink.sight(sighting)

    def confirm(self, found: Found, addresses: Collection[str]) -> Sighting | None:
        """Return the sighting of an answer to a question that was for this device; it is not
        reported besides.  None if it is not believed."""
        sighting = self._sighting(found, addresses)
        if sighting is not None:
            self._keep(sighting, "", self._context.interest(sighting.attributes))
        return sighting

    def part(self, goodbye: Goodbye, sender: str = "") -> None:
        """Report a goodbye, unless it comes from another address than the device's.

        sender: its address, which any host may forge; "" if there is none.
        """
        known = self.get(goodbye.key)
        if known is None:
            return
        if sender and sender not in (*known.addresses, *self.former(known)):
            self._refuse("foreign-goodbye", known.label, (sender,))
        else:
            self._lose(goodbye.key, LossReason.GOODBYE)

    def renew(self) -> None:
        """Report all that is found from now on, even what was reported just now."""
        self._renewed = self._context.now()

    def expire(self) -> None:
        """Report as lost what was not found again in time."""
        while (key := self._deadlines.pop(self._context.now())) is not None:
            self._lose(key, LossReason.EXPIRED)

    def next(self) -> float | None:
        """Return when the next entry expires, by the loop's clock; None if there is none."""
        return self._deadlines.next()

    def stop(self) -> None:
        """Report all as lost, because discovery was stopped."""
        for key in tuple(self._entries):
            self._lose(key, LossReason.STOPPED)

    def _is_repeated(self, known: Sighting, now: Sighting) -> bool:
        is_recent = now.at - known.at < SAME_ANSWER and known.at > self._renewed
        return is_recent and same_facts(known, now)

    def _sighting(self, found: Found, addresses: Collection[str]) -> Sighting | None:
        """Return what was found as a sighting; None if that cannot be one."""
        if not 0 < len(found.key) <= MAX_KEY or not sanitize.is_clean(found.key):
            self._refuse("bad-key", found.label, addresses)
            return None
        usable = usable_addresses(tuple(addresses), self._place.interface)
        if addresses and not usable:
            self._refuse("no-usable-address", found.label, addresses)
            return None
        return Sighting(
            source=self._place.source,
            key=found.key,
            at=self._context.now(),
            valid_for=min(max(found.valid_for or self._lifetime, SHORTEST), LONGEST),
            interface=self._place.interface,
            addresses=usable,
            port=found.port or None,
            claims=self._claims(found, addresses),
            attributes=self._attributes(found, usable),
            label=sanitize.label(found.label),
            is_behind=found.is_behind,
        )

    def _claims(self, found: Found, addresses: Collection[str]) -> frozenset[Claim]:
        """Return the claims that can be compared: a protocol may have made others of its text."""
        fit = [one for one in found.claims if _is_fit(one)]
        if len(fit) < len(found.claims):
            self._refuse("bad-claim", found.label, addresses)
        return frozenset(sorted(fit, key=lambda one: (-strength(one), one))[:MAX_CLAIMS])

    def _attributes(self, found: Found, addresses: tuple[str, ...]) -> dict[str, str]:
        own = {
            "source": self._place.kind,
            "interface": self._place.interface,
            "address": addresses[0] if addresses else "",
            "port": str(found.port or ""),
        }
        made = {key: value for key, value in own.items() if value}
        for key, value in found.attributes.items():
            pair = sanitize.attribute(key, value)
            if pair is not None and pair[0] not in own and len(made) < MAX_ATTRIBUTES:
                made[pair[0]] = pair[1]
        return made

    def _keep(self, sighting: Sighting, sender: str, interest: Interest) -> bool:
        """Add an entry; return whether there was room for it."""
        known, address = self._entries.get(sighting.key), next(iter(sighting.addresses), "")
        home, rank = sender or address, int(interest in MATCHABLE)
        moves = known is None or known.home != home
        if home and moves and not self._has_room(home, rank):
            self._refuse("crowded-address", sighting.label, sighting.addresses)
            return False
        if known is not None:
            self._forget(known)
        before = known.where if known else {}
        where = {one: before.get(one, sighting.at) for one in sighting.addresses}
        places = self._places(sighting, known)
        self._entries[sighting.key] = entry = _Entry(sighting, home, where, places)
        self._at.setdefault(home, EvictionQueue()).put(sighting.key, rank)
        self._health.entries += 1
        is_known = bool(address) and self._context.is_known(address)
        self._ranks.put(sighting.key, KNOWN * is_known + rank)
        self._deadlines.put(sighting.key, sighting.at + sighting.valid_for)
        if len(self) <= self._limit:
            return True
        left = self._entries[self._ranks.lowest()]
        self._warn(left.sighting)
        if left is entry and known is None:  # never reported
            self._forget(left)
        else:
            self._lose(left.sighting.key, LossReason.EVICTED)
        return left is not entry

    def _has_room(self, home: str, rank: int) -> bool:
        """Whether another device may be at an address: one that a rule wants takes the place of one
        that none does, as any host may have forged that."""
        there = self._at.get(home)
        if there is None or len(there) < MAX_AT_ONE_ADDRESS:
            return True
        lowest = self._entries[there.lowest()].sighting
        if self._context.interest(lowest.attributes) in MATCHABLE or not rank:
            return False
        self._refuse("crowded-address", lowest.label, lowest.addresses)
        self._lose(lowest.key, LossReason.EVICTED)
        return True

    def _places(self, sighting: Sighting, known: _Entry | None) -> Mapping[str, float]:
        """Return where a device is to be asked.  Those leave first that came last: a stranger may
        have many addresses."""
        before = known.places if known else self._left.pop(sighting.key, {})
        places = {one: until for one, until in before.items() if until > sighting.at}
        until = sighting.at + max(sighting.valid_for, self._lifetime)
        places |= dict.fromkeys(sighting.addresses, until)
        others = [one for one in places if one not in sighting.addresses]
        for one in others[MAX_FORMER:]:
            del places[one]
        return places

    def _warn(self, left: Sighting) -> None:
        """Count an entry that has to leave, and warn once if a rule could match it."""
        self._refuse("table-full", left.label, left.addresses)
        if not self._has_warned and self._context.interest(left.attributes) in MATCHABLE:
            self._has_warned = True
            log.warning(
                "Dropped a device on %s that a rule could match: there are more than "
                "max_entries = %d. Raise it under [discovery.%s].",
                self._place.interface or self._place.source,
                self._limit,
                self._place.name,
            )

    def _lose(self, key: str, reason: LossReason) -> None:
        """Remove an entry if there is one, and report its loss."""
        entry = self._entries.get(key)
        if entry is None:
            return
        self._forget(entry)
        self._left[key] = entry.places
        if len(self._left) > self._limit:
            self._left.popitem(last=False)
        self._health.lost += 1
        loss = Loss(self._place.source, key, self._context.now(), reason)
        self._sink.lose(loss)

    def _forget(self, entry: _Entry) -> None:
        key = entry.sighting.key
        del self._entries[key]
        self._ranks.discard(key)
        self._deadlines.discard(key)
        self._health.entries -= 1
        self._at[entry.home].discard(key)
        if not len(self._at[entry.home]):
            del self._at[entry.home]

    def _refuse(self, cause: str, name: str, addresses: Collection[str]) -> None:
        """Count what is not reported."""
        self._health.drop(
            cause,
            interface=self._place.interface,
            sender=next(iter(addresses), ""),
            name=name,
        )


def _is_fit(one: Claim) -> bool:
    """Whether a claim is what normalising it would make, of text that prints, in a namespace that
    is a word."""
    is_text = sanitize.attribute(one.namespace or "-", one.value) is not None
    return is_text and claim(one.kind, one.namespace, one.value) == one
