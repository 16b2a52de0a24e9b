"""Carries what callers ask for to the event loop, and the answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from gatewayd.errors import Busy, CallerError, InvalidArgs
from gatewayd.glib import BusThread, Variant
from gatewayd.status.authorization import Authorizer
from gatewayd.status.call import Call
from gatewayd.status.snapshot import Commands

Arguments = tuple[Any, ...]
Finish = Callable[[Any], Variant]


async def _reregister(commands: Commands, arguments: Arguments, caller: str) -> None:
    device, again, options = arguments
    if options:
        raise InvalidArgs("Reregister takes no options")
    await commands.reregister(device, again, caller)


CHANGES: Mapping[str, Callable[[Commands, Arguments, str], Awaitable[None]]] = {
    "Approve": lambda commands, a, caller: commands.approve(a[0], a[1], caller),
    "Reject": lambda commands, a, caller: commands.reject(a[0], a[1], caller),
    "Retry": lambda commands, a, caller: commands.retry(a[0], caller),
    "Reregister": _reregister,
    "Rename": lambda commands, a, caller: commands.rename(a[0], a[1], caller),
    "Forget": lambda commands, a, caller: commands.forget(a[0], caller),
    "PermitJoin": lambda commands, a, caller: commands.permit_join(a[0], a[1], caller),
    "Reload": lambda commands, _, caller: commands.reload(caller),
}
"""Methods that change something: only for whom authorization.py lets through."""

QUESTIONS: Mapping[str, Callable[[Commands, Arguments], object]] = {
    "GetDevice": lambda commands, a: commands.resolve(a[0]),
    "DescribeDevice": lambda commands, a: commands.resolve(a[0]),
    "TestAdmission": lambda commands, a: commands.test_admission(a[0]),
    "ListRules": lambda commands, _: (commands.list_rules(),),
}
"""Methods that only the event loop can answer; everybody may ask."""


class Requests:
    """The calls under way.

    flush: called on the event loop before an answer, so that its effects are seen by then.
    limit: calls under way at the same time; more get Busy.
    """

    def __init__(
        self,
        thread: BusThread,
        commands: Commands,
        authorizer: Authorizer,
        flush: Callable[[], None],
        limit: int,
    ) -> None:
        self._thread, self._commands, self._authorizer = thread, commands, authorizer
        self._flush, self._limit = flush, limit
        self._under_way = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False

    def submit(self, call: Call, finish: Finish) -> None:
        """On the D-Bus thread: have a call answered later, with finish(result).  Raises Busy."""
        if self._closing:
            raise Busy("gatewayd is stopping")
        if self._under_way >= self._limit:
            raise Busy("Too many commands are under way, try again")
        self._under_way += 1
        begin = partial(self._thread.inward, self._begin, call, finish)
        if call.method in CHANGES:
            refuse = partial(self._refuse, call)
            self._authorizer.check(call.method, call.sender, begin, refuse)
        else:
            begin("")

    async def close(self, patience: float) -> None:
        """On the event loop: take no more, and return when all is answered.

        patience: seconds after which what is still under way is cancelled.
        """
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _refuse(self, call: Call, error: CallerError) -> None:
        self._under_way -= 1
        call.fail(error)

    def _begin(self, call: Call, finish: Finish, caller: str) -> None:
        if self._closing:
            self._thread.post(self._failed, call, Busy("gatewayd is stopping"))
            return
        task = asyncio.get_running_loop().create_task(self._perform(call, caller))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, call, finish))

    async def _perform(self, call: Call, caller: str) -> object:
        if call.method in CHANGES:
            await CHANGES[call.method](self._commands, call.arguments, caller)
            return None
        return QUESTIONS[call.method](self._commands, call.arguments)

    def _done(self, call: Call, finish: Finish, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._flush()
        if task.cancelled():
            self._thread.post(self._failed, call, Busy("gatewayd is stopping"))
        elif (error := task.exception()) is not None:
            self._thread.post(self._failed, call, error)
        else:
            self._thread.post(self._answer, call, partial(finish, task.result()))

    def _failed(self, call: Call, error: BaseException) -> None:
        self._under_way -= 1
        call.fail(error)

    def _answer(self, call: Call, answer: Callable[[], Variant]) -> None:
        self._under_way -= 1
        call.attempt(answer)
