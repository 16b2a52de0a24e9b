"""The objects that D-Bus shows beside the gateway and its children, and what they can do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

from gatewayd.cloud.preflight import CheckResult, checks, local_context
from gatewayd.config import Configured
from gatewayd.dbus.names import AUTHORITY, LOG, STORE, AuthorityCommands, ObjectInterface
from gatewayd.dbus.objects import ExportedObject
from gatewayd.errors import Busy, CloudUnreachable, InvalidArgs
from gatewayd.gateway_status import Overview, provider_place
from gatewayd.runtime.journal import set_level
from gatewayd.storage.store_service import StoreService

log = logging.getLogger(__name__)

LEVELS: Mapping[str, str] = {
    "debug": "debug", "info": "info", "notice": "warning", "warning": "warning", "err": "error",
    "crit": "critical", "alert": "critical", "emerg": "critical",
}  # fmt: skip
"""Levels of syslog(3) to ours: the next one that says no more than was asked for."""


class Objects:
    """What is served from the start to the end.

    environ: of the process.  changed: called when what is shown has changed.
    authorities: the device CAs, by the name of their cloud.
    """

    def __init__(
        self,
        overview: Overview,
        environ: Mapping[str, str],
        changed: Callable[[], None],
        authorities: Mapping[str, AuthorityCommands] | None = None,
    ) -> None:
        self._overview, self._environ, self._changed = overview, environ, changed
        self._authorities = authorities or {}

    def exported(self) -> Iterator[ExportedObject]:
        """Yield what is to be served, as it is now."""
        overview = self._overview
        yield ExportedObject(
            STORE, overview.store(), StoreService.of(overview.admin, self._changed)
        )
        yield ExportedObject(LOG, overview.log(), LogControl(self._changed))
        for cloud in overview.config.clouds:
            place, name = provider_place(cloud.name), cloud.name
            test = CloudTest(cloud, self._environ)
            yield ExportedObject(place, overview.provider(cloud), test, name)
            if name in self._authorities:
                yield ExportedObject(
                    ObjectInterface(place.path, AUTHORITY), None, self._authorities[name], name
                )


class LogControl:
    """Serves the port `LogCommands` of status/ports.py.  changed: called afterwards."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def set_level(self, level: str, caller: str) -> None:
        if level not in LEVELS:
            raise InvalidArgs(f"A level is one of {', '.join(LEVELS)}")
        log.info("Log level %s, set by %s.", level, caller)
        set_level(LEVELS[level])
        self._changed()


class CloudTest:
    """Serves the port `ProviderCommands` of status/ports.py, by a preflight of the cloud."""

    def __init__(self, cloud: Configured, environ: Mapping[str, str]) -> None:
        self._cloud, self._environ = cloud, environ
        self._one = asyncio.Lock()

    async def test(self, caller: str) -> None:
        if self._one.locked():
            raise Busy("A test of this cloud is under way")
        async with self._one:
            log.info("Cloud %s tested for %s.", self._cloud.name, caller)
            around = await asyncio.to_thread(local_context, self._environ)
            made = checks(self._cloud.plugin, self._cloud.settings, around)
            async with contextlib.aclosing(made) as found:
                async for check in found:
                    if check.verdict is CheckResult.FAILED:
                        raise CloudUnreachable(f"{check.text} {check.remedy}".strip())
