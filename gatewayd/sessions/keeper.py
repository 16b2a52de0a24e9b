"""Sessions: each child that is present has one, which is opened, kept and reopened.

A login uses only a secret that was just read from the durable store; and the first login, which
commits the secret at the cloud, is recorded before it happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from gatewayd.cloud.provider import (
    NO_PROVIDER,
    CloudProvider,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Session,
    SessionEnd,
)
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Record, RecordStore, Verdict, unchanged
from gatewayd.device.recovery import HANDED_OVER, SECRET_LOST, on_refused_login, reason_of
from gatewayd.device.secret import SecretSlots
from gatewayd.errors import RecordChanged, SecretCorrupt, SecretNotFound, StoreError
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import LOOK, Clock
from gatewayd.runtime.rate_limiter import RateLimiter, SlidingWindow
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.sessions.contest import CONTESTED, YIELDED, Closing, CloudClosings, Contest
from gatewayd.sessions.hand_over import HeldSecrets
from gatewayd.sessions.renewal import (
    RENEWED,
    OpenSession,
    RenewalFailed,
    SecretRenewal,
    next_try,
)
from gatewayd.settings.declare import RetrySettings, setting

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionSettings(RetrySettings):
    """[sessions]"""

    connecting: int = setting(32, "logins at the same time, at each cloud", low=1, high=1000)
    retry_refused: float = setting(
        600.0, "wait after the cloud refused a login", unit="s", low=1, high=86400
    )
    retry_renewal: float = setting(
        21600.0,
        "wait after the cloud refused the secret that is to replace the one in use",
        unit="s",
        low=60,
        high=604800,
    )
    retry_contested: float = setting(
        900.0,
        "wait, and up to a quarter more, of the one that gives way where two log in with one name",
        unit="s",
        low=1,
        high=86400,
    )
    per_minute: int = setting(4, "most logins of one child in any minute", low=1, high=60)


class LoginTurns:
    """The logins under way at each cloud: a limit for all who log children in.

    connecting: how many at each cloud.
    """

    def __init__(self, clouds: Mapping[str, object], connecting: int) -> None:
        self._turns = {name: asyncio.Semaphore(connecting) for name in clouds}

    def at(self, cloud: str) -> asyncio.Semaphore:
        """Return the turns at a cloud that is configured."""
        return self._turns[cloud]


class SessionLogin:
    """Logs children in.

    renewal: of the same records.  later: seconds after which a new secret that was tried before is
    tried again.
    """

    def __init__(
        self,
        secrets: SecretSlots,
        providers: Mapping[str, CloudProvider],
        turns: LoginTurns,
        renewal: SecretRenewal,
        clock: Clock,
        later: float,
    ) -> None:
        self._secrets, self._providers, self._turns = secrets, providers, turns
        self._renewal, self._clock, self._later = renewal, clock, later

    async def open(self, record: Record) -> tuple[OpenSession, bool]:
        """Log in with the secret in use or, if that fails, with the one that is to replace it.

        Returns the session, and whether another secret is in use now.
        Raises LoginRefused, LoginRemoved, LoginFailed, StoreError.
        """
        try:
            return await self._open_with_stored(record), False
        except (LoginRefused, SecretNotFound, SecretCorrupt) as error:
            return await self._renewal.rescue(record, error), True

    async def _open_with_stored(self, record: Record) -> OpenSession:
        assert record.cloud is not None, "only a registered child logs in"
        assert record.activating == record.stored, "the first login is recorded before it happens"
        provider = self._providers.get(record.cloud.provider)
        if provider is None:
            raise LoginFailed(NO_PROVIDER)
        if record.elsewhere.code:
            raise LoginFailed(record.elsewhere)
        async with self._turns.at(record.cloud.provider):
            secret = await self._secrets.get(record.slot(record.stored))
            session = await provider.connect(record.cloud, secret)
            due = self.again(record.candidate, provider.renew_at(record.cloud, secret))
            return OpenSession(session, due, guessed=not self._clock.is_set())

    def again(self, candidate: int, due: float | None) -> float | None:
        """Return when to renew: later, if there is a candidate, which was tried before.

        due, and what is returned: seconds since the epoch; None for never.
        """
        later = self._clock.timestamp() + self._later
        return due if due is None or not candidate else max(due, later)


MOVED = Reason("moved", "It has moved to another cloud.")
SECRET_GONE = Reason("secret-gone", "The secret is no longer in its slot, and was never used.")
SHORT = 20.0
"""A session that ended sooner, seconds, counts as a failure: the waits grow.  With longer ones, so
do those of another gateway that holds the device."""
RETURNS = 1.5
"""How many times retry_last a session lasted at most whose closing is a sign of another holder: so
late does another gateway come back."""
SPREAD = 0.25
"""The part of retry_contested that is added at random."""
TURN = 5.0
"""Seconds, and up to as many again, for which a due renewal is postponed while others are under
way."""


class SessionWatcher:
    """A watcher that waits until a session ends, or its secret is to be replaced.

    Nothing is due before the clock is set.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken: dict[DeviceId, asyncio.Future[None]] = {}

    def wake(self, device: DeviceId) -> bool:
        """Have a child's secret replaced now; False where it has no session, or none to replace."""
        woken = self._woken.get(device)
        if woken is None:
            return False
        if not woken.done():
            woken.set_result(None)
        return True

    async def wait(self, device: DeviceId, opened: OpenSession) -> SessionEnd | None:
        """Return how a session ended; None when its secret is to be replaced."""
        if opened.due is None:
            return await opened.session.wait_closed()
        woken = self._woken[device] = asyncio.get_running_loop().create_future()
        closed = asyncio.ensure_future(opened.session.wait_closed())
        try:
            while not (woken.done() or closed.done()):
                is_due = opened.guessed or opened.due <= self._clock.timestamp()
                if is_due and self._clock.is_set():
                    return None
                watched, wait = {closed, woken}, self._clock.until_look(opened.due)
                await asyncio.wait(watched, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            return closed.result() if closed.done() else None
        finally:
            del self._woken[device]
            await cancel_and_wait([closed])


class SessionListener(Protocol):
    """A listener for the sessions of children.  Never blocks, never raises."""

    def session_opened(self, device: DeviceId, session: Session) -> None:
        """Use this session from now on; it may take the place of another one, which is closed."""

    def session_closed(self, device: DeviceId) -> None:
        """Use the session of this child no more."""


LEFT = SessionEnd(MOVED)
"""The end of a session at a cloud to which the child does not belong any more.  What moved it has
the work begin again."""
HELD = SessionEnd(HANDED_OVER)
"""The end of a session that was opened to commit the secret of a child that has a holder."""


def _same(now: Record | None, before: Record) -> Record:
    """Return the newest record, in which the same secret of the same cloud is in use.

    Raises RecordChanged.
    """
    return unchanged(now, cloud=before.cloud, stored=before.stored)


def _cloud_of(record: Record) -> str:
    assert record.cloud is not None, "only a registered child logs in"
    return record.cloud.provider


@dataclass(slots=True)
class Tries:
    """The tries to keep a child's session.

    failures: how many have failed in a row.  contest: None until a session has ended.
    """

    failures: int = 0
    contest: Contest | None = None

    def failed(self, reason: Reason) -> int:
        """Note that a login failed; return how many have in a row."""
        self.failures += 1
        if self.contest is not None:
            self.contest.failed(reason)
        return self.failures

    def opened(self) -> Reason:
        """Note that there is a session; return what is known of another one that logs in so."""
        return self.contest.opened() if self.contest is not None else NONE


class SessionKeeper:
    """A worker that keeps sessions open, with a back-off and a login rate for each child.

    hands_over: whether the rule of this name says that its children have holders.
    held: the secrets of those.
    checkpoint: called with the name of each completed step; tests crash there.
    """

    def __init__(  # noqa: PLR0913  # one by keyword
        self,
        records: RecordStore,
        secrets: SecretSlots,
        providers: Mapping[str, CloudProvider],
        settings: SessionSettings,
        clock: Clock,
        checkpoint: Callable[[str], None],
        *,
        hands_over: Callable[[str], bool],
    ) -> None:
        self._records, self._secrets, self._providers = records, secrets, providers
        self._settings, self._checkpoint = settings, checkpoint
        self._now, self._wall, self._jitter = clock.now, clock.stamp, clock.jitter
        self._timestamp, self._clock = clock.timestamp, clock
        self._short = max(SHORT, 2 * min(settings.retry_first, settings.retry_last))
        self._turns = LoginTurns(providers, settings.connecting)
        self._renewal = SecretRenewal(records, secrets, providers, clock, checkpoint)
        self._login = SessionLogin(
            secrets, providers, self._turns, self._renewal, clock, settings.retry_renewal
        )
        self._watcher, self._hands_over = SessionWatcher(clock), hands_over
        self._given: dict[DeviceId, OpenSession] = {}
        self._kept, self._closings = Counter[str](), CloudClosings(clock.now)
        self.held = HeldSecrets(
            records, secrets, providers, self._renewal, clock,
            is_for_holder=self.is_for_holder,
            retry_soon=settings.retry_last,
            retry_late=settings.retry_renewal,
        )  # fmt: skip
        self._listeners: list[SessionListener] = []

    def is_for_holder(self, record: Record) -> bool:
        """Whether a child's holder is to have its session, by the rules in force."""
        return self._hands_over(record.rule) and self.held.issuer(record) is not None

    def listen(self, listener: SessionListener) -> None:
        """Have a listener learn of each session, once its login is durable."""
        self._listeners.append(listener)

    def renew(self, device: DeviceId) -> bool:
        """Have a child's secret replaced now; False where it has no session, or none to replace."""
        return self._watcher.wake(device) or self.held.renew(device)

    async def activate(self, device: DeviceId, post: PostEvent) -> None:
        """Make sure that this child's record says that its secret may be used.

        It does so since the secret was stored, unless an earlier version stored it.  A child whose
        holder is to have the session is handed over, if its first login has happened.
        """
        record = self._records[device]
        if record.elsewhere.code:
            post(lc.OwnedElsewhere(record.elsewhere))
            return
        if self._is_handed_over(record):
            post(lc.HandedOver(HANDED_OVER))
            return
        if record.activating != record.stored:
            await self._records.update(
                device, lambda r: replace(_same(r, record), activating=record.stored)
            )
        post(lc.ActivationStarted())

    async def connect(self, device: DeviceId, post: PostEvent) -> None:
        """Keep a session open, until cancelled or until an operator has to act.

        A child that has a holder is logged in once, which commits its secret.
        """
        per_minute = SlidingWindow(self._settings.per_minute, 60.0)
        budget, tries = RateLimiter(per_minute, self._now, waiters=1), Tries()
        while True:
            await budget.acquire()
            record = self._records[device]
            try:
                opened = await self._log_in(record, post)
            except LoginRefused as refusal:
                if await self._refused(record, refusal, post):
                    return
            except LoginRemoved as removal:
                await self._removed(record, removal.reason, post)
                return
            except LoginFailed as failure:
                await self._delay(tries.failed(failure.reason), failure.reason, post)
            except StoreError as error:
                if await self._secret_failed(record, error, post):
                    return
                await self._delay(tries.failed(reason_of(error)), reason_of(error), post)
            else:
                lasted, ended = await self._keep(record, opened, tries.opened(), post)
                if await self._ended_for_good(self._records[device], ended, post):
                    return
                await self._wait_after(record, (lasted, ended), tries, post)

    async def _wait_after(
        self, record: Record, kept: tuple[float, SessionEnd], tries: Tries, post: PostEvent
    ) -> None:
        """Wait after a session that has lasted so many seconds, and ended so."""
        lasted, ended = kept
        tries.failures = tries.failures + 1 if lasted < self._short else 0
        longest = RETURNS * self._settings.retry_last
        contest = tries.contest = tries.contest or Contest(self._short, longest, self._now)
        is_contested = contest.note(lasted, self._closing(record, ended))
        reason = CONTESTED if is_contested else ended.reason
        post(lc.SessionClosed(reason))
        await self._delay(tries.failures + 1, reason, post)
        if contest.must_yield():
            await self._give_way(record.device, first=contest.yields == 1, post=post)
            tries.failures = 0

    def _closing(self, record: Record, ended: SessionEnd) -> Closing | None:
        """Return what the end of a session is part of, where the cloud has closed it."""
        cloud = _cloud_of(record)
        if not ended.by_cloud:
            return None
        return self._closings.note(cloud, record.device, self._kept[cloud] + 1)

    async def _give_way(self, device: DeviceId, *, first: bool, post: PostEvent) -> None:
        """Let another one have a child's session, for so long as it may need."""
        wait = self._settings.retry_contested * (1 + SPREAD * self._jitter())
        if first:
            log.warning(
                "Device %s: something else logs in with its name, and keeps its session; it is "
                "tried again every %.0f s or later.", device, self._settings.retry_contested,
                extra={"device": device, "message_id": "session-yielded"},
            )  # fmt: skip
        post(lc.SessionDelayed(YIELDED, self._now() + wait))
        await asyncio.sleep(wait)

    def _is_handed_over(self, record: Record) -> bool:
        """Whether a child's holder is to log in, now that the first login has happened."""
        return bool(record.activated_at) and self.is_for_holder(record)

    def login_for(self, records: RecordStore, checkpoint: Callable[[str], None]) -> SessionLogin:
        """Return what logs in the children of other records, in the turns of this keeper."""
        renewal = SecretRenewal(records, self._secrets, self._providers, self._clock, checkpoint)
        later = self._settings.retry_renewal
        return SessionLogin(
            self._secrets, self._providers, self._turns, renewal, self._clock, later
        )

    def give(self, device: DeviceId, opened: OpenSession) -> None:
        """Keep this session, in place of a login, when the work for a child begins again."""
        self._given[device] = opened

    def is_given(self, device: DeviceId) -> bool:
        """Whether a session that was given for a child is not kept yet."""
        return device in self._given

    async def take_back(self, device: DeviceId) -> None:
        """Close the session that was given for a child, unless it is kept by now."""
        if (opened := self._given.pop(device, None)) is not None:
            await opened.session.close()

    async def _log_in(self, record: Record, post: PostEvent) -> OpenSession:
        if (given := self._given.pop(record.device, None)) is not None:
            return given
        try:
            opened, renewed = await self._login.open(record)
        except LoginRemoved as removal:
            if record.is_moving:  # it is about to leave that cloud
                raise LoginFailed(removal.reason) from removal
            raise
        if renewed:
            post(lc.SecretRenewed(RENEWED))
        return opened

    async def _keep(
        self, before: Record, opened: OpenSession, rival: Reason, post: PostEvent
    ) -> tuple[float, SessionEnd]:
        """Keep a session until it ends; return how long it lasted, seconds, and how it ended.

        When its secret is due for renewal, a session with a new secret replaces it.
        before: the record of the login; by now the child may belong to another cloud.
        rival: what is known of another one that logs in with its name.
        """
        device, began = before.device, self._now()
        self._kept[_cloud_of(before)] += 1
        try:
            self._checkpoint("logged-in")
            record = await self._confirm(self._records[device])
            if record.cloud != before.cloud:
                return 0.0, LEFT
            if self._is_handed_over(record):
                return 0.0, HELD
            waiting = await self._renewal.waiting(record) if record.candidate else rival
            post(lc.Moved(MOVED) if opened.moved else lc.SessionOpened(waiting))
            self._opened(device, opened)
            while (ended := await self._watcher.wait(device, opened)) is None:
                opened, older = await self._renew(device, opened, post), opened
                if opened is not older:
                    began = self._now()
                    self._opened(device, opened)
                    await older.session.close()
            if self._records[device].cloud != record.cloud:
                post(lc.SessionClosed(MOVED))
                return 0.0, LEFT
            return self._now() - began, ended
        finally:
            self._kept[_cloud_of(before)] -= 1
            for listener in self._listeners:
                listener.session_closed(device)
            await opened.session.close()

    def _opened(self, device: DeviceId, opened: OpenSession) -> None:
        for listener in self._listeners:
            listener.session_opened(device, opened.session)

    async def _renew(self, device: DeviceId, opened: OpenSession, post: PostEvent) -> OpenSession:
        """Renew the secret, and return the open session with the time of the next renewal."""
        settings = self._settings
        if opened.guessed and self._clock.is_set():
            return await self._with_time(device, opened)
        if self._renewal.is_busy(device):
            opened.due = self._timestamp() + TURN * (1 + self._jitter())
            return opened
        try:
            renewed = await self._renewal.renew(device)
        except RecordChanged:
            raise
        except (RenewalFailed, StoreError) as error:
            soon, late = settings.retry_last, settings.retry_renewal
            wait, reason = next_try(error, soon=soon, late=late)
        else:
            post(lc.SecretRenewed(RENEWED))
            return renewed
        post(lc.RenewalDelayed(reason, self._now() + wait))
        opened.due = self._timestamp() + wait
        return opened

    async def _with_time(self, device: DeviceId, opened: OpenSession) -> OpenSession:
        """Return a session with the time of its renewal, now that the clock is set."""
        record = self._records[device]
        try:
            opened.due = self._login.again(record.candidate, await self._renewal.due(record))
            opened.guessed = False
        except StoreError:
            await asyncio.sleep(LOOK)
        return opened

    async def _confirm(self, record: Record) -> Record:
        if record.activated_at:
            return record
        now = self._wall()
        confirmed = await self._records.update(
            record.device,
            lambda r: replace(_same(r, record), activated_at=now, stale=0),
        )
        self._checkpoint("activation-confirmed")
        return confirmed

    async def _ended_for_good(self, record: Record, ended: SessionEnd, post: PostEvent) -> bool:
        """Whether the end of a session ends the work; then it is posted why."""
        removed = ended.removed and not record.is_moving  # else it is about to leave that cloud
        if ended is HELD:
            post(lc.HandedOver(HANDED_OVER))
        elif removed:
            await self._removed(record, ended.reason, post)
        return ended in (HELD, LEFT) or removed

    async def _removed(self, record: Record, reason: Reason, post: PostEvent) -> None:
        """Record that the cloud removed a child, so that it does not come back by itself."""
        now = self._wall()
        await self._records.update(
            record.device, lambda r: _same(r, record).with_verdict(Verdict.RETIRED, reason, now)
        )
        post(lc.Retired(reason))

    async def _refused(self, record: Record, refusal: LoginRefused, post: PostEvent) -> bool:
        """Handle a refused login; return whether that ends the work."""
        event = on_refused_login(record, refusal.reason, stale=refusal.stale)
        if isinstance(event, lc.SessionDelayed):
            wait = self._settings.retry_refused
            post(replace(event, until=self._now() + wait))
            await asyncio.sleep(wait)
            return False
        if isinstance(event, lc.SecretStale):
            await self._records.update(
                record.device, lambda r: _same(r, record).without_stale_secret()
            )
        post(event)
        return True

    async def _secret_failed(self, record: Record, error: StoreError, post: PostEvent) -> bool:
        """Handle an unreadable slot; return whether that ends the work."""
        if not isinstance(error, SecretNotFound | SecretCorrupt):
            return False
        if record.activated_at:
            post(lc.SecretLost(SECRET_LOST))
        else:
            await self._records.update(record.device, lambda r: replace(_same(r, record), stored=0))
            post(lc.SecretStale(SECRET_GONE))
        return True

    async def _delay(self, failures: int, reason: Reason, post: PostEvent) -> None:
        settings = self._settings
        wait = delay(failures, settings.retry_first, settings.retry_last, self._jitter())
        post(lc.SessionDelayed(reason, self._now() + wait))
        await asyncio.sleep(wait)
