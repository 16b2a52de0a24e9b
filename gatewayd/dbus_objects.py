"""The D-Bus objects beside the gateway and its children: store, messages, site, log and clouds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gatewayd.cloud.preflight import first_failure, local_context
from gatewayd.config import ConfiguredPlugin
from gatewayd.dbus.methods import (
    AUTHORITY_METHODS,
    BROKER_METHODS,
    CREDENTIAL_METHODS,
    LOG_METHODS,
    MESSAGE_METHODS,
    PROVIDER_METHODS,
    SECRET_STORE_METHODS,
    SITE_METHODS,
)
from gatewayd.dbus.names import (
    AUTHORITY,
    HANDED_OVER,
    LOG,
    OUTBOX,
    OWN_BROKER,
    OWN_SITE,
    STORE,
    ObjectInterface,
)
from gatewayd.dbus.objects import ExportedObject
from gatewayd.dbus.ports import (
    AuthorityCommands,
    BrokerCommands,
    CredentialCommands,
    OwnershipCommands,
)
from gatewayd.errors import Busy, CloudUnreachable, InvalidArgs
from gatewayd.gateway_status import GatewayStatus, provider_object
from gatewayd.runtime.journal import SYSLOG_LEVELS, set_level
from gatewayd.storage.store_service import StoreService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCommands:
    """What serves the methods of those objects that the application makes.

    authorities: the device CAs, by the name of their cloud.
    broker: the users of gatewayd's own; None where it is not enabled.
    credentials: what the holders of children get; None where none may have anything.
    """

    authorities: Mapping[str, AuthorityCommands]
    broker: BrokerCommands | None
    credentials: CredentialCommands | None
    site: OwnershipCommands


def exported_objects(
    status: GatewayStatus,
    environ: Mapping[str, str],
    commands: ServedCommands,
    *,
    changed: Callable[[], None],
) -> Iterator[ExportedObject]:
    """Yield the objects that are served from the start to the end, as they are now.

    environ: of the process.  changed: called when a command has changed what is shown.
    """
    store = StoreService.of(status.monitor, changed)
    yield ExportedObject(STORE, status.store(), SECRET_STORE_METHODS.bind(store))
    messages = MESSAGE_METHODS.bind(status.messages)
    yield ExportedObject(OUTBOX, status.messages.view(), messages)
    if commands.broker is not None:
        yield ExportedObject(OWN_BROKER, None, BROKER_METHODS.bind(commands.broker))
    yield ExportedObject(OWN_SITE, status.site_view(), SITE_METHODS.bind(commands.site))
    if commands.credentials is not None:
        yield ExportedObject(HANDED_OVER, None, CREDENTIAL_METHODS.bind(commands.credentials))
    yield ExportedObject(LOG, status.log(), LOG_METHODS.bind(LogControl(changed)))
    for cloud in status.config.clouds:
        location, name = provider_object(cloud.name), cloud.name
        test = PROVIDER_METHODS.bind(ProviderTest(cloud, environ))
        yield ExportedObject(location, status.provider(cloud), test, name)
        if name in commands.authorities:
            methods = AUTHORITY_METHODS.bind(commands.authorities[name])
            yield ExportedObject(ObjectInterface(location.path, AUTHORITY), None, methods, name)


class LogControl:
    """The log level of the daemon: the port `LogCommands`.  changed: called afterwards."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def set_level(self, level: str, caller: str) -> None:
        if level not in SYSLOG_LEVELS:
            raise InvalidArgs(f"Log level must be one of {', '.join(SYSLOG_LEVELS)}")
        log.info("The log level was set to %s by %s.", level, caller)
        set_level(SYSLOG_LEVELS[level])
        self._changed()


class ProviderTest:
    """The preflight of one cloud, once at a time: the port `ProviderCommands`."""

    def __init__(self, cloud: ConfiguredPlugin, environ: Mapping[str, str]) -> None:
        self._cloud, self._environ = cloud, environ
        self._one = asyncio.Lock()

    async def test(self, caller: str) -> None:
        if self._one.locked():
            raise Busy("Another test of this cloud is under way")
        async with self._one:
            log.info("A test of cloud %s was requested by %s.", self._cloud.name, caller)
            context = await asyncio.to_thread(local_context, self._environ)
            if why := await first_failure(self._cloud.plugin, self._cloud.settings, context):
                raise CloudUnreachable(why)
