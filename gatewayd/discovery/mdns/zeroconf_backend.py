"""The backend of mDNS discovery on python-zeroconf, 0.47.3 and later.

That version bounds nothing by itself: it keeps every record of every packet for as long as the
packet says, up to 136 years.  So what is kept is counted, in bytes; when it is too much, the whole
stack is opened again.  Nor does it choose what it reads: a filter stands before it, at its sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from zeroconf import (
    BadTypeInNameException,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
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

from gatewayd.discovery.discoverer import EventHook
from gatewayd.discovery.kernel.interfaces import LanInterface, Network
from gatewayd.discovery.mdns.backend import DropPacket, NameCallback, PacketJudge, finish
from gatewayd.discovery.mdns.records import (
    IN,
    PTR,
    TXT,
    InstanceName,
    RawQuery,
    ServiceInfo,
    domain,
    encode_browse,
    encode_query,
    parse,
)
from gatewayd.discovery.mdns.sockets import guard
from gatewayd.discovery.mdns.traffic import ENTRY, PacketVerdict
from gatewayd.errors import DiscoveryRetry

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a stack that does not start is opened again, at first."""

_A, _AAAA = 1, 28  # RFC 1035, 3.2.2; RFC 3596
_MAPPED, _LINK_LOCAL = "::ffff:", "fe80:"  # as the kernel shows IPv4 at a socket of both
_SLACK = 0.75
"""What must be free after a count, as a share of the limit, lest it is counted again at once."""
_ASK_AGAIN = (0.5, 1.1, 1.2)
"""Seconds to wait after each question: the same record is not multicast twice within one."""


PacketWatch = Callable[[bytes, tuple[str, int]], None]
"""Called with a packet and its sender."""


