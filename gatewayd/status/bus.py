"""Shows the gateway on D-Bus: the face towards asyncio."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

from gatewayd.device.identity import DeviceId
from gatewayd.glib import BusThread, Connection
from gatewayd.status import leak
from gatewayd.status.authorization import Authorizer
from gatewayd.status.interfaces import load_all
from gatewayd.status.requests import Requests
from gatewayd.status.service import Service
from gatewayd.status.settings import BusSettings
from gatewayd.status.snapshot import Commands, DeviceView, ManagerView

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
        self._settings, self._view, self._lost = settings, view, lost
        self._loop = asyncio.get_running_loop()
        self._thread = BusThread(self._loop)
        self._views: dict[DeviceId, DeviceView | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._changed = self._announcing = self._serving = False

    async def start(self, commands: Commands) -> None:
        """Serve what was shown so far, and own the name.  Raises BusError.  Once."""
        self._thread.start()
        try:
            self._service, self._requests = await self._thread.run(self._open, commands)
            views, self._views = self._views, {}
            await self._thread.run(self._service.start, self._requests, self._view, views)
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
        self._view = view
        self._changed = True
        self._arm()

    @property
    def _at_once(self) -> int:
        """Children whose changes are told in one go."""
        return max(1, int(self._settings.rate * self._settings.gather))

    def _open(self, commands: Commands) -> tuple[Service, Requests]:
        """On the D-Bus thread."""
        free = leak.choose(self._thread) if self._settings.free_invocations else leak.keep
        lost = self._lost
        connection = Connection(self._settings.address, lambda: self._thread.inward(lost))
        service = Service(self._thread, connection, load_all(), free, lambda: secrets.token_hex(4))
        authorizer = Authorizer(connection.unix_user, os.getuid())
        requests = Requests(self._thread, commands, authorizer, self._push, self._settings.commands)
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
        if self._views or self._changed:
            self._thread.post(self._service.update, self._view, self._views)
            self._views, self._changed = {}, False

    def _announce(self) -> None:
        """On the D-Bus thread."""
        more = False
        try:
            more = self._service.announce(self._at_once)
        finally:
            self._thread.inward(self._announced, more)

    def _announced(self, more: bool) -> None:
        self._announcing = False
        if more or self._views or self._changed:
            self._arm()
