"""Carries what callers ask for to the event loop, and the answers back.

A question goes: caller's user → event loop → answer.  A change goes: caller's user → event loop,
which child is meant → polkit → event loop, where its state is looked at now → answer.  Root and
the daemon's own user are not asked about.

What nobody has authorized yet is bounded for each user, so that nobody keeps out the others; only
what is authorized takes one of the places for commands.

Who calls, and how much of it at the same time.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gatewayd.dbus import authorization as auth
from gatewayd.dbus.authorization import AuthorizationRequest, AuthorizationResult, Polkit
from gatewayd.dbus.glib import BusThread, Variant
from gatewayd.dbus.invocation import MethodCall
from gatewayd.dbus.names import CHANGES, QUESTIONS, Arguments
from gatewayd.errors import AccessDenied, Busy, NotSupported, WrongState
from gatewayd.runtime.tasks import cancel_and_wait

MAX_KNOWN = 1024
"""Callers whose user is remembered; a bus never gives the same unique name twice."""

AskUser = Callable[[str, Callable[[int | None], None]], None]
Done = Callable[[int | None], None]


class ConcurrencyLimit:
    """Bounds what each of many has under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[Hashable] = Counter()

    def take(self, who: Hashable) -> None:
        """Begin something.  Raises Busy."""
        if self._taken[who] >= self._limit:
            raise Busy("Too many of your calls are under way, try again")
        self._taken[who] += 1

    def give(self, who: Hashable) -> None:
        """End it."""
        self._taken[who] -= 1
        if self._taken[who] <= 0:
            del self._taken[who]


class CallerUsers:
    """Tells the user of a caller.  Used on the D-Bus thread; never waits.

    ask: tells the uid of a unique bus name, later; None where it cannot be told.
    own: the daemon's uid.
    limit: calls of one caller that may wait for its uid.
    """

    def __init__(self, ask: AskUser, own: int, limit: int) -> None:
        self._ask, self._turns = ask, ConcurrencyLimit(limit)
        self._trusted = {0, own}
        self._known: OrderedDict[str, int] = OrderedDict()

    def of(self, sender: str, done: Done) -> None:
        """Have the uid given to `done`, now or later.  Raises Busy."""
        if sender in self._known:
            self._known.move_to_end(sender)
            done(self._known[sender])
            return
        self._turns.take(sender)
        self._ask(sender, lambda uid: self._learn(sender, uid, done))

    def trusts(self, uid: int) -> bool:
        """Whether a user is root or the daemon's own, and needs nobody's yes."""
        return uid in self._trusted

    def _learn(self, sender: str, uid: int | None, done: Done) -> None:
        self._turns.give(sender)
        if uid is not None:
            self._known[sender] = uid
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        done(uid)


MAX_UNAUTHORIZED = 32
"""Questions, and changes that are not authorized yet, of one user at the same time."""

STOPPING = "gatewayd is stopping"

Finish = Callable[[Any], Variant | None]