class PacketFilter(asyncio.DatagramProtocol):
    """A filter before a library's protocol, which may fail at hostile packets.

    interface: its name.  on_link: the networks of valid senders; None if all that is received
    came from the link.  watch: called with each packet and its sender, before all else.
    judge: says which packets are passed on.  drop: counts one that was not, by cause.
    tidy: called after each packet that was passed on.
    """

    def __init__(  # noqa: PLR0913  # by keyword
        self,
        guarded: asyncio.DatagramProtocol,
        *,
        interface: str,
        on_link: frozenset[Network] | None,
        watch: PacketWatch,
        judge: PacketJudge,
        drop: DropPacket,
        tidy: Callable[[], None],
    ) -> None:
        self._guarded, self._interface = guarded, interface
        self.on_link = on_link
        self._watch, self._judge, self._drop, self._tidy = watch, judge, drop, tidy
        self.error_received = guarded.error_received  # type: ignore[method-assign]  # unchanged
        self.connection_lost = guarded.connection_lost  # type: ignore[method-assign]  # unchanged

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Pass a packet on if it came from the link, and there is a budget for its sender."""
        sender = address = addr[0].removeprefix(_MAPPED)
        if address.startswith(_LINK_LOCAL):
            sender = f"{address}%{self._interface}"
        self._watch(data, (sender, addr[1]))
        if self.on_link is not None and not any(address in one for one in self.on_link):
            self._drop("off-link", sender=sender)
            return
        verdict = self._judge(sender, data)
        if verdict is PacketVerdict.QUERY:  # hosts ask all the time, this one as well
            return
        if verdict is not PacketVerdict.PASS:
            self._drop(verdict.value, sender=sender)
            return
        try:
            self._guarded.datagram_received(data, addr)
        except Exception as error:  # noqa: BLE001  # the border to a parser of hostile packets
            self._drop("packet-failed", sender=sender)
            log.debug("Failed to parse a packet: %s.", type(error).__name__)
        self._tidy()


def harden(
    transport: Any,  # noqa: ANN401  # of any library
    link: LanInterface,
    watch: PacketWatch,
    judge: PacketJudge,
    drop: DropPacket,
    tidy: Callable[[], None],
) -> PacketFilter:
    """Bind a datagram transport to one interface, and give it a large buffer and a filter."""
    is_group = guard(transport.get_extra_info("socket"), link)
    made = PacketFilter(
        transport.get_protocol(),
        interface=link.name,
        on_link=None if is_group else link.networks,
        watch=watch,
        judge=judge,
        drop=drop,
        tidy=tidy,
    )
    transport.set_protocol(made)
    return made


class RecordCounter(RecordUpdateListener):  # type: ignore[misc]  # not typed for mypy here
    """A counter of the bytes of memory that zeroconf's records take, of any name and type.

    It calls `on_full` before there are more than `limit`.  They are counted again only after a
    quarter of that is new, so that counting costs little.
    """

    def __init__(self, limit: int, on_full: Callable[[], None]) -> None:
        self._limit, self._on_full = limit, on_full
        self._bytes = 0

    def async_update_records(self, zc: Zeroconf, _: float, records: list[RecordUpdate]) -> None:
        self._bytes += sum(_size(one.new) for one in records if one.old is None)
        if self._bytes > self._limit:
            cache = zc.cache
            kept = (one for name in cache.names() for one in cache.entries_with_name(name))
            self._bytes = sum(map(_size, kept))
            if self._bytes > _SLACK * self._limit:
                self._on_full()


class ZeroconfBackend:
    """An `MdnsBackend`: one AsyncZeroconf.

    link: the interface, which is usable.  now: the event loop's clock, seconds.
    judge: says which packets are read.  drop: counts what is not believed, by cause.
    hook: where all packets are recorded.
    """

    def __init__(
        self,
        link: LanInterface,
        *,
        now: Callable[[], float],
        judge: PacketJudge,
        drop: DropPacket,
        counter: RecordCounter,
        hook: EventHook,
    ) -> None:
        self._link = link
        self._filters: list[PacketFilter] = []
        self._now, self._judge, self._drop, self._counter = now, judge, drop, counter
        self._hook = hook
        self.sender = ""
        self._opened: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None

    @property
    def _zeroconf(self) -> Zeroconf:
        assert self._opened, "the backend was not started"
        return self._opened.zeroconf

    async def start(self) -> None:
        versions, interfaces = _choice(self._link)
        try:
            self._opened = AsyncZeroconf(interfaces=interfaces, ip_version=versions)
            await finish(self._zeroconf.async_wait_for_start())
        except (Error, RuntimeError) as error:  # the latter where an address has just gone
            raise DiscoveryRetry("zeroconf does not start", after=RETRY) from error
        if len(getattr(self._zeroconf.engine, "senders", interfaces)) < len(interfaces):
            raise DiscoveryRetry("an address cannot be sent from yet", after=RETRY)
        for reader in getattr(self._zeroconf.engine, "readers", ()):
            transport = getattr(reader, "transport", reader)  # wrapped in new versions
            one = harden(
                transport, self._link, self._record, self._judged, self._drop, self._finished
            )
            self._filters.append(one)
        self._empty_cache()  # what came before the filter was set may be from anywhere
        self._zeroconf.async_add_listener(self._counter, None)

    def relink(self, link: LanInterface) -> None:
        for one in self._filters:
            if one.on_link is not None:
                one.on_link = link.networks

    async def browse(
        self, services: Sequence[str], announced: NameCallback, removed: NameCallback
    ) -> None:
        if self._browser:
            await self._browser.async_cancel()
        bare = {domain(one): one for one in services}

        def changed(
            *, service_type: str, name: str, state_change: ServiceStateChange, **_: object
        ) -> None:
            report = removed if state_change is ServiceStateChange.Removed else announced
            report(bare[service_type], name)
            parsed = parse(bare[service_type], name)
            if parsed is None or not parsed.is_splittable:
                self._purge(service_type, name)

        self._browser = AsyncServiceBrowser(self._zeroconf, list(bare), handlers=[changed])

    def ask(self, services: Sequence[str]) -> None:
        self._send(encode_browse(services))

    def newest(self, name: InstanceName) -> float:
        return self._age(self._records(name))[0]

    def cached(self, name: InstanceName) -> ServiceInfo | None:
        info = _info(name)
        return self._info_of(name, info) if info.load_from_cache(self._zeroconf) else None

    async def resolve(self, name: InstanceName, patience: float) -> ServiceInfo | None:
        if not name.is_splittable:  # zeroconf would ask for another
            await self.confirm(name, lambda _: True)
            return self.cached(name)
        info = _info(name)
        with contextlib.suppress(Error):  # a host may have a name that cannot be asked for
            if await info.async_request(self._zeroconf, patience * 1000):
                return self._info_of(name, info)
        return None

    async def confirm(self, name: InstanceName, matches: Callable[[bytes], bool]) -> bytes | None:
        reply = _Reply(name, matches)
        self._zeroconf.async_add_listener(reply, None)
        try:
            for seconds in _ASK_AGAIN:
                self._send(encode_query(name))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await reply.matched.wait()
                        break
        finally:
            self._zeroconf.async_remove_listener(reply)
        return reply.text

    async def close(self) -> None:
        if self._opened is None:
            return
        if self._browser:
            await self._browser.async_cancel()
        await self._opened.async_close()
        self._empty_cache()  # the stack refers to itself, and may wait long to be freed
        await asyncio.sleep(0)  # a transport closes its socket in the next turn of the loop

    def _record(self, packet: bytes, sender: tuple[str, int]) -> None:
        if (observe := self._hook.observe) is not None:
            where: dict[str, str | int] = {"sender": sender[0], "port": sender[1]}
            about = {"interface": self._link.name, **where, "data": packet}
            observe("datagram", self._now(), about)

    def _judged(self, sender: str, packet: bytes) -> PacketVerdict:
        verdict = self._judge(sender, packet)
        if verdict is PacketVerdict.PASS:
            self.sender = sender
        return verdict

    def _finished(self) -> None:
        self.sender = ""
        _forget_faults()

    def _empty_cache(self) -> None:
        cache = self._zeroconf.cache
        for name in cache.names():
            cache.async_remove_records(list(cache.entries_with_name(name)))

    def _send(self, packet: bytes) -> None:
        self._zeroconf.async_send(cast(Any, RawQuery(packet)))

    def _purge(self, type_: str, full: str) -> None:
        """Remove a pointer that zeroconf cannot write: as known, it would break every question."""
        cache = self._zeroconf.cache
        if known := cache.async_get_unique(DNSPointer(type_, PTR, IN, 0, full)):
            cache.async_remove_records([known])

    def _info_of(self, name: InstanceName, info: AsyncServiceInfo) -> ServiceInfo | None:
        if not info.text and self._zeroconf.cache.get_by_details(name.full, TXT, IN) is None:
            return None  # old versions call a name complete whose TXT record is yet to come
        received_at, ttl = self._age(self._records(name))
        return ServiceInfo(
            host=info.server or "",
            port=info.port or 0,
            addresses=self._addresses(info),
            text=info.text,
            received_at=received_at or self._now(),
            ttl=ttl,
        )

    def _addresses(self, info: AsyncServiceInfo) -> tuple[str, ...]:
        """Return a host's addresses, newest first, without those just replaced (RFC 6762, 10.2)."""
        find, now = self._zeroconf.cache.get_all_by_details, current_time_millis()
        records = (*find(info.server or "", _A, IN), *find(info.server or "", _AAAA, IN))
        lasting = [one for one in records if one.get_remaining_ttl(now) > 1]
        lasting.sort(key=lambda one: -one.created)
        # the cache of later versions is bounded: it may have lost what was just resolved
        return tuple(_address(one) for one in lasting) or tuple(info.parsed_addresses())

    def _records(self, name: InstanceName) -> list[DNSRecord]:
        cache, now = self._zeroconf.cache, current_time_millis()
        pointer = DNSPointer(domain(name.service), PTR, IN, 0, name.full)
        found = (cache.async_get_unique(pointer), *cache.entries_with_name(name.full))
        return [one for one in found if one and not one.is_expired(now)]

    def _age(self, records: Iterable[DNSRecord]) -> tuple[float, float]:
        """Return when the newest record came, by the loop's clock, and how long any may be kept."""
        ahead = self._now() - current_time_millis() / 1000
        return freshness((one.created / 1000 + ahead, one.ttl) for one in records)


