"""The D-Bus service as the event loop uses it, and its settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gatewayd.dbus import glib_leak
from gatewayd.dbus.callers.authorization import Polkit
from gatewayd.dbus.callers.users import CallerOrigins, CallerUsers, UserNames
from gatewayd.dbus.dispatch import MAX_UNAUTHORIZED, CallLog, Dispatcher
from gatewayd.dbus.glib import BusThread, Connection, GLib, RemoteCaller
from gatewayd.dbus.intake import Intake
from gatewayd.dbus.interfaces import load_all
from gatewayd.dbus.methods import DEVICE_METHODS, MANAGER_METHODS
from gatewayd.dbus.names import GATEWAY, NAME, ObjectInterface
from gatewayd.dbus.objects import ExportedObject
from gatewayd.dbus.ports import ManagerCommands
from gatewayd.dbus.service import ObjectServer
from gatewayd.device.decision_log import DecisionLog
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import ALL, DeviceView, ManagerView, ShowChanges
from gatewayd.errors import BusError, BusNameTaken, Busy
from gatewayd.runtime.backoff import delay
from gatewayd.settings import grammar
from gatewayd.settings.declare import setting


@dataclass(frozen=True, slots=True)
class BusSettings:
    """[bus]"""

    address: str = setting(
        "system",
        'message bus: "system", or the address of a Unix socket, as "unix:path=/run/bus"',
        grammar=grammar.bus_address,
    )
    gather: float = setting(
        0.2, "time for which changes are gathered before a signal", unit="s", low=0.01, high=10
    )
    rate: int = setting(2000, "children that are announced in a second", low=10, high=10000)
    commands: int = setting(64, "commands under way at the same time", low=1, high=1000)
    free_invocations: bool = setting(
        True,
        "free the memory that old GLib versions leak in each call, if a test at the start shows it",
    )


log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that commands under way may take when the daemon stops."""
FLUSH = 2.0
"""Seconds in which the last replies have to be sent then."""
OPEN = 5.0
"""Seconds in which the bus has to let us connect."""
PULSE = 20.0
"""Seconds between two signs of life of the bus."""
FIRST_WAIT, LAST_WAIT = 1.0, 15.0
"""Seconds before it is tried again to connect, at first and at last."""
QUIET = 10.0
"""Seconds without a refusal after which a flood of calls has ended."""

NO_ANSWER = "the message bus does not answer"


class ConnectionKeeper:
    """Keeps the connection to the bus and the name on it.  Used on the event loop.

    export: called on the D-Bus thread with each new connection.  lost: called when one is lost.
    jitter: a number from [0, 1) at each call.
    fault: why nothing is served on the bus now; "" if it is.
    """

    def __init__(
        self,
        thread: BusThread,
        connection: Connection,
        remote: RemoteCaller,
        export: Callable[[], None],
        jitter: Callable[[], float],
    ) -> None:
        self._thread, self._connection, self._remote = thread, connection, remote
        self._export, self._jitter = export, jitter
        self._lost = asyncio.Event()
        self.fault = "not on the message bus yet"

    async def connect(self) -> None:
        """Connect, serve everything, and own the name last: who sees it sees all.

        Raises BusError.
        """
        self._lost.clear()
        try:
            async with asyncio.timeout(OPEN):
                await self._reach()
            await self._remote.own(NAME)
        except (BusError, Busy, TimeoutError) as error:
            text = str(error) or "it does not answer"
            self.fault = f"not on the message bus: {text}"
            self._thread.post(self._connection.close)
            raise error if isinstance(error, BusError) else BusError(text) from None
        self.fault = ""

    async def run(self) -> None:
        """Connect again whenever the connection is lost.  For ever."""
        while True:
            if not self.fault:
                await self._until_lost()
            began = asyncio.get_running_loop().time()
            await self._connect_again()
            seconds = asyncio.get_running_loop().time() - began
            log.warning("Connected to the message bus again, after %.0f s.", seconds)

    def note_loss(self) -> None:
        """Note that the connection is lost."""
        self.fault = "connection to the message bus lost"
        self._lost.set()
        log.error(
            "Connection to the message bus lost: devices stay online, and operators cannot call"
            " until it is back. See: systemctl status dbus.",
            extra={"message_id": "bus-lost"},
        )

    async def _reach(self) -> None:
        if error := await self._thread.run_async(self._open):
            raise BusError(error)

    async def _connect_again(self) -> None:
        failures, shown = 0, ""
        while True:
            failures += 1
            await asyncio.sleep(delay(failures, FIRST_WAIT, LAST_WAIT, self._jitter()))
            try:
                await self.connect()
            except BusError as error:
                if str(error) != shown:
                    shown = str(error)
                    log.warning("Failed to connect to the message bus again: %s.", shown)
            else:
                return

    async def _until_lost(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PULSE):
                    await self._lost.wait()
                    return
            with contextlib.suppress(Busy):
                self._note_pulse(alive=await self._thread.run(self._connection.ping))

    def _note_pulse(self, *, alive: bool) -> None:
        if alive and self.fault == NO_ANSWER:
            self.fault = ""
            log.warning("The message bus answers again.")
        elif not alive and not self.fault:
            self.fault = NO_ANSWER
            log.error(
                "The message bus does not answer: operators cannot call until it does."
                " See: systemctl status dbus.",
                extra={"message_id": "bus-lost"},
            )

    def _open(self, done: Callable[[str], None]) -> None:
        """On the D-Bus thread."""

        def opened(error: str) -> None:
            try:
                if not error:
                    self._export()
            except GLib.Error as failed:
                error = str(failed.message)
            done(error)

        self._connection.open(opened)


