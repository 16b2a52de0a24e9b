"""The D-Bus service as the event loop uses it, and its settings."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gatewayd.dbus import glib_leak
from gatewayd.dbus.authorization import Polkit
from gatewayd.dbus.dispatch import MAX_UNAUTHORIZED, CallerUsers, Dispatcher
from gatewayd.dbus.glib import BusThread, Connection, RemoteCaller
from gatewayd.dbus.interfaces import load_all
from gatewayd.dbus.methods import DEVICE_METHODS, MANAGER_METHODS, ManagerCommands
from gatewayd.dbus.names import GATEWAY, ObjectInterface
from gatewayd.dbus.objects import ExportedObject
from gatewayd.dbus.service import ObjectServer
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView, ManagerView
from gatewayd.settings.declare import setting


@dataclass(frozen=True, slots=True)
class BusSettings:
    """[bus]"""

    address: str = setting("system", 'message bus: "system", or an address as "unix:path=/run/bus"')
    gather: float = setting(
        0.2, "time for which changes are gathered before a signal", unit="s", low=0.01, high=10
    )
    rate: int = setting(2000, "children that are announced in a second", low=10, high=10000)
    commands: int = setting(64, "commands under way at the same time", low=1, high=1000)
    free_invocations: bool = setting(
        True,
        "free the memory that old GLib versions leak in each call, if a test at the start shows it",
    )


PATIENCE = 10.0
"""Seconds that commands under way may take when the daemon stops."""


class Bus:
    """The D-Bus service; a `Reporter`.  Made and used on the event loop.

    view: the gateway as it is shown until `show_manager` says more.
    lost: called on the event loop when the bus has gone away.
    """

    Settings = BusSettings

    def __init__(
        self, settings: BusSettings, view: ManagerView, *, lost: Callable[[], None]
    ) -> None:
        self._settings, self._first, self._lost = settings, view, lost
        self._shown: dict[ObjectInterface, object] = {}
        self._loop = asyncio.get_running_loop()
        self._thread = BusThread(self._loop)
        self._views: dict[DeviceId, DeviceView | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._announcing = self._serving = False

    async def start(
        self, commands: ManagerCommands, further: Iterable[ExportedObject] = ()
    ) -> None:
        """Serve what was shown so far, and own the name.  Raises BusError.  Once.

        further: objects beside the manager and the children.
        """
        manager = ExportedObject(GATEWAY, self._first, MANAGER_METHODS.bind(commands))
        exported, device_methods = (manager, *further), DEVICE_METHODS.bind(commands)
        self._thread.start()
        try:
            self._server, self._dispatcher = await self._thread.run(self._open, commands)
            views, self._views = self._views, {}
            await self._thread.run(
                self._server.start, self._dispatcher, exported, device_methods, views
            )
        except BaseException:
            await self._thread.stop()
            raise
        self._serving = True
        self._arm()

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
        await self._thread.run(self._server.close)
        await self._thread.stop()

    async def ping(self) -> None:
        """Return when the D-Bus thread has called a function.  Raises Busy."""
        await self._thread.ping()

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
        """Return all children as they are shown, ordered by id.  Raises Busy."""
        return await self._thread.run(self._server.views)

    @property
    def _at_once(self) -> int:
        """Children whose changes are announced at once."""
        return max(1, int(self._settings.rate * self._settings.gather))

    def _open(self, commands: ManagerCommands) -> tuple[ObjectServer, Dispatcher]:
        """On the D-Bus thread."""
        thread, settings, lost = self._thread, self._settings, self._lost
        free = glib_leak.choose(thread) if settings.free_invocations else glib_leak.keep
        connection = Connection(settings.address, lambda: thread.call_on_loop(lost))
        remote = RemoteCaller(thread, connection)
        server = ObjectServer(thread, connection, load_all(), free, lambda: secrets.token_hex(4))
        dispatcher = Dispatcher(
            thread,
            CallerUsers(remote.unix_user, os.getuid(), MAX_UNAUTHORIZED),
            Polkit(remote, lambda: secrets.token_hex(8)),
            commands.resolve,
            self._push,
            settings.commands,
        )
        return server, dispatcher

    def _arm(self) -> None:
        if self._serving and self._timer is None and not self._announcing:
            self._timer = self._loop.call_later(self._settings.gather, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._push()
        self._announcing = True
        self._thread.post(self._announce)

    def _push(self) -> None:
        """Pass on what is new; clients read it from then on."""
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
        if more or self._views or self._shown:
            self._arm()
