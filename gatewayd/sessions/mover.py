"""The mover: children that are to move are registered at the other cloud, logged in, switched.

    move on record → intent n → secret in slot n → pointer to slot n → login there → switch

Registration and login are those of any child, on records that show it at its target.  The switch
is one commit.  Until then the session at the first cloud is kept, and is the one that publishes;
after it that session is closed, and the other one is kept.  If the process dies between any two
steps, the next run goes on with the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gatewayd.cloud.provider import NO_PROVIDER, LoginError, LoginFailed, LoginRefused
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent, State
from gatewayd.device.reason import NONE, Reason, addressed
from gatewayd.device.record import Record, RecordStore, unchanged
from gatewayd.device.recovery import on_refused_login, reason_of
from gatewayd.device.target_records import TargetRecords
from gatewayd.errors import RecordChanged, SecretCorrupt, SecretNotFound, StoreError
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.sessions.keeper import SessionLogin
from gatewayd.sessions.renewal import OpenSession
from gatewayd.settings.declare import RetrySettings

log = logging.getLogger(__name__)

AWAY = Reason(
    "move-waits-for-child",
    "It moves as soon as it is online, or would be: it is absent, or has a holder now.",
)
KEPT_OUT = Reason("move-waits-for-verdict", "It moves once an operator has let it in again.")
SECRET_GONE_THERE = Reason(
    "move-secret-lost",
    "The other cloud knows this child by a secret that this gateway no longer has.",
    "Reset the child at cloud CLOUD, then run gatewayctl move CHILD --cancel, then gatewayctl "
    "forget CHILD --dormant CLOUD, and move it again.",
)
NO_TARGET = Reason(
    "move-cloud-not-configured",
    "The cloud to which it is to move is not configured.",
    "Configure it under [cloud], run systemctl restart gatewayd, then gatewayctl retry CHILD; or "
    "run gatewayctl move CHILD --cancel.",
)
_REREGISTER = "gatewayctl reregister CHILD CHILD"
_START_AGAIN = (
    "gatewayctl move CHILD --cancel, then gatewayctl forget CHILD --dormant CLOUD, and move it "
    "again"
)
_TRY_AGAIN = "gatewayctl retry CHILD"
"""What a remedy of a cloud means for a child that is not there yet, as what it has here is in use:
where a secret of that cloud is kept, and where none is."""
FAULT = Reason("internal-error", "gatewayd has a fault; the journal has the details.")
FAULT_DELAY = 30.0
"""Seconds after which a move that failed unexpectedly goes on."""
DRAIN = 5.0
"""Seconds that requests under way have to end when gatewayd stops."""
GRACE = 2.0
"""Seconds for which a child that has just gone may come back to its session."""
LOOK = 0.1
"""Seconds after which it is tried again to see a session kept that was given."""

_SWITCHES = frozenset({State.ONLINE, State.OFFLINE, State.ACTIVATING, State.FAILED})
"""The states in which a child moves: present, and not in the hands of a holder."""


class TargetRegistration(Protocol):
    """What registers children at the clouds to which they move."""

    async def register(self, device: DeviceId, post: PostEvent) -> None:
        """Work on a child until its secret is durable, or an operator has to act."""

    async def drain(self, seconds: float) -> None:
        """Start no further request, and wait for those under way, at most so many seconds."""


class MovingChildren(Protocol):
    """What the mover asks of children."""

    def state(self, device: DeviceId) -> State:
        """Return the state of a child; FORGOTTEN for one that is gone."""

    def restart(self, device: DeviceId) -> None:
        """Begin the work for a child again, at the cloud to which it belongs now."""

    def note(self, device: DeviceId, event: str, reason: Reason) -> None:
        """Show what has happened to a child, which is no event of its life cycle."""


class GivenSessions(Protocol):
    """What keeps sessions: the keeper."""

    def give(self, device: DeviceId, opened: OpenSession) -> None:
        """Keep this session, in place of a login, when the work for a child begins again."""

    def is_given(self, device: DeviceId) -> bool:
        """Whether a session that was given for a child is not kept yet."""

    async def take_back(self, device: DeviceId) -> None:
        """Close the session that was given for a child, unless it is kept by now."""


@dataclass(slots=True, eq=False)
class MoveWork:
    """The work on one move.

    reason: why it does not go on, and until when, seconds of the event loop's clock; 0: not known.
    asleep: whether the registration waits, so that it can be begun again without harm.
    changed: set when something has changed on which the move waits.
    asked: set when an operator wants it to go on now.
    """

    task: asyncio.Task[None] | None = None
    reason: Reason = NONE
    until: float = 0.0
    asleep: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)


class Mover:
    """A service that moves children, as many at a time as registrations and logins have turns.

    targets: the records of those children at their targets.  registration, login: on these.
    checkpoint: called with the name of each completed step; tests crash there.

    moving: the moves on which is being worked.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what the root joins
        self,
        records: RecordStore,
        *,
        targets: TargetRecords,
        registration: TargetRegistration,
        login: SessionLogin,
        sessions: GivenSessions,
        children: MovingChildren,
        settings: RetrySettings,
        clock: Clock,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._records, self._targets = records, targets
        self._registration, self._login = registration, login
        self._sessions, self._children = sessions, children
        self._settings, self._clock, self._checkpoint = settings, clock, checkpoint
        self.moving: dict[DeviceId, MoveWork] = {}
        self._running = False

    async def run(self) -> None:
        """Go on with all moves that are on record, and with each that begins, until cancelled."""
        self._running = True
        for record in self._records.all():
            if record.is_moving:
                self.begin(record.device)
        try:
            await asyncio.Event().wait()
        finally:
            self._running = False
            await self._registration.drain(DRAIN)
            await cancel_and_wait([one.task for one in self.moving.values() if one.task])

    def begin(self, device: DeviceId) -> None:
        """Work on the move of a child, which is on record; go on at once where it waits."""
        if not self._running:
            return
        moving = self.moving.get(device)
        if moving is None:
            moving = self.moving[device] = MoveWork()
            work = self._until_moved(device, moving)
            moving.task = asyncio.get_running_loop().create_task(work, name=f"move {device}")
        moving.asked.set()
        moving.changed.set()

    @contextlib.asynccontextmanager
    async def halted(self, device: DeviceId) -> AsyncIterator[None]:
        """End the work on the move of a child; after the block it goes on, if it is to."""
        moving = self.moving.get(device)
        if moving is not None and moving.task is not None:
            await cancel_and_wait([moving.task])
        try:
            yield
        finally:
            record = self._records.get(device)
            if record is not None and record.is_moving:
                self.begin(device)

    def waits_for(self, device: DeviceId) -> tuple[Reason, float]:
        """Return why a move does not go on, and until when, seconds of the event loop's clock."""
        moving = self.moving.get(device)
        return (NONE, 0.0) if moving is None else (moving.reason, moving.until)

    # The steps of one move.

    async def _until_moved(self, device: DeviceId, moving: MoveWork) -> None:
        """Take each step of a move, until it is done, refused or called off."""
        failures = 0
        try:
            while (record := self._records.get(device)) is not None and record.is_moving:
                moving.asked.clear()
                moving.changed.clear()
                try:
                    failures = await self._step(record, moving, failures)
                except RecordChanged:
                    continue
                except StoreError as error:
                    failures += 1
                    await self._wait(device, moving, failures, reason_of(error))
                except Exception:  # border: a fault in one move must not stop the others
                    log.exception("Device %s: its move failed.", device, extra={"device": device})
                    self._note(device, moving, FAULT, self._clock.now() + FAULT_DELAY)
                    await self._sleep(moving, FAULT_DELAY)
        finally:
            del self.moving[device]

    async def _step(self, record: Record, moving: MoveWork, failures: int) -> int:
        """Take the next step, or wait for what it needs; return how many have failed in a row."""
        device, move = record.device, record.moves.under_way
        assert move is not None, "a move is under way"
        if not record.is_in_force:
            self._note(device, moving, KEPT_OUT)
            await moving.changed.wait()
        elif not move.to.stored:
            await self._register(device, moving)
        elif self._children.state(device) not in _SWITCHES:
            self._note(device, moving, AWAY)
            await moving.changed.wait()
        else:
            return await self._log_in(record, moving, failures)
        return 0

    async def _register(self, device: DeviceId, moving: MoveWork) -> None:
        """Have the other cloud issue a secret, and make it durable."""
        ended: list[lc.Event] = []
        target = self._targets[device]

        def post(event: lc.Event) -> None:
            match event:
                case lc.RegistrationRefused() | lc.SecretLost():
                    ended.append(event)
                case lc.RegistrationDelayed() | lc.RegistrationUnknown():
                    moving.asleep = True
                    self._note(device, moving, event.reason, event.until)
                case lc.StoreDelayed():
                    self._note(device, moving, event.reason, event.until)
                case _:
                    moving.asleep = False
                    self._note(device, moving, NONE)

        moving.asleep = False
        await self._or_asked(self._registration.register(device, post), moving)
        for event in ended:
            lost = isinstance(event, lc.SecretLost)
            await self._refuse(target, SECRET_GONE_THERE if lost else event.reason)

    async def _or_asked(self, work: Coroutine[Any, Any, None], moving: MoveWork) -> None:
        """Do some work to its end, or until an operator asks while it sleeps."""
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(moving.asked.wait())
        try:
            while not task.done():
                await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done() and moving.asleep:
                    return
                if asked.done():  # it works, and need not be asked
                    moving.asked.clear()
                    asked = asyncio.ensure_future(moving.asked.wait())
            task.result()
        finally:
            await cancel_and_wait([task, asked])

    async def _log_in(self, record: Record, moving: MoveWork, failures: int) -> int:
        """Log in at the other cloud, and switch; return how many tries have failed in a row."""
        device, target = record.device, self._targets[record.device]
        try:
            opened, renewed = await self._login.open(target)
        except LoginFailed as failure:
            await self._wait(device, moving, failures + 1, failure.reason)
            return failures + 1
        except LoginRefused as refusal:
            await self._refused(target, refusal)
            return 0
        except LoginError as removal:
            await self._refuse(target, removal.reason)
            return 0
        except (SecretNotFound, SecretCorrupt):
            await self._secret_gone(target)
            return 0
        try:
            self._checkpoint("logged-in")
            used = self._targets[device] if renewed else target
            await self._switch(record, replace(used, cloud=target.cloud))
        except BaseException:
            await opened.session.close()
            raise
        await self._hand_on(device, record, replace(opened, moved=True))
        return 0

    async def _switch(self, record: Record, target: Record) -> None:
        """Record that the child belongs to the other cloud: from now on there is no way back.

        target: the record there, as of the login; by now the child may be to move to a third one.
        """
        now, device = self._clock.stamp(), record.device

        def switched(newest: Record | None) -> Record:
            same = unchanged(newest, cloud=record.cloud, verdict=record.verdict, pin=record.pin)
            there = same.at_target()
            if there is None or (there.cloud, there.issue) != (target.cloud, target.issue):
                raise RecordChanged("the child is to move elsewhere")
            return same.switched(now)

        await self._records.update(device, switched)
        self._checkpoint("switched")

    async def _hand_on(self, device: DeviceId, before: Record, opened: OpenSession) -> None:
        """Have the session kept, and the one at the first cloud closed."""
        first, now = before.generation(), self._records[device].generation()
        text = f"Moved from cloud {first.provider} to {now.provider}, where it is {now.product}/"
        self._children.note(device, "Switched", Reason("moved", f"{text}{now.name}."))
        log.info("Device %s: %s%s.", device, text, now.name,
                 extra={"device": device, "message_id": "device-moved"})  # fmt: skip
        self._sessions.give(device, opened)
        self._children.restart(device)  # in the same turn: it may be in another state soon
        end = self._clock.now() + GRACE
        try:
            while self._sessions.is_given(device) and self._may_take(device, end):
                await asyncio.sleep(LOOK)
        finally:
            await self._sessions.take_back(device)

    def _may_take(self, device: DeviceId, end: float) -> bool:
        """Whether the work for a child may still use its session; end: for one that is away."""
        record = self._records.get(device)
        if record is None or not record.is_in_force:
            return False
        return self._children.state(device) in _SWITCHES or self._clock.now() < end

    # What goes wrong.

    async def _refused(self, target: Record, refusal: LoginRefused) -> None:
        """Handle a refused login: before the first one, a newer secret may have been issued."""
        event = on_refused_login(target, refusal.reason, stale=refusal.stale)
        if isinstance(event, lc.SecretStale):
            await self._targets.update(
                target.device,
                lambda r: unchanged(
                    r, cloud=target.cloud, stored=target.stored
                ).without_stale_secret(),
            )
        else:
            await self._refuse(target, event.reason)

    async def _secret_gone(self, target: Record) -> None:
        """Handle an empty slot: what was never used is requested again."""
        if target.activated_at:
            await self._refuse(target, SECRET_GONE_THERE)
            return
        await self._targets.update(
            target.device,
            lambda r: replace(unchanged(r, cloud=target.cloud, stored=target.stored), stored=0),
        )

    async def _refuse(self, target: Record, reason: Reason) -> None:
        """Record that the other cloud would not have the child, which stays where it is.

        target: the record there; by now the child may be to move to a third one.
        """
        device, to = target.device, target.generation().provider
        why = _for_target(reason, self._targets.get(device) or target)

        def refused(record: Record | None) -> Record:
            same = unchanged(record)
            there = same.at_target()
            if there is None or there.cloud != target.cloud:
                raise RecordChanged("the child is to move elsewhere")
            return same.with_move_refused(why)

        await self._records.update(device, refused)
        log.warning("Device %s stays where it is: cloud %s: %s", device, to, why,
                    extra={"device": device, "message_id": "move-refused"})  # fmt: skip
        self._children.note(device, "MoveRefused", why)

    async def _wait(self, device: DeviceId, moving: MoveWork, failures: int, why: Reason) -> None:
        first, last = self._settings.retry_first, self._settings.retry_last
        wait = delay(failures, first, last, self._clock.jitter())
        self._note(device, moving, why, self._clock.now() + wait)
        await self._sleep(moving, wait)

    async def _sleep(self, moving: MoveWork, seconds: float) -> None:
        """Sleep, but no longer than until an operator asks."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await moving.asked.wait()

    def _note(self, device: DeviceId, moving: MoveWork, reason: Reason, until: float = 0.0) -> None:
        """Note why a move waits, and show it where that is another reason than before."""
        before, target = moving.reason, self._targets.get(device)
        moving.reason = reason if target is None else _for_target(reason, target)
        moving.until = until
        if reason.code and moving.reason.code != before.code:
            self._children.note(device, "MoveDelayed", moving.reason)


def _for_target(reason: Reason, target: Record) -> Reason:
    """Return a reason of a cloud for a child that is not there yet.  target: its record there."""
    if reason.code == NO_PROVIDER.code:
        reason = NO_TARGET
    known = target.generation()
    instead = _START_AGAIN if known.may_be_known else _TRY_AGAIN
    remedy = reason.remedy.replace(_REREGISTER, instead)
    return addressed(replace(reason, remedy=remedy, substate=""), target.device, known.provider)
