"""The credential sockets: systemd and users connect, and get a child's credential when it is there.

A client says nothing: it is known by its address and user, or by the socket that it may open.  It
reads to the end.  Where the child is not handed over yet, it waits; an empty answer says that there
is none.  What waits is bounded, for each holder and in all, and the newest of a holder counts: an
earlier one was most likely killed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gatewayd.cloud.provider import Credential
from gatewayd.credentials.document import document
from gatewayd.credentials.holders import (
    ChildFinder,
    ChildSelector,
    Holder,
    names_of,
    selector_of,
    unit_of,
)
from gatewayd.credentials.settings import CredentialSettings
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Record, RecordStore
from gatewayd.device.secret import Secret
from gatewayd.errors import GatewayError
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
"""Connections at a time, of all holders."""
PATIENCE = 10.0
"""Seconds for a client to read its answer."""
FAILED = 1.0
"""Seconds after which connections are accepted again, where that failed."""
MAX_REFUSED = 64
"""Clients whose refusal is logged: each once."""


@dataclass(frozen=True, slots=True)
class CredentialSocket:
    """A socket that listens.  user: who alone can connect to it; "" for that of systemd."""

    listener: socket.socket
    user: str = ""


class HeldCredentials(Protocol):
    """The credentials of children that are handed over."""

    def is_held(self, device: DeviceId) -> bool:
        """Whether a child's holder may have its credential now."""

    async def credential(self, device: DeviceId) -> Credential:
        """Return what a child's holder logs in with.  Raises GatewayError."""


