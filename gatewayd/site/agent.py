"""This gateway's part in its site: a lease, readings, and shards that are claimed and given up.

Three loops, of which none waits for another: the lease is renewed, the site is read and acted on,
and the fence is looked at.  What is decided is in decisions.py; here it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gatewayd.errors import (
    EtcdRefused,
    EtcdUnreachable,
    EtcdUseless,
    GatewayError,
    LeaseGone,
    ShardOverfull,
    SiteError,
)
from gatewayd.runtime import backoff
from gatewayd.runtime.tasks import cancel_and_wait, until_one_ends
from gatewayd.site.decisions import (
    OwnState,
    ShardActions,
    Vacancy,
    decide,
    live_gateways,
    vacancies,
)
from gatewayd.site.etcd import as_one_word, largest
from gatewayd.site.etcd_messages import Compare, Compared, EtcdTxn, Operation, Put
from gatewayd.site.fence import LEASE, RENEW_EVERY, Fence
from gatewayd.site.ownership import SiteOwnership
from gatewayd.site.reading import SiteKeys, gateway_document
from gatewayd.site.snapshot import ShardListener, SiteReading, SiteSnapshot

log = logging.getLogger(__name__)

READ_EVERY = 2.0
"""Seconds from one reading of the site to the next, however many children it has."""
LOOK = 0.5
"""Seconds from one look at the fence to the next."""
RETRY = 0.5
"""Seconds from a renewal that failed to the next; a request that hangs takes longer by itself."""
AT_ONCE = 4
"""Shards that are gained at the same time; each is read from etcd, and made durable."""
GAIN_FIRST, GAIN_LAST = 1.0, 30.0
"""Seconds until a gain that failed is tried again: after the first failure, and at most."""
TRIES = 6
"""Failures of each shard here after which another gateway gets them all: half a minute."""
UNFIT_FOR = 300.0
"""Seconds until this one has shards again then."""
CLAIMS = 32
"""Shards that are claimed by one transaction: two compares and two writes for each."""
DRAIN = 30.0
"""Seconds in which all shards are given up; then it is an error."""


class LeaseClient(Protocol):
    """What grants leases and renews them: `EtcdClient`."""

    async def grant(self, seconds: int) -> int:
        """Return the number of a new lease.  Raises SiteError."""

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease.  Raises LeaseGone, SiteError."""

    async def revoke(self, lease: int) -> None:
        """End a lease.  Raises SiteError."""


class KeyClient(Protocol):
    """What reads and writes keys: another `EtcdClient`, so that no renewal waits for it."""

    async def txn(
        self,
        compares: Iterable[Compare],
        success: Iterable[Operation],
        failure: Iterable[Operation] = ...,
    ) -> EtcdTxn:
        """Carry out one branch, by whether all compares are true.  Raises SiteError."""


@dataclass(slots=True)
class _Shard:
    """A shard whose children work here, or begin, or end.

    token: under which.  task: what is under way.  is_gained: whether they work.
    is_stopping: whether they end.  failures: of the gain.
    is_overfull: whether that is of what etcd has of it, which is so at any gateway.
    """

    token: int
    task: asyncio.Task[None] | None = None
    failures: int = 0
    is_overfull: bool = False
    is_gained: bool = False
    is_stopping: bool = False


@dataclass(slots=True)
class _Past:
    """What became of tokens, the newest of each shard: see `OwnState`."""

    renounced: dict[int, int] = field(default_factory=dict)
    finished: dict[int, int] = field(default_factory=dict)