class FloodReporter:
    """Logs that calls are refused: once when it begins, and once when it has ended.

    Used on the event loop.  user: returns the uid of a caller; None where it is not known.
    names: of users.
    """

    def __init__(
        self,
        intake: Intake,
        user: Callable[[str], Coroutine[Any, Any, int | None]],
        names: UserNames,
    ) -> None:
        self._intake, self._user, self._names = intake, user, names
        self._first: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    def begin(self, sender: str) -> None:
        """Note the first refusal."""
        with contextlib.suppress(asyncio.QueueFull):
            self._first.put_nowait(sender)

    async def run(self) -> None:
        """Report floods.  For ever."""
        while True:
            sender, uid = await self._first.get(), None
            with contextlib.suppress(Busy):
                uid = await self._user(sender)
            user = "an unknown user" if uid is None else await self._names.of(uid)
            log.warning(
                "Refusing D-Bus calls of %s (%s): too many or too large."
                " To find the program, run: busctl status %s.",
                user, sender, sender, extra={"message_id": "bus-flooded"},
            )  # fmt: skip
            before = 0
            while before != (before := self._intake.refused):
                await asyncio.sleep(QUIET)
            refused = self._intake.take_refusals()
            most = ", ".join(f"{n} of {name}" for name, n in refused.senders.most_common(3))
            log.warning("Refused %d D-Bus calls: %s.", refused.count, most)