class CredentialServer:
    """A server of credentials, which listens to what children's holders may have.

    given: called with a holder and the record of the child whose credential it is about to get;
    never cancelled.
    """

    def __init__(
        self,
        settings: CredentialSettings,
        records: RecordStore,
        source: HeldCredentials,
        given: Callable[[Holder, Record], Awaitable[None]],
    ) -> None:
        self._settings, self._records, self._source = settings, records, source
        self._given = given
        self._finder = ChildFinder(records)
        self._sleeping: dict[str, set[asyncio.Event]] = {}
        self._noting: dict[tuple[Holder, Record], asyncio.Future[None]] = {}
        self._waiting: dict[Holder, asyncio.Task[None]] = {}
        self._refused: set[str] = set()

    def secret_held(self, device: DeviceId) -> None:
        """Answer those that wait for this child."""
        self._wake(device)

    def secret_withheld(self, device: DeviceId) -> None:
        """Let those that ask from now on wait; another child of that name may be the only one."""
        self._wake(device)

    def _wake(self, device: DeviceId) -> None:
        """Have those look again that wait for a child by one of its names, and no others."""
        self._finder.forget()
        record = self._records.get(device)
        for name in () if record is None else names_of(record):
            for sleeper in self._sleeping.get(name, ()):
                sleeper.set()

    async def run(self, sockets: Iterable[CredentialSocket]) -> None:
        """Serve until cancelled."""
        accepting = [asyncio.create_task(self._accept(one)) for one in sockets]
        try:
            await asyncio.gather(*accepting)
        finally:
            await cancel_and_wait([*accepting, *self._waiting.values()])
            if self._noting:
                await asyncio.wait(self._noting.values())

    async def _accept(self, place: CredentialSocket) -> None:
        loop = asyncio.get_running_loop()
        place.listener.setblocking(False)
        while True:
            try:
                client, address = await loop.sock_accept(place.listener)
            except OSError as error:
                self._note("accept", f"Cannot accept a connection: {error.strerror}")
                await asyncio.sleep(FAILED)
                continue
            self._begin(client, address, place.user)
            await asyncio.sleep(0)  # sock_accept() returns at once while there are more

    def _begin(self, client: socket.socket, address: bytes | str, user: str) -> None:
        """Serve a client that has connected, or close its connection."""
        uid = peer_uid(client)
        holder = Holder(user=user) if user else unit_of(address, uid)
        if holder is None or selector_of(holder, self._settings) is None:
            client.close()
            who = str(holder) if holder else f"A client of uid {uid}"
            self._note(who, f"{who} gets no credential: no table under [credentials] names it")
            return
        if (earlier := self._waiting.get(holder)) is not None:
            earlier.cancel()
        elif len(self._waiting) >= MAX_CONNECTIONS:
            client.close()
            self._note("many", f"{holder} gets no credential: {MAX_CONNECTIONS} others wait")
            return
        task = self._waiting[holder] = asyncio.create_task(self._serve(client, holder))
        task.add_done_callback(partial(self._end, client, holder))

    def _end(self, client: socket.socket, holder: Holder, task: asyncio.Task[None]) -> None:
        """Close a connection: also one whose task was cancelled before it began."""
        client.close()
        if self._waiting.get(holder) is task:
            del self._waiting[holder]

    async def _serve(self, client: socket.socket, holder: Holder) -> None:
        try:
            async with asyncio.timeout(self._settings.wait):
                answer = await self._answer(holder)
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_sendall(client, answer.reveal())
        except TimeoutError:
            log.debug("%s has waited for its child, and gets an empty answer.", holder)
        except (OSError, GatewayError) as error:
            self._note(str(holder), f"{holder} does not get its credential: {error}")

    async def _answer(self, holder: Holder) -> Secret:
        """Return what a holder gets, once its child is handed over; it is noted already.

        What it is made of is read from the disk, and noted there.  Where the child was rejected or
        its secret replaced meanwhile, it is made again.
        """
        selector = selector_of(holder, self._settings)
        assert selector is not None, "the settings do not change"
        while True:
            record = await self._held_child(holder, selector)
            try:
                answer = document(record, await self._source.credential(record.device))
                await self._note_given(holder, record)
            except GatewayError:
                if self._is_current(record, selector):
                    raise
            else:
                if self._is_current(record, selector):
                    return answer

    async def _note_given(self, holder: Holder, record: Record) -> None:
        """Note what a holder is about to get: whole, also where it is cancelled meanwhile.

        It is noted once for all that come until then: one may come again all the time.
        """
        what = (holder, record)
        if (noting := self._noting.get(what)) is None:
            noting = self._noting[what] = asyncio.ensure_future(self._given(*what))
            noting.add_done_callback(lambda _: self._noting.pop(what))
        await asyncio.shield(noting)

    def _is_current(self, record: Record, selector: ChildSelector) -> bool:
        """Whether a holder may still have what was made of a record."""
        newest = self._records.get(record.device)
        return (
            newest is not None
            and newest.issue == record.issue
            and selector.selects(newest)
            and self._source.is_held(newest.device)
        )

    async def _held_child(self, holder: Holder, selector: ChildSelector) -> Record:
        """Return the only child that a holder may have, once it is handed over."""
        while True:
            found = self._finder.find(selector, asyncio.get_running_loop().time())
            if len(found) == 1 and self._source.is_held(found[0].device):
                return found[0]
            if len(found) > 1:
                text = f"{holder} gets no credential: {len(found)} children have this name"
                self._note(f"ambiguous {holder}", f"{text}: write product/name")
            await self._next_change(selector.child)

    async def _next_change(self, name: str) -> None:
        """Return when a child that has this name may be had by its holder, or no more."""
        sleeping, changed = self._sleeping.setdefault(name, set()), asyncio.Event()
        sleeping.add(changed)
        try:
            await changed.wait()
        finally:
            sleeping.discard(changed)
            if not sleeping:
                del self._sleeping[name]

    def _note(self, what: str, text: str) -> None:
        """Log a problem, once for each client."""
        if what in self._refused or len(self._refused) >= MAX_REFUSED:
            return
        self._refused.add(what)
        more = " More are not logged." if len(self._refused) == MAX_REFUSED else ""
        log.warning("%s.%s", text, more)


def peer_uid(client: socket.socket) -> int:
    """Return the user of the peer of a Unix socket when it connected (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