class SiteAgent:
    """What makes this gateway one of its site.

    keys: of the site.  gateway, version: our name, and that of gatewayd.
    leases, store: clients of etcd, each with connections of its own.
    is_ready: returns whether shards can be worked on here: the vault is open, the site's key known.
    on_reading: receives each reading.
    owed: returns the shards of whose children messages wait that this gateway could not send.
    now: seconds of the clock of the fence.  jitter: a number from [0, 1) at each call.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what a gateway has to do with
        self,
        keys: SiteKeys,
        gateway: str,
        version: str,
        *,
        leases: LeaseClient,
        store: KeyClient,
        fence: Fence,
        ownership: SiteOwnership,
        listener: ShardListener,
        is_ready: Callable[[], bool],
        now: Callable[[], float],
        jitter: Callable[[], float],
        on_reading: Callable[[SiteReading], None] = lambda _reading: None,
        owed: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._keys, self._gateway, self._version = keys, gateway, version
        self._leases, self._store, self._fence = leases, store, fence
        self._ownership, self._listener = ownership, listener
        self._is_ready, self._on_reading, self._owed = is_ready, on_reading, owed
        self._now, self._jitter = now, jitter
        self._lease = 0
        self._reading: SiteReading | None = None
        self._read_at = 0.0
        self._fault = ""
        self._useless: EtcdUnreachable | None = None
        self._is_reachable = False
        self._drains = self._is_closed = False
        self._namesake_since = 0.0
        self._unfit_until = -math.inf
        self._shards: dict[int, _Shard] = {}
        self._past = _Past()
        self._vacant: Mapping[int, Vacancy] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Take part in the site until cancelled; then nothing of its children is ended by this."""
        try:
            await until_one_ends(self._keep_lease(), self._follow(), self._guard())
        finally:
            await cancel_and_wait([one.task for one in self._shards.values() if one.task])

    def snapshot(self) -> SiteSnapshot:
        """Return the site as it is seen now."""
        shards = self._shards.items()
        return SiteSnapshot(
            site=self._keys.site,
            gateway=self._gateway,
            reading=self._reading,
            read_before=self._now() - self._read_at if self._reading else 0.0,
            reachable=self._is_reachable,
            fault=self._fault,
            lease=self._lease,
            left=self._fence.left(),
            owned={s: o.token for s, o in shards if o.is_gained and not o.is_stopping},
            gaining=frozenset(s for s, o in shards if not o.is_gained and not o.is_stopping),
            stopping=frozenset(s for s, o in shards if o.is_stopping),
            draining=self._drains,
        )

    async def drain(self) -> None:
        """Give up all shards, and claim none until `resume`.

        Raises EtcdUnreachable, where they could not be given up; their children have ended.
        """
        self._drains = True
        await self._until_empty(DRAIN)

    async def resume(self) -> None:
        """Have shards again."""
        self._drains = False
        self._wake.set()

    async def close(self, seconds: float) -> None:
        """Give up all shards and the lease, before the end; within `seconds`, or else not at all.

        To be awaited while `run` runs.
        """
        self._drains = True
        with contextlib.suppress(EtcdUnreachable):
            await self._until_empty(seconds)
        self._is_closed = True
        lease, self._lease = self._lease, 0
        self._fence.end()
        if lease and not self._shards:
            with contextlib.suppress(SiteError):
                await self._leases.revoke(lease)

    async def _until_empty(self, seconds: float) -> None:
        """Return when no shard works here, nor has our name in etcd."""
        try:
            async with asyncio.timeout(seconds):
                while self._shards or self._has_shards():
                    self._wake.set()
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise EtcdUnreachable(
                f"Not all shards could be given up in {seconds:g} s: {self._fault or 'it goes on'}."
            ) from None

    def _has_shards(self) -> bool:
        """Whether etcd has shards under our lease, by the newest reading."""
        reading = self._reading
        return reading is not None and any(
            one.lease == self._lease for one in reading.owners.values() if self._lease
        )

    # The lease, and the fence.

    async def _keep_lease(self) -> None:
        """Renew the lease; get a new one where it is gone, and nothing works here any more."""
        while True:
            sent = self._now()
            try:
                await self._renew(self._lease, sent)
            except SiteError as error:
                self._note_fault(error)
                # what is refused stays so for now, and a password costs etcd much to check
                await asyncio.sleep(RENEW_EVERY if isinstance(error, EtcdRefused) else RETRY)
            else:
                await asyncio.sleep(max(RETRY, sent + RENEW_EVERY - self._now()))

    async def _renew(self, lease: int, sent: float) -> None:
        if lease and sent - self._fence.until > LEASE:
            # Our requests may reach etcd, and its answers not us: let it end, for the others.
            self._lose_lease()
        elif lease:
            try:
                await self._leases.keep_alive(lease)
            except LeaseGone:
                if lease == self._lease:
                    self._lose_lease()
            else:
                if lease == self._lease:  # else it was given back meanwhile
                    self._look_at_fence()  # what found it over must not be alone with that
                    self._fence.renewed(sent)
        elif not self._shards and not self._is_closed:
            self._lease = await self._leases.grant(LEASE)
            self._fence.renewed(sent)
            self._wake.set()

    def _lose_lease(self) -> None:
        self._lease = 0
        self._fence.end()
        log.warning("The lease of this gateway at etcd has ended: it gets a new one.")
        self._look_at_fence()

    async def _guard(self) -> None:
        """Have all children end as soon as the fence is over."""
        while True:
            await asyncio.sleep(min(LOOK, self._fence.left() or LOOK))
            if not self._is_reachable and not self._fence.holds():
                self._ownership.read(None)
            self._raise_unexpected()
            self._look_at_fence()

    def _look_at_fence(self) -> None:
        """Have all children end, if the fence is over."""
        self._do(decide(None, self._own(), self._now()))

    def _raise_unexpected(self) -> None:
        """Raise what ended the work on a shard without being expected: else it had no gateway."""
        for one in self._shards.values():
            if one.task is not None and one.task.done():
                one.task.result()

    # Readings, and what follows from them.

    async def _follow(self) -> None:
        """Read the site, and act on it."""
        while True:
            self._wake.clear()
            claimed = False
            try:
                reading = await self._read()
                claimed = await self._act(reading)
            except SiteError as error:
                self._note_fault(error)
            if not claimed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(READ_EVERY):
                        await self._wake.wait()

    async def _read(self) -> SiteReading:
        try:
            txn = await self._store.txn([], [*self._keys.gets()])
        except EtcdUseless as error:
            raise await self._named(error) from error
        reading = self._keys.read(txn)
        self._reading, self._read_at = reading, self._now()
        self._is_reachable, self._fault, self._useless = True, "", None
        self._vacant = vacancies(self._vacant, reading, self._read_at)
        self._ownership.read(reading)
        self._on_reading(reading)
        return reading

    async def _named(self, error: EtcdUseless) -> EtcdUnreachable:
        """Return an error that names the key with the largest value; it is looked for once."""
        if self._useless is None:
            key = await largest(self._store, self._keys.gets())
            text = f"{error} The largest is {as_one_word(key)}." if key else str(error)
            self._useless = EtcdUnreachable(text)
        return self._useless

    async def _act(self, reading: SiteReading) -> bool:
        """Do what follows from a reading; return whether shards were claimed."""
        actions = decide(reading, self._own(), self._now())
        self._do(actions)
        await self._show_ourselves(reading)
        return bool(actions.claim) and await self._claim(actions.claim)

    def _own(self) -> OwnState:
        shards = self._shards.items()
        return OwnState(
            self._gateway,
            self._lease,
            self._fence.holds(),
            self._is_entitled(),
            {shard: one.token for shard, one in shards if not one.is_stopping},
            frozenset(shard for shard, one in shards if one.is_stopping),
            dict(self._past.renounced),
            dict(self._past.finished),
            self._vacant,
        )

    def _is_entitled(self) -> bool:
        is_fit = self._now() >= self._unfit_until
        return not self._drains and is_fit and self._is_ready()

    def _do(self, actions: ShardActions) -> None:
        """Begin what was decided, all but claims."""
        for shard in actions.lose:
            self._stop(shard, self._shards[shard].token, give_up=False)
        for shard, token in actions.give_up.items():
            self._stop(shard, token, give_up=True)
        for shard, token in actions.gain.items():
            one = self._shards[shard] = _Shard(token)
            one.task = asyncio.create_task(self._gain(shard, one))
        if actions.lose:
            log.warning(
                "The children of %d shards end here: their time is over.", len(actions.lose)
            )

    async def _show_ourselves(self, reading: SiteReading) -> None:
        """Write what others have to know of us, where etcd has it otherwise, or not at all."""
        key, known = self._keys.gateway(self._gateway), reading.gateways.get(self._gateway)
        is_entitled, owed = self._is_entitled(), self._owed()
        document = gateway_document(self._version, draining=not is_entitled, owed=owed)
        if not self._lease or not self._fence.holds():
            return
        if known is not None and known.lease != self._lease:
            self._note_namesake()
            return
        self._namesake_since = min(self._namesake_since, 0.0)
        if known is None and not self._is_ready():
            return  # one that is no member takes no member's name
        if known is None or known.draining is is_entitled or known.owed != owed:
            ours = Compare(key, Compared.LEASE, self._lease) if known else _absent(key)
            if (await self._store.txn([ours], [Put(key, document, self._lease)])).succeeded:
                self._wake.set()

    def _note_namesake(self) -> None:
        """Log that a lease of another has our name; ours of before a restart ends by itself."""
        if not self._namesake_since:
            self._namesake_since = self._now()
        elif self._namesake_since > 0 and self._now() - self._namesake_since > 2 * LEASE:
            self._namesake_since = -1.0  # logged, once in a run
            log.warning(
                "Another gateway of site %s is called %s, too: this one has no children. Set "
                "gateway in [site] to another name, then run systemctl restart gatewayd.",
                self._keys.site,
                self._gateway,
            )

    async def _claim(self, claim: Mapping[int, int]) -> bool:
        """Claim shards, a few in one transaction; return whether any was."""
        shards = sorted(claim)
        claimed = 0
        for begin in range(0, len(shards), CLAIMS):
            some = {shard: claim[shard] for shard in shards[begin : begin + CLAIMS]}
            compares, puts = self._keys.claim(self._gateway, self._lease, some)
            if not self._fence.holds():
                break
            if (await self._store.txn(compares, puts)).succeeded:
                claimed += len(some)
        if claimed:
            log.info("Claimed %d shards of site %s.", claimed, self._keys.site)
        return bool(claimed)

    # One shard.

    async def _gain(self, shard: int, one: _Shard) -> None:
        """Have the children of a shard work here; try again where that fails."""
        while not one.is_gained:
            try:
                async with self._turns:
                    await self._listener.gained(shard, one.token)
                    one.is_gained = True
            except GatewayError as error:
                one.failures += 1
                one.is_overfull = isinstance(error, ShardOverfull)
                if one.failures == 1:
                    log.warning("Shard %d cannot be taken over yet: %s", shard, error)
                self._note_unfit()
                await asyncio.sleep(
                    backoff.delay(one.failures, GAIN_FIRST, GAIN_LAST, self._jitter())
                )

    def _note_unfit(self) -> None:
        """Leave all shards to others for a while, where none can be gained here, as on a full disk.

        One that fails beside others that work may fail anywhere, and is tried on; so is one that
        fails by what etcd has of it, so that it is worked on as soon as that is gone.
        """
        if self._now() < self._unfit_until or self._reading is None:
            return
        others = live_gateways(self._reading) - {self._gateway}
        if others and all(
            one.failures >= TRIES and not one.is_overfull for one in self._shards.values()
        ):
            self._unfit_until = self._now() + UNFIT_FOR
            log.warning(
                "None of %d shards can be taken over here: other gateways get them for %d s.",
                len(self._shards),
                UNFIT_FOR,
            )

    def _stop(self, shard: int, token: int, *, give_up: bool) -> None:
        """Have the children of a shard end here.  give_up: whether its key is deleted then."""
        one = self._shards.setdefault(shard, _Shard(token))
        one.is_stopping = True
        self._ownership.leaves(shard)
        one.task = asyncio.create_task(self._end(shard, one, one.task, give_up=give_up))

    async def _end(
        self, shard: int, one: _Shard, gain: asyncio.Task[None] | None, *, give_up: bool
    ) -> None:
        if gain is not None:  # else none of its children has begun here
            await cancel_and_wait([gain])
            await self._listener.lost(shard)
        self._past.finished[shard] = one.token
        self._ownership.lost(shard)
        if give_up:
            try:
                await self._renounce(shard, one.token)
            except SiteError as error:
                self._note_fault(error)
        del self._shards[shard]
        self._wake.set()

    async def _renounce(self, shard: int, token: int) -> None:
        """Delete the keys of a shard, if they are still those of this token.  Raises SiteError."""
        self._past.renounced[shard] = token
        await self._store.txn(*self._keys.give_up(shard, token))

    def _note_fault(self, error: SiteError) -> None:
        self._is_reachable, self._fault = False, str(error)


def _absent(key: str) -> Compare:
    return Compare(key, Compared.CREATED, 0)
