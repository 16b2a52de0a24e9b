"""Sees devices that announce themselves by multicast DNS: RFC 6762, RFC 6763.

Built on python-zeroconf, from 0.47.3 on.  That version bounds nothing by itself, so what could
grow is bounded here: names are judged before they are resolved, and the whole stack is closed
and opened anew after a flood.  Later versions bring bounds of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, cast

from zeroconf import (
    BadTypeInNameException,
    DNSPointer,
    DNSRecord,
    Error,
    IPVersion,
    QuietLogger,
    RecordUpdate,
    RecordUpdateListener,
    ServiceStateChange,
    Zeroconf,
    current_time_millis,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.mdns_answer import Answer
from gatewayd.discovery.mdns_engine import Change, Engine, finish, freshness, harden, ipv4
from gatewayd.discovery.mdns_link import LOOK, Link
from gatewayd.discovery.mdns_names import (
    IN,
    SRV,
    TXT,
    Name,
    Question,
    domain,
    parse,
    service,
)
from gatewayd.discovery.mdns_settings import MdnsSettings
from gatewayd.errors import ConfigError, DiscoveryRetry

_A, _PTR, _AAAA = 1, 12, 28  # RFC 1035, 3.2.2; RFC 3596
_ASK_AGAIN = (0.5, 1.1, 1.4)
"""Seconds to wait after each question: the same record is not multicast twice within one."""


class Mdns:
    """The discoverer: one link for each interface.  Raises ConfigError."""

    Settings: ClassVar[type] = MdnsSettings

    def __init__(self, name: str, settings: MdnsSettings) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings = settings
        self._services = tuple(dict.fromkeys(service(one) for one in settings.types))
        self._links: dict[str, Link] = {}

    async def run(self, context: Context, sink: Sink) -> None:
        """Listen on every interface that is there.  Raises DiscoveryRetry when none is."""
        interfaces = dict.fromkeys(self._settings.interfaces)
        if not any(ipv4(one) for one in interfaces):
            names = ", ".join(interfaces)
            raise DiscoveryRetry(
                f"{self.name}: none of {names} has an IPv4 address; bring one up, "
                "or name others under interfaces",
                after=LOOK,
            )
        self._links = {one: self._link(one, context, sink) for one in interfaces}
        try:
            async with asyncio.TaskGroup() as group:
                for one, link in self._links.items():
                    group.create_task(link.run(), name=f"{self.name}/{one}")
        finally:
            self._links = {}

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask for one instance, in at most 3 s; None if nobody answers for it."""
        link = self._links.get(sighting.interface)
        seen = Name(*(sighting.attributes.get(key, "") for key in ("service", "instance")))
        name = parse(seen.service, seen.full) if seen.service in self._services else None
        return await link.verify(name) if link and name else None

    async def rescan(self) -> None:
        """Forget what was heard, and ask everybody."""
        for link in self._links.values():
            link.rescan()

    def _link(self, interface: str, context: Context, sink: Sink) -> Link:
        def open_engine(address: str) -> Engine:
            return _Zeroconf(address, context.now, self.health.drop)

        place = (f"{self.name}/{interface}", interface)
        outside = (context, sink, self.health)
        return Link(place, self._services, self._settings, outside, open_engine)