def browse_size(services: Sequence[str]) -> int:
    """Return the bytes of a question for all instances that lists none as known."""
    asked = DNSOutgoing(0)
    for one in services:
        asked.add_question(DNSQuestion(domain(one), PTR, IN))
    return sum(map(len, asked.packets()))


def freshness(records: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return when the newest record was received, and for how long any may be kept from then on.

    records: for each when it was received, and its time to live, in seconds.  (0, 0) for none.
    """
    times = tuple(records)
    newest = max((came for came, _ in times), default=0.0)
    return newest, max((came + ttl for came, ttl in times), default=0.0) - newest


class _Reply(RecordUpdateListener):  # type: ignore[misc]  # not typed for mypy here
    """A listener for one name's TXT record: it keeps the first that matches, or else the last."""

    def __init__(self, name: InstanceName, matches: Callable[[bytes], bool]) -> None:
        self._key, self._matches = name.full.lower(), matches
        self.text: bytes | None = None
        self.matched = asyncio.Event()

    def async_update_records(self, _: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        fresh = (one.new for one in records if one.new.type == TXT)
        for one in fresh:
            if one.key == self._key and not one.is_expired(now) and not self.matched.is_set():
                self.text = one.text
                if self._matches(one.text):
                    self.matched.set()


def _size(record: Any) -> int:  # noqa: ANN401  # a DNSRecord of any type
    """Return the bytes of memory that a record takes, about.  Names have at most 253 bytes."""
    return ENTRY + 2 * len(record.name) + len(getattr(record, "text", ""))


def _choice(link: LanInterface) -> tuple[IPVersion, list[str | int]]:
    """Return what zeroconf is to use.  It finds an interface by address, or takes its index.

    By index it may send from any IPv6 address: many devices do not route answers to global ones.
    """
    chosen: list[str | int] = [link.ipv4] if link.ipv4 else []
    if not link.ipv6:
        return IPVersion.V4Only, chosen
    chosen.append(link.ipv6 if link.is_alone else link.index)
    return IPVersion.All if link.ipv4 else IPVersion.V6Only, chosen


def _forget_faults() -> None:
    """Drop what zeroconf remembers of each fault: texts and frames with packets, without bound."""
    for owner in (QuietLogger, sys.modules.get("zeroconf._protocol.incoming")):
        getattr(owner, "_seen_logs", {}).clear()


def _info(name: InstanceName) -> AsyncServiceInfo:
    """Return what zeroconf looks up of a name; an odd one, which it refuses, is put in later."""
    type_ = domain(name.service)
    try:
        return AsyncServiceInfo(type_, name.full)
    except BadTypeInNameException:
        info = AsyncServiceInfo(type_, f"odd.{type_}", server=name.full)
        info.name = name.full
        return info


def _address(record: Any) -> str:  # noqa: ANN401  # DNSAddress, which has no public name
    return str(ipaddress.ip_address(record.address))
