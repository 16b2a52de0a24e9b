"""Shows the gateway on D-Bus: the face towards asyncio."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable

from gatewayd.device.identity import DeviceId
from gatewayd.glib import BusThread, Connection
from gatewayd.status import leak
from gatewayd.status.callers import Users
from gatewayd.status.fixed import Exported
from gatewayd.status.interfaces import load_all
from gatewayd.status.names import GATEWAY, Place
from gatewayd.status.polkit import Polkit
from gatewayd.status.ports import Commands
from gatewayd.status.requests import MAX_UNAUTHORIZED, Requests
from gatewayd.status.service import Service
from gatewayd.status.settings import BusSettings
from gatewayd.status.snapshot import DeviceView, ManagerView

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
        self._shown: dict[Place, object] = {}
        self._loop = asyncio.get_running_loop()
        self._thread = BusThread(self._loop)
        self._views: dict[DeviceId, DeviceView | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._announcing = self._serving = False

    async def start(self, commands: Commands, further: Iterable[Exported] = ()) -> None:
        """Serve what was shown so far, and own the name.  Raises BusError.  Once.

        further: objects beside the manager and the children.
        """
        self._thread.start()
        try:
            self._service, self._requests = await self._thread.run(self._open, commands)
            views, self._views = self._views, {}
            exported = (Exported(GATEWAY, self._first, commands), *further)
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

    def show_at(self, place: Place, view: object) -> None:
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

    def _open(self, commands: Commands) -> tuple[Service, Requests]:
        """On the D-Bus thread."""
        free = leak.choose(self._thread) if self._settings.free_invocations else leak.keep
        lost = self._lost
        connection = Connection(self._settings.address, lambda: self._thread.inward(lost))
        service = Service(self._thread, connection, load_all(), free, lambda: secrets.token_hex(4))
        requests = Requests(
            self._thread,
            Users(connection.unix_user, os.getuid(), MAX_UNAUTHORIZED),
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