@dataclass(slots=True, eq=False)
class Job:
    """A call on its way.

    device: the child that polkit was asked about; "" where it was not asked, or about none.
    arguments: as the port wants them, with descriptors for indices.
    descriptors: to be closed in the end.
    release: gives back the place that it takes.
    """

    call: MethodCall
    finish: Finish
    uid: int
    device: str = ""
    arguments: Arguments = ()
    descriptors: list[int] = field(default_factory=list)
    release: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Close the descriptors."""
        while self.descriptors:
            os.close(self.descriptors.pop())


class Dispatcher:
    """The calls under way.

    resolve: on the event loop, tells the id of the child that a caller means.
    flush: called on the event loop before an answer, so that its effects are seen by then.
    limit: commands under way at the same time; more get Busy.
    """

    def __init__(
        self,
        thread: BusThread,
        users: CallerUsers,
        polkit: Polkit,
        resolve: Callable[[str], str],
        flush: Callable[[], None],
        limit: int,
    ) -> None:
        self._thread, self._users, self._polkit = thread, users, polkit
        self._resolve, self._flush, self._limit = resolve, flush, limit
        self._turns = ConcurrencyLimit(MAX_UNAUTHORIZED)
        self._under_way = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False

    def submit(self, call: MethodCall, finish: Finish) -> None:
        """On the D-Bus thread: have a call answered later, with finish(result).  Raises Busy."""
        if self._closing:
            raise Busy(STOPPING)
        admit = partial(self._admit, call, finish)
        self._users.of(call.sender, lambda uid: call.attempt(partial(admit, uid)))

    async def close(self, patience: float) -> None:
        """On the event loop: take no more, and return when all is answered.

        patience: seconds after which what is still under way is cancelled.
        """
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        await cancel_and_wait(self._tasks)

    def _admit(self, call: MethodCall, finish: Finish, uid: int | None) -> None:
        if uid is None:
            raise AccessDenied("The bus does not say who you are")
        if call.commands is None:
            raise NotSupported("What is configured cannot do this")
        job = Job(call, finish, uid)
        if call.key not in CHANGES:
            self._take_turn(job)
            job.arguments = call.arguments
            self._thread.inward(self._start, job)
        elif self._users.trusts(uid):
            self._begin(job)
        else:
            auth.action(call.key)
            self._take_turn(job)
            self._thread.inward(self._look_up, job)

    def _take_turn(self, job: Job) -> None:
        self._turns.take(job.uid)
        job.release = partial(self._turns.give, job.uid)

    def _look_up(self, job: Job) -> None:
        """On the event loop: find which child is meant, so that polkit is asked about it."""
        try:
            device = self._meant(job.call)
        except Exception as error:  # noqa: BLE001  # the border to the bus: failure() logs it
            self._thread.post(self._conclude, job, partial(_raise, error))
        else:
            self._thread.post(self._check, job, device)

    def _meant(self, call: MethodCall) -> str:
        name = auth.named(call.key, call.arguments)
        return self._resolve(name) if name else ""

    def _check(self, job: Job, device: str) -> None:
        call, job.device = job.call, device
        told = auth.details(call.key, call.arguments, device, call.provider)
        inquiry = AuthorizationRequest(call.sender, auth.action(call.key), told, call.interactive)
        done = partial(self._decided, job)
        self._polkit.check(inquiry, lambda answer: self._conclude(job, partial(done, answer)))

    def _decided(self, job: Job, answer: AuthorizationResult) -> None:
        auth.demand(answer, auth.action(job.call.key))
        self._begin(job)

    def _begin(self, job: Job) -> None:
        """On the D-Bus thread: have somebody's command done.  Raises Busy, InvalidArgs."""
        if self._closing:
            raise Busy(STOPPING)
        if self._under_way >= self._limit:
            raise Busy("Too many commands are under way, try again")
        job.arguments = self._unpacked(job)
        self._under_way += 1
        job.release = self._leave
        self._thread.inward(self._start, job)

    def _unpacked(self, job: Job) -> Arguments:
        call = job.call
        try:
            for position in call.handles:
                job.descriptors.append(call.descriptor(call.arguments[position]))
        except BaseException:
            job.close()
            raise
        came = iter(job.descriptors)
        return tuple(next(came) if i in call.handles else a for i, a in enumerate(call.arguments))

    def _leave(self) -> None:
        self._under_way -= 1

    def _start(self, job: Job) -> None:
        """On the event loop."""
        if self._closing:
            job.close()
            self._thread.post(self._conclude, job, partial(_raise, Busy(STOPPING)))
            return
        task = asyncio.get_running_loop().create_task(self._perform(job))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, job))

    async def _perform(self, job: Job) -> object:
        call = job.call
        if call.key in CHANGES:
            if job.device and self._meant(call) != job.device:
                raise WrongState("That name means another device by now, try again")
            return await CHANGES[call.key](call.commands, job.arguments, f"uid {job.uid}")
        answer = QUESTIONS[call.key](call.commands, job.arguments)
        return await answer if inspect.isawaitable(answer) else answer

    def _done(self, job: Job, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        job.close()
        self._flush()
        if task.cancelled():
            outcome: Callable[[], Variant | None] = partial(_raise, Busy(STOPPING))
        elif (error := task.exception()) is not None:
            outcome = partial(_raise, error)
        else:
            outcome = partial(job.finish, task.result())
        self._thread.post(self._conclude, job, outcome)

    def _conclude(self, job: Job, outcome: Callable[[], Variant | None]) -> None:
        """On the D-Bus thread: give the place back, and answer, unless it goes on."""
        job.release()
        job.call.attempt(outcome)


def _raise(error: BaseException) -> Variant:
    raise error