class Bus:
    """The D-Bus service; a `Reporter`.  Made and used on the event loop.

    view: the gateway as it is shown until `show_manager` says more.
    decisions: where what callers decide is logged; None to log nothing.
    jitter: a number from [0, 1) at each call.
    """

    Settings = BusSettings

    def __init__(
        self,
        settings: BusSettings,
        view: ManagerView,
        decisions: DecisionLog | None = None,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._first, self._jitter = settings, view, jitter
        self._decisions, self._names = decisions, UserNames()
        self._shown: dict[ObjectInterface, object] = {}
        self._loop = asyncio.get_running_loop()
        self._intake = Intake(on_refusal=self._begin_flood)
        self._thread = BusThread(self._loop, self._intake)
        self._views: dict[DeviceId, DeviceView | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._show_changes: ShowChanges | None = None
        self._announcing = self._serving = False

    async def start(
        self, commands: ManagerCommands, further: Iterable[ExportedObject] = ()
    ) -> None:
        """Serve what was shown so far, and own the name.  Once.

        Where the bus cannot be reached, `services` connects later.  Raises BusNameTaken.
        further: objects beside the manager and the children.
        """
        manager = ExportedObject(GATEWAY, self._first, MANAGER_METHODS.bind(commands))
        exported, device_methods = (manager, *further), DEVICE_METHODS.bind(commands)
        self._thread.start()
        try:
            await self._thread.run(self._open, commands)
            self._gather(ALL, steps=True)
            views, self._views = self._views, {}
            await self._thread.run(
                self._server.start, self._dispatcher, exported, device_methods, views
            )
            await self._keeper.connect()
        except BusNameTaken:
            await self._thread.stop()
            raise
        except BusError as error:
            log.error(  # noqa: TRY400  # for the administrator
                "Failed to connect to the message bus: %s. It is tried again, and operators cannot"
                " call until it is back. See: systemctl status dbus.",
                error, extra={"message_id": "bus-lost"},
            )  # fmt: skip
        except BaseException:
            await self._thread.stop()
            raise
        self._serving = True
        self._arm()

    def services(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """Return what has to run once it is started."""
        return self._keeper.run, self._floods.run

    @property
    def fault(self) -> str:
        """Why nothing is served on the bus now; "" if it is."""
        return self._keeper.fault

    async def stop(self) -> None:
        """Answer what is under way, announce the last changes, and leave the bus."""
        if not self._serving:
            return
        await self._dispatcher.close(PATIENCE)
        self._serving = False
        if self._timer is not None:
            self._timer.cancel()
        self._push()
        await self._thread.run(self._server.announce, self._at_once)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                await self._thread.run_async(self._connection.flush)
        await self._thread.run(self._connection.close)
        await self._thread.stop()

    async def ping(self) -> None:
        """Return when the D-Bus thread has called a function.  Raises Busy."""
        await self._thread.ping()

    def gather(self, show_changes: ShowChanges) -> None:
        """Call this with the next signals, and before a call is answered: children have changed."""
        self._show_changes = show_changes
        self._arm()

    def show(self, view: DeviceView) -> None:
        """Show a child, new or changed."""
        self._views[view.id] = view
        self._arm()

    def remove(self, device: DeviceId) -> None:
        """Remove a child."""
        self._views[device] = None
        self._arm()

    def show_manager(self, view: ManagerView) -> None:
        """Show the gateway as a whole."""
        self.show_at(GATEWAY, view)

    def show_at(self, location: ObjectInterface, view: object) -> None:
        """Show one of the exported objects."""
        self._shown[location] = view
        self._arm()

    async def views(self) -> list[DeviceView]:
        """Return all children as they are now, ordered by id.  Raises Busy."""
        self._push()
        return await self._thread.run(self._server.views)

    @property
    def _at_once(self) -> int:
        """Children whose changes are announced at once."""
        return max(1, int(self._settings.rate * self._settings.gather))

    def _open(self, commands: ManagerCommands) -> None:
        """On the D-Bus thread."""
        thread, settings, interfaces = self._thread, self._settings, load_all()
        free = glib_leak.choose(thread) if settings.free_invocations else glib_leak.keep
        with_descriptor = {
            (interface.name, method)
            for interface in interfaces.values()
            for method, positions in interface.descriptors.items()
            if positions
        }
        connection = Connection(
            settings.address,
            self._intake,
            with_descriptor,
            lambda: thread.call_on_loop(self._on_lost),
        )
        remote = RemoteCaller(thread, connection)
        self._connection = connection
        self._server = ObjectServer(
            thread, connection, self._intake, interfaces, free, lambda: secrets.token_hex(4)
        )
        connection.make_ready = self._server.make_ready
        self._keeper = ConnectionKeeper(
            thread, connection, remote, self._server.export, self._jitter
        )
        self._floods = FloodReporter(self._intake, remote.unix_user, self._names)
        self._dispatcher = Dispatcher(
            thread,
            CallerUsers(remote.unix_user, os.getuid(), MAX_UNAUTHORIZED),
            Polkit(remote, lambda: secrets.token_hex(8)),
            commands.resolve,
            self._push,
            settings.commands,
            kept=CallLog(self._decisions, self._names.of, CallerOrigins(remote).of),
        )

    def _on_lost(self) -> None:
        self._dispatcher.reset()
        self._keeper.note_loss()

    def _begin_flood(self, sender: str) -> None:
        """On GDBus's thread."""
        self._thread.call_on_loop(self._floods.begin, sender)

    def _arm(self) -> None:
        if self._serving and self._timer is None and not self._announcing:
            self._timer = self._loop.call_later(self._settings.gather, self._tick)

    def _tick(self) -> None:
        self._push(self._at_once, steps=False)
        self._timer = None
        self._announcing = True
        self._thread.post(self._announce)

    def _gather(self, limit: int, *, steps: bool) -> None:
        """Have those children shown that have changed: arguments of `ShowChanges`."""
        if self._show_changes is not None and not self._show_changes(limit, steps=steps):
            self._show_changes = None

    def _push(self, limit: int = ALL, *, steps: bool = True) -> None:
        """Pass on what is new; clients read it from then on.

        limit, steps: of children, where more may come later.
        """
        self._gather(limit, steps=steps)
        if self._views or self._shown:
            self._thread.post(self._server.update, self._shown, self._views)
            self._views, self._shown = {}, {}

    def _announce(self) -> None:
        """On the D-Bus thread."""
        more = False
        try:
            more = self._server.announce(self._at_once)
        finally:
            self._thread.call_on_loop(self._announced, more)

    def _announced(self, more: bool) -> None:
        self._announcing = False
        if more or self._views or self._shown or self._show_changes:
            self._arm()
