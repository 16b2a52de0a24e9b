"""Shows the gateway on D-Bus: the face towards asyncio.

The settings of the D-Bus service.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gatewayd.dbus import invocation
from gatewayd.dbus.authorization import Polkit
from gatewayd.dbus.dispatch import MAX_UNAUTHORIZED, CallerUsers, Dispatcher
from gatewayd.dbus.glib import BusThread, Connection
from gatewayd.dbus.names import GATEWAY, ManagerCommands, ObjectInterface, load_all
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
        0.2, "time for which changes are gathered before they are told", unit="s", low=0.01, high=10
    )
    rate: int = setting(2000, "children whose changes are told in a second", low=10, high=10000)
    commands: int = setting(64, "commands under way at the same time", low=1, high=1000)
    free_invocations: bool = setting(
        True, "free what old GLib versions leave behind after each call, where a test shows it"
    )


PATIENCE = 10.0  # seconds that commands under way may take when the daemon stops


class Bus:
    """The D-Bus service; a `Reporter`.  Made and used on the asyncio thread.

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
        self._thread.start()
        try:
            self._service, self._requests = await self._thread.run(self._open, commands)
            views, self._views = self._views, {}
            exported = (ExportedObject(GATEWAY, self._first, commands), *further)
            await self._thread.run(self._service.start, self._requests, exported, views)
        except BaseException:
            await self._thread.stop()
            raise
        self._serving = True
        self._arm()

    async def stop(self) -> None:
        """Answer what is under way, tell the last changes, and leave the bus."""
        if not self._serving:
            return
        await self._requests.close(PATIENCE)
        self._serving = False
        if self._timer is not None:
            self._timer.cancel()
        self._push()
        await self._thread.run(self._service.announce, self._at_once)
        await self._thread.run(self._service.close)
        await self._thread.stop()

    async def ping(self) -> None:
        """Return when the D-Bus thread has given a sign of life.  Raises Busy."""
        await self._thread.ping()

    def show(self, view: DeviceView) -> None:
        """Show a child, new or changed."""
        self._views[view.id] = view
        self._arm()

    def remove(self, device: DeviceId) -> None:
        """Show a child no more."""
        self._views[device] = None
        self._arm()

    def show_manager(self, view: ManagerView) -> None:
        """Show the gateway as a whole."""
        self.show_at(GATEWAY, view)

    def show_at(self, place: ObjectInterface, view: object) -> None:
        """Show one of the objects that are always there."""
        self._shown[place] = view
        self._arm()

    async def views(self) -> list[DeviceView]:
        """Return all children as they are shown, ordered by id.  Raises Busy."""
        return await self._thread.run(self._service.views)

    @property
    def _at_once(self) -> int:
        """Children whose changes are told in one go."""
        return max(1, int(self._settings.rate * self._settings.gather))

    def _open(self, commands: ManagerCommands) -> tuple[ObjectServer, Dispatcher]:
        """On the D-Bus thread."""
        free = (
            invocation.choose(self._thread) if self._settings.free_invocations else invocation.keep
        )
        lost = self._lost
        connection = Connection(self._settings.address, lambda: self._thread.inward(lost))
        service = ObjectServer(
            self._thread, connection, load_all(), free, lambda: secrets.token_hex(4)
        )
        requests = Dispatcher(
            self._thread,
            CallerUsers(connection.unix_user, os.getuid(), MAX_UNAUTHORIZED),
            Polkit(connection.ask, lambda: secrets.token_hex(8)),
            commands.resolve,
            self._push,
            self._settings.commands,
        )
        return service, requests

    def _arm(self) -> None:
        if self._serving and self._timer is None and not self._announcing:
            self._timer = self._loop.call_later(self._settings.gather, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._push()
        self._announcing = True
        self._thread.post(self._announce)

    def _push(self) -> None:
        """Hand over what is new; who reads sees it from then on."""
        if self._views or self._shown:
            self._thread.post(self._service.update, self._shown, self._views)
            self._views, self._shown = {}, {}

    def _announce(self) -> None:
        """On the D-Bus thread."""
        more = False
        try:
            more = self._service.announce(self._at_once)
        finally:
            self._thread.inward(self._announced, more)

    def _announced(self, more: bool) -> None:
        self._announcing = False
        if more or self._views or self._shown:
            self._arm()
