"""Serves method calls on the event loop, and sends the replies from the D-Bus thread.

One coroutine serves a call: it awaits the caller's user and polkit's answer, then the command.
Root and the daemon's own user need no authorization.  What was decided is logged: `CallLog`.

What is not authorized yet is bounded for each user, so that no user keeps out the others; only an
authorized command takes one of the places for commands.  The D-Bus thread counts all calls before
it passes them on, so that a flood of them cannot fill the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any

from gatewayd.dbus.callers.authorization import (
    AuthorizationRequest,
    Polkit,
    demand,
    details,
    device_name,
)
from gatewayd.dbus.callers.users import CallerUsers, ConcurrencyLimit
from gatewayd.dbus.glib import BusThread, Variant
from gatewayd.dbus.invocation import MethodCall
from gatewayd.dbus.methods import BoundMethod, Logged, MethodArguments, Permission
from gatewayd.device.decision_log import DecisionLog
from gatewayd.errors import (
    AccessDenied,
    Busy,
    InteractionRequired,
    NotSupported,
    StoreError,
    WrongState,
)
from gatewayd.runtime.rate_limiter import SlidingWindow
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

MAX_UNAUTHORIZED = 32
"""Questions, and changes that are not authorized yet, of one user at the same time."""
MAX_CALLS = 1024
"""Calls of all senders at the same time, besides commands."""
REFUSALS_LOGGED = 30
"""Calls without authorization that are logged in a minute: any user can make them."""

STOPPING = "gatewayd is stopping"
BUS_LOST = "The message bus was lost"

Finish = Callable[[Any], Variant | None]
"""Makes the reply of the results, on the D-Bus thread; None where it sends it itself."""


class CallLog:
    """What is kept of calls: decisions in their log, refusals in the journal.

    decisions: None to keep none.
    name: returns the name of a user.  origin: returns from where a caller comes, "" if that is not
    known; asked where a decision is logged.
    """

    def __init__(
        self,
        decisions: DecisionLog | None,
        name: Callable[[int], Awaitable[str]],
        origin: Callable[[str], Awaitable[str]],
    ) -> None:
        self._decisions, self.name, self._origin = decisions, name, origin
        self._refusals = SlidingWindow(REFUSALS_LOGGED, 60.0)

    async def decided(self, logged: Logged, call: MethodCall, device: str, caller: str) -> None:
        """Log a decision.  device: the id of the child, or "".  Raises StoreError."""
        if self._decisions is None:
            return
        note = logged.note
        if isinstance(note, int):
            argument = call.arguments[note]
            note = f"{argument} s" if isinstance(argument, int) else str(argument)
        about = ": ".join(filter(None, (call.provider, note)))
        origin = await self._origin(call.sender)
        await self._decisions.append(logged.kind, device, caller, origin, about)

    async def done(self, logged: Logged, call: MethodCall, device: str, caller: str) -> None:
        """Log what was done already: where that fails, the journal says so."""
        try:
            await self.decided(logged, call, device, caller)
        except StoreError as error:
            log.warning(
                "Not in the log of decisions: %s of %s by %s: %s.",
                logged.kind, device or "the gateway", caller, error, extra={"device": device},
            )  # fmt: skip

    def refused(self, method: BoundMethod, device: str, caller: str, why: Exception) -> None:
        """Log that a caller has no authorization; of many in a minute only the first."""
        if self._refusals.take(asyncio.get_running_loop().time()):
            log.warning(
                "%s was refused to %s%s: %s.",
                method.name, caller, f" for device {device}" if device else "", why,
                extra={"device": device, "message_id": "not-authorized"},
            )  # fmt: skip


class Dispatcher:
    """The calls under way.

    resolve: on the event loop, returns the id of the child that a caller means.
    flush: called on the event loop before a reply, so that its effects can be read by then.
    limit: commands under way at the same time; more get Busy.
    kept: where decisions and refusals are logged.
    """

    def __init__(  # noqa: PLR0913  # one by keyword
        self,
        thread: BusThread,
        users: CallerUsers,
        polkit: Polkit,
        resolve: Callable[[str], str],
        flush: Callable[[], None],
        limit: int,
        *,
        kept: CallLog,
    ) -> None:
        self._thread, self._users, self._polkit = thread, users, polkit
        self._resolve, self._flush, self._kept = resolve, flush, kept
        self._calls = ConcurrencyLimit(MAX_UNAUTHORIZED + limit, MAX_CALLS + limit)
        self._unauthorized = ConcurrencyLimit(MAX_UNAUTHORIZED)
        self._commands = ConcurrencyLimit(limit, limit)
        self._tasks: set[asyncio.Task[None]] = set()
        self._admitted: set[asyncio.Task[None]] = set()
        self._closing = False

    def submit(self, call: MethodCall, finish: Finish) -> None:
        """On the D-Bus thread: have a call answered later, with finish(results).  Raises Busy."""
        if self._closing:
            raise Busy(STOPPING)
        owner = self._users.owner(call.sender)
        self._calls.acquire(owner)
        self._thread.call_on_loop(self._start, call, owner, finish)

    async def close(self, patience: float) -> None:
        """On the event loop: refuse further calls, and return when all are answered.

        What is not authorized yet is cancelled at once.  patience: seconds after which the rest is.
        """
        self._closing = True
        await asyncio.sleep(0)  # each task begins: one that has not could not answer its call
        for task in self._tasks - self._admitted:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        await cancel_and_wait(self._tasks)

    def reset(self) -> None:
        """On the event loop: forget the callers of a bus that was lost.

        What is not authorized yet is cancelled: on the next bus its sender is another.
        """
        self._users.forget_all()
        # each task begins before that: one that has not could not answer its call
        asyncio.get_running_loop().call_soon(_cancel, self._tasks - self._admitted)

    def _start(self, call: MethodCall, owner: Hashable, finish: Finish) -> None:
        """On the event loop."""
        if self._closing:
            self._thread.post(self._conclude, call, owner, partial(call.fail, Busy(STOPPING)))
            return
        task = asyncio.get_running_loop().create_task(self._serve(call, owner, finish))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._admitted.discard)

    async def _serve(self, call: MethodCall, owner: Hashable, finish: Finish) -> None:
        """Answer a call, whatever happens."""
        try:
            results = await self._perform(call)
        except asyncio.CancelledError:
            reply = partial(call.fail, Busy(STOPPING if self._closing else BUS_LOST))
        except Exception as error:  # noqa: BLE001  # the border to the bus: failure() logs it
            # kept here, it would keep this frame, and the call until garbage is collected
            reply = partial(call.refuse, *call.failure(error))
        else:
            reply = partial(call.attempt, partial(finish, results))
        self._flush()
        self._thread.post(self._conclude, call, owner, reply)

    async def _perform(self, call: MethodCall) -> object:
        """Return the results of a call, once its caller is known and authorized."""
        uid = await self._users.of(call.sender)
        if (method := call.method) is None:
            raise NotSupported("The present configuration does not support this method")
        caller, device = await self._kept.name(uid), ""
        if method.permission is None:
            with self._unauthorized.hold(uid):
                self._admit()
                return await method.run(MethodArguments(call.arguments, caller))
        if not self._users.trusts(uid):
            with self._unauthorized.hold(uid):
                device = await self._authorize(call, method, method.permission, caller)
        with self._commands.hold(uid):
            self._admit()
            arguments: Sequence[Any] = call.arguments
            if call.descriptors:
                arguments = await self._thread.run(call.open_descriptors)
            meant = self._device(call, method.permission)
            if device not in ("", meant):
                raise WrongState("This name now refers to another device, try again")
            return await self._run(call, method, MethodArguments(arguments, caller), meant)

    async def _run(
        self, call: MethodCall, method: BoundMethod, arguments: MethodArguments, device: str
    ) -> object:
        """Do what is authorized, and log it."""
        logged = method.logged
        if logged is None:
            return await method.run(arguments)
        if logged.first:
            await self._kept.decided(logged, call, device, arguments.caller)
        results = await method.run(arguments)
        if not logged.first:
            await self._kept.done(logged, call, device, arguments.caller)
        return results

    def _admit(self) -> None:
        """Let the running task end by itself when the daemon stops."""
        if (task := asyncio.current_task()) is not None:
            self._admitted.add(task)

    async def _authorize(
        self, call: MethodCall, method: BoundMethod, permission: Permission, caller: str
    ) -> str:
        """Return the id of the child that polkit was asked about; "" for none.

        Raises AccessDenied, InteractionRequired, NoSuchDevice, AmbiguousId.
        """
        device = ""
        try:
            if not permission.action:
                raise AccessDenied("Only root may do this")  # noqa: TRY301  # logged as polkit's answer is
            device = self._device(call, permission)
            named = details(permission, call.arguments, device, call.provider)
            action = permission.action_on(device)
            request = AuthorizationRequest(call.sender, action, named, call.interactive)
            demand(await self._polkit.check(request), action)
        except (AccessDenied, InteractionRequired) as error:
            self._kept.refused(method, device, caller, error)
            raise
        return device

    def _device(self, call: MethodCall, permission: Permission) -> str:
        name = device_name(permission, call.arguments)
        return self._resolve(name) if name else ""

    def _conclude(self, call: MethodCall, owner: Hashable, reply: Callable[[], None]) -> None:
        """On the D-Bus thread."""
        self._calls.release(owner)
        call.close_descriptors()
        reply()


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
