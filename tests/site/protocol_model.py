"""A model of gateways that share shards by etcd, in which everything that can happen is explored.

What the gateways decide is the product's own: `decide`, `vacancies`, `placement`, `Fence`, and the
transactions of `SiteKeys`.  The model has what is around it: requests that are carried out at any
later time, answers that are read at any later time, processes that stop anywhere for any time, that
die and come again, leases that end at any time, early too, and a clock.

A gateway that is stopped, or cut off, is one of which no step is taken while steps of others are,
and time passes: that may happen between any two steps, for any time, to any number of them.  What
costs a fault, of which so many are explored, is a lease that ends while its gateway lives, late or
early, a stop within a step (between an answer of etcd and what is done about it), a request that is
carried out later than its answer is awaited, a death, and a drain or its end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from gatewayd.errors import LeaseGone
from gatewayd.site.decisions import (
    VACANT_FOR,
    OwnState,
    ShardActions,
    Vacancy,
    decide,
    vacancies,
)
from gatewayd.site.etcd_messages import Compare, Compared, KeyValue, Operation, Put
from gatewayd.site.fence import Fence
from gatewayd.site.reading import SiteKeys, gateway_document
from gatewayd.site.snapshot import SiteReading
from tests.support.memory_etcd import MemoryEtcd

KEYS = SiteKeys("s")
TICK = VACANT_FOR
"""Seconds of one step of the clock: after it a fence is over, and a vacancy is ripe.