class _Zeroconf:
    """The engine: one AsyncZeroconf on one IPv4 address."""

    def __init__(self, address: str, now: Callable[[], float], drop: Callable[[str], None]) -> None:
        self._address = address
        self._now = now
        self._drop = drop
        self._opened: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None

    @property
    def _zeroconf(self) -> Zeroconf:
        assert self._opened, "the engine was not started"
        return self._opened.zeroconf

    async def start(self) -> None:
        self._opened = AsyncZeroconf(interfaces=[self._address], ip_version=IPVersion.V4Only)
        try:
            await finish(self._zeroconf.async_wait_for_start())
        except Error as error:
            raise DiscoveryRetry("zeroconf does not start", after=LOOK) from error
        for reader in getattr(self._zeroconf.engine, "readers", ()):
            harden(getattr(reader, "transport", reader), self._drop)  # wrapped in new versions

    async def browse(self, services: Sequence[str], heard: Change, gone: Change) -> None:
        if self._browser:
            await self._browser.async_cancel()
        getattr(QuietLogger, "_seen_logs", {}).clear()  # never shrinks in old versions
        bare = {domain(one): one for one in services}

        def changed(
            *, service_type: str, name: str, state_change: ServiceStateChange, **_: object
        ) -> None:
            told = gone if state_change is ServiceStateChange.Removed else heard
            told(bare[service_type], name)
            if parse(bare[service_type], name) is None:
                self._purge(service_type, name)

        self._browser = AsyncServiceBrowser(self._zeroconf, list(bare), handlers=[changed])

    def newest(self, name: Name) -> float:
        return self._age(self._records(name))[0]

    def cached(self, name: Name) -> Answer | None:
        info = _info(name)
        return self._answer(name, info) if info and info.load_from_cache(self._zeroconf) else None

    async def resolve(self, name: Name, patience: float) -> Answer | None:
        info = _info(name)
        with contextlib.suppress(Error):  # a host may have a name that cannot be asked for
            if info and await info.async_request(self._zeroconf, patience * 1000):
                return self._answer(name, info)
        return None

    async def confirm(self, name: Name) -> bool:
        reply = _Reply(name)
        self._zeroconf.async_add_listener(reply, None)
        try:
            for seconds in _ASK_AGAIN:
                self._zeroconf.async_send(cast(Any, Question(name)))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await reply.heard.wait()
                        return True
        finally:
            self._zeroconf.async_remove_listener(reply)
        return False

    async def close(self) -> None:
        if self._opened is None:
            return
        if self._browser:
            await self._browser.async_cancel()
        await self._opened.async_close()
        await asyncio.sleep(0)  # a transport closes its socket in the next turn of the loop

    def _purge(self, type_: str, full: str) -> None:
        """Forget a pointer to what is no name: to list it as known would break every question."""
        cache = self._zeroconf.cache
        if known := cache.async_get_unique(DNSPointer(type_, _PTR, IN, 0, full)):
            cache.async_remove_records([known])

    def _answer(self, name: Name, info: AsyncServiceInfo) -> Answer | None:
        if not info.text and self._zeroconf.cache.get_by_details(name.full, TXT, IN) is None:
            return None  # old versions call a name complete whose TXT record is yet to come
        heard_at, ttl = self._age(self._records(name))
        return Answer(
            host=info.server or "",
            port=info.port or 0,
            addresses=self._addresses(info),
            text=info.text,
            heard_at=heard_at or self._now(),
            ttl=ttl,
        )

    def _addresses(self, info: AsyncServiceInfo) -> tuple[str, ...]:
        """The host's addresses, newest first, without those just replaced (RFC 6762, 10.2)."""
        find, now = self._zeroconf.cache.get_all_by_details, current_time_millis()
        records = (*find(info.server or "", _A, IN), *find(info.server or "", _AAAA, IN))
        lasting = [one for one in records if one.get_remaining_ttl(now) > 1]
        lasting.sort(key=lambda one: -one.created)
        # the cache of later versions is bounded: it may have lost what was just resolved
        return tuple(_address(one) for one in lasting) or tuple(info.parsed_addresses())

    def _records(self, name: Name) -> list[DNSRecord]:
        cache, now = self._zeroconf.cache, current_time_millis()
        pointer = DNSPointer(domain(name.service), _PTR, IN, 0, name.full)
        found = (cache.async_get_unique(pointer), *cache.entries_with_name(name.full))
        return [one for one in found if one and not one.is_expired(now)]

    def _age(self, records: Iterable[DNSRecord]) -> tuple[float, float]:
        """When the newest record came by the loop's clock, and how long any may be kept."""
        ahead = self._now() - current_time_millis() / 1000
        return freshness((one.created / 1000 + ahead, one.ttl) for one in records)


class _Reply(RecordUpdateListener):  # type: ignore[misc]  # not typed for mypy here
    """Waits until somebody says that a name is there."""

    def __init__(self, name: Name) -> None:
        self._key = name.full.lower()
        self.heard = asyncio.Event()

    def async_update_records(self, _: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        fresh = (one.new for one in records if one.new.type in (SRV, TXT))
        if any(one.key == self._key and not one.is_expired(now) for one in fresh):
            self.heard.set()


def _info(name: Name) -> AsyncServiceInfo | None:
    with contextlib.suppress(BadTypeInNameException):
        return AsyncServiceInfo(domain(name.service), name.full)
    return None


def _address(record: Any) -> str:  # noqa: ANN401  # DNSAddress, which has no public name
    return str(ipaddress.ip_address(record.address))