A shorter step would only let a fence end before a vacancy that was found later is ripe.
"""
OVER = 1
"""Ticks after which an age makes no difference any more."""
GONE = -1
"""An answer that the lease is no more."""


class Phase(StrEnum):
    """What the children of a shard do at a gateway."""

    GAINING = "gaining"
    WORKING = "working"
    LOSING = "losing"
    GIVING_UP = "giving up"


class Mistake(StrEnum):
    """A mistake that is planted, so that it is known that the model would find it."""

    NONE = "none"
    NO_FENCE = "children act without a look at the fence"
    NO_COMPARE = "a shard is claimed whoever has it"
    EARLY_RELEASE = "a shard is given up before its children have ended"
    NO_WAIT = "a shard that was not given up is claimed at once"
    SECOND_THOUGHT = "a shard that was to be given up is kept after all"
    ANSWER_COUNTS = "the fence counts from the answer to a renewal"
    BLOB_WITHOUT_REVISION = "a blob is written without a compare of its own revision"


class Fault(StrEnum):
    """What may happen beside what always may: each costs one of a few."""

    LEASE = "a lease ends while its gateway lives, late or early"
    STOP = "a stop between an answer of etcd and what is done about it"
    LATE = "a request is carried out later than its answer is awaited"
    DEATH = "a gateway dies, and comes again"
    DRAIN = "a gateway is drained, or resumed"


class Shard(NamedTuple):
    """A shard at a gateway.  blob, version: revision and version of the blob that it knows."""

    token: int
    phase: Phase
    blob: int = 0
    version: int = 0


class Request(NamedTuple):
    """A transaction on its way."""

    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]


class Etcd(NamedTuple):
    """What etcd has."""

    pairs: tuple[KeyValue, ...]
    revision: int
    leases: frozenset[int]


class Gateway(NamedTuple):
    """What a process has in memory.

    renewed: ticks since the sending of the newest renewal that it knows to have succeeded.
    answer: ticks since the sending of a renewal whose answer it has not read yet; GONE; or None.
    reading: what it has read, and not acted on yet.
    """

    lease: int = 0
    renewed: int = OVER
    answer: int | None = None
    reading: Etcd | None = None
    shards: tuple[tuple[int, Shard], ...] = ()
    finished: tuple[tuple[int, int], ...] = ()
    renounced: tuple[tuple[int, int], ...] = ()
    vacant: tuple[tuple[int, int, int], ...] = ()
    drains: bool = False


class World(NamedTuple):
    """One state of everything.

    cloud: for each shard the largest token of those that have acted.
    faults: how many more may happen.
    """

    etcd: Etcd
    gateways: tuple[Gateway, ...]
    flight: frozenset[Request]
    cloud: tuple[int, ...]
    faults: int


class Violation(Exception):
    """A law was broken."""


Step = tuple[str, World]


@dataclass(frozen=True)
class Model:
    """The steps of so many gateways and shards.

    kinds: of faults that may happen.  blobs: whether children change, too.
    """

    gateways: int
    shards: int
    mistake: Mistake = Mistake.NONE
    kinds: frozenset[Fault] = frozenset(Fault)
    blobs: bool = False

    def start(self, faults: int) -> World:
        """Return the state in which nothing has happened."""
        etcd = Etcd((), 1, frozenset())
        return World(etcd, (Gateway(),) * self.gateways, frozenset(), (0,) * self.shards, faults)

    def steps(self, world: World) -> Iterator[Step]:
        """Yield all that can happen next.  Raises Violation."""
        for g in range(self.gateways):
            yield from self._of_gateway(world, g)
        for request in world.flight:
            late = world._replace(flight=world.flight - {request})
            yield "etcd carries a late request out", self._carried_out(late, request)
        if (later := _tick(world)) != world:
            yield "time passes", later
        yield from self._leases_end(world)
        if world.faults:
            yield from self._faults(world, world._replace(faults=world.faults - 1))

    # Etcd.

    def _sent(self, world: World, request: Request, what: str) -> Iterator[Step]:
        """Yield what becomes of a request: it is carried out now or, with a fault, some time."""
        yield what, self._carried_out(world, request)
        if self._may(world, Fault.LATE) and request not in world.flight:
            late = world._replace(flight=world.flight | {request}, faults=world.faults - 1)
            yield f"{what}, which is late", late

    def _carried_out(self, world: World, request: Request) -> World:
        etcd = _carried_out(world.etcd, request)
        if etcd.revision > world.etcd.revision:
            _check_blobs(world.etcd, request)
        return world._replace(etcd=etcd)

    def _leases_end(self, world: World) -> Iterator[Step]:
        """Yield the ends of leases: of dead processes, and at any time, by a fault, of others."""
        known = {one.lease for one in world.gateways}
        for lease in world.etcd.leases:
            ended = world._replace(etcd=_without(world.etcd, lease))
            if lease not in known:
                yield f"lease {lease} of before ends", ended
            elif self._may(world, Fault.LEASE):
                yield f"lease {lease} ends", ended._replace(faults=world.faults - 1)

    def _faults(self, world: World, fewer: World) -> Iterator[Step]:
        for g, one in enumerate(world.gateways):
            if one != Gateway() and self._may(world, Fault.DEATH):
                yield f"{name(g)} dies", _with(fewer, g, Gateway())
            if self._may(world, Fault.DRAIN):
                drained = one._replace(drains=not one.drains)
                yield f"{name(g)} drains or resumes", _with(fewer, g, drained)
            if self._may(world, Fault.STOP) and one.lease:
                yield from self._stops(world, fewer, g)

    def _stops(self, world: World, fewer: World, g: int) -> Iterator[Step]:
        one = world.gateways[g]
        if one.answer is None:
            age = 0 if one.lease in world.etcd.leases else GONE
            answered = one._replace(answer=age)
            yield f"{name(g)} stops at the answer to a renewal", _with(fewer, g, answered)
        if one.reading is None:
            stopped = one._replace(reading=world.etcd)
            yield f"{name(g)} stops at what it has read", _with(fewer, g, stopped)

    def _may(self, world: World, kind: Fault) -> bool:
        return bool(world.faults) and kind in self.kinds

    # Gateways.

    def _of_gateway(self, world: World, g: int) -> Iterator[Step]:
        yield from self._lease_steps(world, g)
        yield from self._reading_steps(world, g)
        one = world.gateways[g]
        for shard, here in one.shards:
            yield from self._shard_steps(world, g, shard, here)
        if not self._holds(one):
            ended, _ = self._begin(world, g, decide(None, self._own(g, one), 0.0))
            if ended != world:
                yield f"{name(g)} finds its fence over", ended

    def _lease_steps(self, world: World, g: int) -> Iterator[Step]:
        one, who = world.gateways[g], name(g)
        if one.answer is not None:
            yield f"{who} reads the answer to a renewal", self._renewed(world, g, one.answer)
        elif one.lease and (one.renewed or one.lease not in world.etcd.leases):
            age = 0 if one.lease in world.etcd.leases else GONE
            yield f"{who} renews its lease", self._renewed(world, g, age)
        if not one.lease and not one.shards:
            lease = max(_leases(world), default=0) + 1
            etcd = world.etcd._replace(leases=world.etcd.leases | {lease})
            one = one._replace(lease=lease, renewed=0)
            granted = _with(world, g, one)._replace(etcd=etcd)
            put = self._shows(g, one, _read(etcd))
            granted = granted if put is None else self._carried_out(granted, put)
            yield f"{who} gets a lease, and shows itself", granted

    def _renewed(self, world: World, g: int, age: int) -> World:
        """Return what follows from the answer to a renewal that was sent so long ago."""
        one = world.gateways[g]._replace(answer=None)
        if age == GONE:
            one = one._replace(lease=0, renewed=OVER)
            return self._begin(_with(world, g, one), g, decide(None, self._own(g, one), 0.0))[0]
        since = 0 if self._is(Mistake.ANSWER_COUNTS) else age
        return _with(world, g, one._replace(renewed=min(one.renewed, since)))

    def _reading_steps(self, world: World, g: int) -> Iterator[Step]:
        one, who = world.gateways[g], name(g)
        if not one.lease:
            return
        reading = _read(one.reading or world.etcd)
        seen = vacancies(_vacant(one), reading, 0.0)
        vacant = tuple(sorted((s, v.token, _ticks(v.since)) for s, v in seen.items()))
        one = one._replace(vacant=vacant, reading=None)
        actions = decide(reading, self._own(g, one), 0.0)
        after, requests = self._begin(_with(world, g, one), g, actions)
        if (put := self._shows(g, one, reading)) is not None:
            requests.append(put)
        if actions.claim and self._holds(one):
            compares, puts = KEYS.claim(name(g), one.lease, actions.claim)
            is_free = self._is(Mistake.NO_COMPARE)
            requests.append(Request(() if is_free else tuple(compares), tuple(puts)))
        yield from self._sent_in_turn(after, requests, f"{who} acts on its reading")

    def _sent_in_turn(self, world: World, requests: list[Request], what: str) -> Iterator[Step]:
        if not requests:
            yield what, world
            return
        first, *rest = requests
        for label, after in self._sent(world, first, what):
            yield from self._sent_in_turn(after, rest, label)

    def _shows(self, g: int, one: Gateway, reading: SiteReading) -> Request | None:
        """Return what a gateway writes of itself, as `SiteAgent` does."""
        known = reading.gateways.get(name(g))
        key = KEYS.gateway(name(g))
        put = Put(key, gateway_document("", draining=one.drains), one.lease)
        if not one.lease or not self._holds(one):
            return None
        if known is None:
            return Request((Compare(key, Compared.CREATED, 0),), (put,))
        if known.lease == one.lease and known.draining is not one.drains:
            return Request((Compare(key, Compared.LEASE, one.lease),), (put,))
        return None

    def _shard_steps(self, world: World, g: int, shard: int, here: Shard) -> Iterator[Step]:
        one, who = world.gateways[g], f"{name(g)}, shard {shard}"
        if here.phase is Phase.GAINING:
            blob, version = _blob(world.etcd, shard)
            gained = here._replace(phase=Phase.WORKING, blob=blob, version=version)
            yield f"{who}: merged", _with(world, g, _put(one, shard, gained))
            return
        if self._may_act(one) and here.token != world.cloud[shard]:
            yield f"{who}: acts at the cloud", self._act(world, shard, here.token)
        if here.phase is not Phase.WORKING:
            yield from self._end_steps(world, g, shard, here)
        elif self.blobs:
            yield from self._write_steps(world, g, shard, here)

    def _may_act(self, one: Gateway) -> bool:
        return self._holds(one) or self._is(Mistake.NO_FENCE)

    def _act(self, world: World, shard: int, token: int) -> World:
        if token < world.cloud[shard]:
            raise Violation(f"token {token} acts after {world.cloud[shard]} for shard {shard}")
        cloud = (*world.cloud[:shard], token, *world.cloud[shard + 1 :])
        return world._replace(cloud=cloud)

    def _write_steps(self, world: World, g: int, shard: int, here: Shard) -> Iterator[Step]:
        """A change of a child: written until an answer comes, and then the next one."""
        key, version = _blob_key(shard), here.version + 1
        compares = [
            Compare(KEYS.shard(shard), Compared.CREATED, here.token),
            Compare(key, Compared.CHANGED, here.blob),
        ]
        if self._is(Mistake.BLOB_WITHOUT_REVISION):
            compares = compares[:1]
        blob, written = _blob(world.etcd, shard)
        if (blob, written) != (here.blob, here.version) and written == version:
            known = here._replace(blob=blob, version=written)
            durable = _with(world, g, _put(world.gateways[g], shard, known))
            yield f"{name(g)}: version {version} is durable", durable
        elif version <= MOST_VERSIONS:
            write = Request(tuple(compares), (Put(key, str(version).encode()),))
            yield from self._sent(world, write, f"{name(g)} writes version {version}")

    def _end_steps(self, world: World, g: int, shard: int, here: Shard) -> Iterator[Step]:
        one, what = world.gateways[g], f"{name(g)}, shard {shard}: ended"
        one = _without_shard(one, shard)
        if here.phase is Phase.LOSING or self._is(Mistake.EARLY_RELEASE):
            yield what, _with(world, g, one)
            return
        one = self._renounced(one, shard, here.token)
        yield from self._sent(_with(world, g, one), _release(shard, here.token), what)

    def _renounced(self, one: Gateway, shard: int, token: int) -> Gateway:
        if self._is(Mistake.SECOND_THOUGHT):
            return one
        return one._replace(renounced=_noted(one.renounced, shard, token))

    def _begin(self, world: World, g: int, actions: ShardActions) -> tuple[World, list[Request]]:
        """Begin what was decided, all but claims; return what is sent at once."""
        one, requests = world.gateways[g], []
        for shard in actions.lose:
            here = dict(one.shards)[shard]
            if self._holds(one):
                one = _put(one, shard, here._replace(phase=Phase.LOSING))
            else:  # its children may take long to end, but cannot act any more
                one = _without_shard(one, shard)
        for shard, token in actions.give_up.items():
            if shard not in dict(one.shards):  # none of its children works here
                one = self._renounced(one, shard, token)
                requests.append(_release(shard, token))
                continue
            one = _put(one, shard, Shard(token, Phase.GIVING_UP))
            if self._is(Mistake.EARLY_RELEASE):
                requests.append(_release(shard, token))
        for shard, token in actions.gain.items():
            begin = Phase.GAINING if self.blobs else Phase.WORKING
            one = _put(one, shard, Shard(token, begin))
        return _with(world, g, one), requests

    def _own(self, g: int, one: Gateway) -> OwnState:
        working = {s: o.token for s, o in one.shards if o.phase in (Phase.GAINING, Phase.WORKING)}
        vacant = _vacant(one)
        if self._is(Mistake.NO_WAIT):
            vacant = {s: replace(v, since=-math.inf) for s, v in vacant.items()}
        return OwnState(
            name(g), one.lease, self._holds(one), not one.drains, working,
            frozenset(s for s, _ in one.shards if s not in working),
            dict(one.renounced), dict(one.finished), vacant,
        )  # fmt: skip

    def _holds(self, one: Gateway) -> bool:
        fence = Fence(lambda: 0.0)
        fence.renewed(-one.renewed * TICK)
        return fence.holds()

    def _is(self, mistake: Mistake) -> bool:
        return self.mistake is mistake


MOST_VERSIONS = 2
"""Versions of a blob that are written."""


def name(g: int) -> str:
    """Return the name of a gateway."""
    return "abc"[g]


def _release(shard: int, token: int) -> Request:
    compares, deletes = KEYS.give_up(shard, token)
    return Request(tuple(compares), tuple(deletes))


_MEMBERS = [KeyValue(f"{KEYS.prefix}member/{name(g)}", b"", 1, 1) for g in range(3)]


def _blob_key(shard: int) -> str:
    return f"{KEYS.prefix}child/{shard:02}/x"


def _check_blobs(before: Etcd, request: Request) -> None:
    """Raise Violation where a version is overwritten by one whose writer did not know it."""
    for one in request.operations:
        if isinstance(one, Put) and "/child/" in one.key:
            old, new = _version(before, one.key), int(one.value)
            if new <= old:
                raise Violation(f"version {old} of a blob is overwritten by version {new}")


def _blob(etcd: Etcd, shard: int) -> tuple[int, int]:
    key = _blob_key(shard)
    changed = next((one.changed for one in etcd.pairs if one.key == key), 0)
    return changed, _version(etcd, key)


def _version(etcd: Etcd, key: str) -> int:
    return next((int(one.value) for one in etcd.pairs if one.key == key), 0)


@lru_cache(maxsize=100_000)
def _carried_out(etcd: Etcd, request: Request) -> Etcd:
    """Return what etcd has after a transaction."""
    memory = _memory(etcd)
    try:
        memory.txn(request.compares, request.operations, ())
    except LeaseGone:
        return etcd
    return Etcd(tuple(sorted(memory.pairs.values(), key=_by_key)), memory.revision, etcd.leases)


@lru_cache(maxsize=100_000)
def _without(etcd: Etcd, lease: int) -> Etcd:
    """Return what etcd has after the end of a lease."""
    memory = _memory(etcd)
    memory.revoke(lease)
    pairs = tuple(sorted(memory.pairs.values(), key=_by_key))
    return Etcd(pairs, memory.revision, etcd.leases - {lease})


@lru_cache(maxsize=100_000)
def _read(etcd: Etcd) -> SiteReading:
    memory = _memory(etcd)
    memory.pairs |= {one.key: one for one in _MEMBERS}
    return KEYS.read(memory.txn((), KEYS.gets(), ()))


def _memory(etcd: Etcd) -> MemoryEtcd:
    leases = dict.fromkeys(etcd.leases, math.inf)
    return MemoryEtcd(lambda: 0.0, etcd.revision, {one.key: one for one in etcd.pairs}, leases)


def _by_key(one: KeyValue) -> str:
    return one.key


def _vacant(one: Gateway) -> Mapping[int, Vacancy]:
    return {shard: Vacancy(token, -age * TICK) for shard, token, age in one.vacant}


def _ticks(since: float) -> int:
    return min(OVER, round(-since / TICK))


def _noted(known: Iterable[tuple[int, int]], shard: int, token: int) -> tuple[tuple[int, int], ...]:
    return tuple(sorted({**dict(known), shard: token}.items()))


def _put(one: Gateway, shard: int, here: Shard) -> Gateway:
    return one._replace(shards=tuple(sorted({**dict(one.shards), shard: here}.items())))


def _without_shard(one: Gateway, shard: int) -> Gateway:
    left = tuple(item for item in one.shards if item[0] != shard)
    return one._replace(
        shards=left, finished=_noted(one.finished, shard, dict(one.shards)[shard].token)
    )


def _with(world: World, g: int, one: Gateway) -> World:
    gateways = (*world.gateways[:g], one, *world.gateways[g + 1 :])
    return world._replace(gateways=gateways)


def _tick(world: World) -> World:
    return world._replace(gateways=tuple(map(_older, world.gateways)))


def _older(one: Gateway) -> Gateway:
    return one._replace(
        renewed=min(OVER, one.renewed + 1),
        answer=one.answer if one.answer in (None, GONE) else min(OVER, one.answer + 1),
        vacant=tuple((shard, token, min(OVER, age + 1)) for shard, token, age in one.vacant),
    )


def canonical(world: World) -> World:
    """Return the same state with the smallest numbers: of leases, and of revisions, in their order.

    What became of tokens that are nowhere any more is left out: they cannot come again.
    """
    etcds = [world.etcd, *(one.reading for one in world.gateways if one.reading)]
    tokens = {
        number
        for etcd in etcds
        for one in etcd.pairs
        if "/gateway/" not in one.key
        for number in (one.created, one.changed)
    }
    kept = [_pruned(one, tokens) for one in world.gateways]
    world = world._replace(flight=frozenset(r for r in world.flight if _is_alive(world.etcd, r)))
    tokens |= {one.number for r in world.flight for one in r.compares if _is_revision(one)}
    tokens |= {
        number for one in kept for _, here in one.shards for number in (here.token, here.blob)
    }
    cloud = tuple(
        token if any(_may_still_act(one, shard, token) for one in kept) else 0
        for shard, token in enumerate(world.cloud)
    )
    tokens |= {*cloud, *(one.reading.revision for one in kept if one.reading)}
    ranks = {token: rank for rank, token in enumerate(sorted(tokens - {0}), 1)}
    ranks |= {0: 0, world.etcd.revision: len(tokens - {0}) or 1}
    known = [one.lease for one in kept if one.lease]
    leases = _leases(world)
    order = [*dict.fromkeys(known), *sorted(leases - {*known, 0})]
    names = {lease: number for number, lease in enumerate(order, 1)} | {0: 0}
    renumber = _Renumber(ranks, names)
    return World(
        renumber.etcd(world.etcd),
        tuple(map(renumber.gateway, kept)),
        frozenset(map(renumber.request, world.flight)),
        tuple(ranks[token] for token in cloud),
        world.faults,
    )


def _is_alive(etcd: Etcd, request: Request) -> bool:
    """Whether a late request can still change something: revisions and leases never come again."""
    memory = _memory(etcd)
    puts = (one for one in request.operations if isinstance(one, Put) and one.lease)
    return all(one.lease in etcd.leases for one in puts) and all(
        not one.number or memory.number(one.key, one.subject) == one.number
        for one in request.compares
    )


def _leases(world: World) -> set[int]:
    """Return the leases that are, or that something still speaks of."""
    etcds = [world.etcd, *(one.reading for one in world.gateways if one.reading)]
    found = {one.lease for one in world.gateways}
    for etcd in etcds:
        found |= {*etcd.leases, *(one.lease for one in etcd.pairs)}
    for request in world.flight:
        found |= {one.lease for one in request.operations if isinstance(one, Put)}
        found |= {one.number for one in request.compares if not _is_revision(one)}
    return found


def _may_still_act(one: Gateway, shard: int, most: int) -> bool:
    here = dict(one.shards).get(shard)
    return here is not None and here.token <= most


def _is_revision(one: Compare) -> bool:
    return one.subject is not Compared.LEASE


def _pruned(one: Gateway, tokens: set[int]) -> Gateway:
    finished = tuple(item for item in one.finished if item[1] in tokens)
    renounced = tuple(item for item in one.renounced if item[1] in tokens)
    vacant = tuple(item for item in one.vacant if item[1] in tokens)
    return one._replace(finished=finished, renounced=renounced, vacant=vacant)


@dataclass(frozen=True)
class _Renumber:
    """New numbers of revisions, and of leases."""

    ranks: Mapping[int, int]
    leases: Mapping[int, int]

    def etcd(self, etcd: Etcd) -> Etcd:
        pairs = tuple(map(self._pair, etcd.pairs))
        leases = frozenset(self.leases[lease] for lease in etcd.leases)
        return Etcd(pairs, self.ranks[etcd.revision], leases)

    def _pair(self, one: KeyValue) -> KeyValue:
        ranks, lease = self.ranks, self.leases[one.lease]
        if "/gateway/" in one.key:
            return KeyValue(one.key, one.value, 1, 1, lease)
        return KeyValue(one.key, one.value, ranks[one.created], ranks[one.changed], lease)

    def gateway(self, one: Gateway) -> Gateway:
        ranks = self.ranks
        return one._replace(
            lease=self.leases[one.lease],
            reading=self.etcd(one.reading) if one.reading else None,
            shards=tuple(
                (s, h._replace(token=ranks[h.token], blob=ranks[h.blob])) for s, h in one.shards
            ),
            finished=tuple((shard, ranks[token]) for shard, token in one.finished),
            renounced=tuple((shard, ranks[token]) for shard, token in one.renounced),
            vacant=tuple((shard, ranks[token], age) for shard, token, age in one.vacant),
        )

    def request(self, request: Request) -> Request:
        compares = tuple(
            replace(one, number=(self.ranks if _is_revision(one) else self.leases)[one.number])
            for one in request.compares
        )
        operations = tuple(
            replace(one, lease=self.leases[one.lease]) if isinstance(one, Put) else one
            for one in request.operations
        )
        return Request(compares, operations)


@dataclass(frozen=True)
class Explored:
    """What an exploration has found.

    states: how many.  known: all of them.  trace: the steps to a violation, and that; empty where
    there is none.
    """

    states: int
    known: Mapping[World, tuple[World, str] | None]
    trace: tuple[str, ...] = ()


def explore(model: Model, faults: int) -> Explored:
    """Return what is found in every order of all that can happen, with so many faults at most."""
    start = canonical(model.start(faults))
    known: dict[World, tuple[World, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        world = waiting.popleft()
        try:
            for label, after in model.steps(world):
                if (one := canonical(after)) not in known:
                    known[one] = (world, label)
                    waiting.append(one)
        except Violation as error:
            return Explored(len(known), known, (*_trace(known, world), str(error)))
    return Explored(len(known), known)


def _trace(known: Mapping[World, tuple[World, str] | None], world: World) -> list[str]:
    labels = []
    while (before := known[world]) is not None:
        world, label = before
        labels.append(label)
    return labels[::-1]


FAIR = (
    "reads the answer", "of before ends", "carries a late request", "time passes",
    "renews its lease", "gets a lease", "finds its fence over", "acts on its reading", "ended",
    "merged", "acts at the cloud",
)  # fmt: skip
"""The kinds of steps, in an order in which nothing waits for ever."""
ROUNDS = 12


def settled(model: Model, world: World, good: set[World]) -> bool:
    """Whether every shard works in the end, where no fault comes any more.

    good: states of which that is known; it grows.
    """
    path: list[World] = []
    for _ in range(ROUNDS):
        if (world := canonical(world._replace(faults=0))) in good or _is_settled(world):
            good.update(path, [world])
            return True
        path.append(world)
        for kind in FAIR:
            world = _taken(model, world, kind)
    return False


def _taken(model: Model, world: World, kind: str) -> World:
    """Return what follows from one step of a kind, of each gateway that has one."""
    for who in range(model.gateways if kind != "time passes" else 1):
        fits = (
            after
            for label, after in model.steps(world)
            if kind in label and (label.startswith(name(who)) or kind in FAIR[1:4])
        )
        world = next(fits, world)
    return world


def _is_settled(world: World) -> bool:
    """Whether each shard works under the token that etcd has, or every gateway is drained."""
    if all(one.drains for one in world.gateways):
        return not any(one.shards for one in world.gateways)
    working = {
        shard: here.token
        for one in world.gateways
        if not one.renewed
        for shard, here in one.shards
        if here.phase is Phase.WORKING
    }
    owners = _read(world.etcd).owners
    tokens = {shard: owner.token for shard, owner in owners.items()}
    return working == tokens and len(tokens) == len(world.cloud)
