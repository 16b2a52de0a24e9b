"""Connections to devices that prove their keys: bounded, one at a time to each place.

The key of a device is asked for where it answers.  What came of it is kept for a moment, since many
devices, or many announcements of one, may be at one address.  For a child on record there is a
connection besides that for strangers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial

from gatewayd.device.proof import Proof
from gatewayd.device.reason import NONE, Reason
from gatewayd.discovery.protocols.opc_ua.identity import url_of
from gatewayd.proofs import reasons, ssh
from gatewayd.proofs.application import OwnApplication
from gatewayd.proofs.certificate import (
    CertificateFacts,
    UnreadableDeviceCertificate,
    read_certificate,
)
from gatewayd.proofs.chain import check_chain
from gatewayd.proofs.link import Place, connection_to
from gatewayd.proofs.opc_ua import server_at
from gatewayd.proofs.secure_channel import FRESH
from gatewayd.proofs.settings import CertificateField, KeyKind, ProofSettings
from gatewayd.proofs.tls import ProofFailed, VendorRoots, certificate_of
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Connections that are open at the same time."""
STRANGERS = 3
"""Of these, those to devices that are not on record: a flood of them holds no child back."""
TIMEOUT = 5.0
"""Seconds for one connection and its handshake."""
SOON = 10.0
"""Seconds after which a connection that failed is made again at the earliest, unless the device has
returned since."""
MOST = 4096
"""Places whose outcome is remembered."""

_REASONS: Mapping[int, Reason] = {
    errno.ECONNREFUSED: reasons.REFUSED,
    errno.ECONNRESET: reasons.NO_HANDSHAKE,
    errno.EPIPE: reasons.NO_HANDSHAKE,
    errno.ETIMEDOUT: reasons.TIMED_OUT,
}


@dataclass(slots=True)
class _Attempt:
    """The newest connection to a place.  begun, ended: seconds of the event loop's clock."""

    made: asyncio.Task[Proof]
    begun: float
    ended: float = 0.0


class Asked(Enum):
    """Why a device is asked for its key; a connection that was good counts for one question."""

    RETURNED = auto()  # no connection of before counts
    SOON = auto()  # one that failed within SOON counts
    LATER = auto()  # one that failed within the time of the settings counts


class Prover:
    """What has devices prove their keys.

    settings: by the name of the table [proof.NAME].  own: by which OPC UA servers are asked.
    """

    def __init__(
        self, settings: Mapping[str, ProofSettings], clock: Clock, own: OwnApplication
    ) -> None:
        self.settings, self._clock, self._own = settings, clock, own
        self._roots = {name: VendorRoots(one.ca_files) for name, one in settings.items()}
        self._keys = VendorRoots(())
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._for_strangers = asyncio.Semaphore(STRANGERS)
        self._attempts: OrderedDict[tuple[str, Place, bool], _Attempt] = OrderedDict()

    async def prove(
        self, name: str, places: Sequence[Place], *, known: bool, asked: Asked, key: str = ""
    ) -> Proof:
        """Return the best of what a device proves at these places, asked in turn.

        A stranger may have announced some of them for it: what fails at one rules out no other.

        name: of a table [proof.NAME] that there is.  known: whether the device is on record.
        asked: which connections of before count.
        key: the one that is pinned; where that is proven, or without one anything that is asked
        for, no further place is asked.
        """
        found: list[Proof] = []
        since = self._clock.now()
        for place in places:
            made = await self._at(name, place, asked, since, known=known)
            found.append(replace(made, pinned=bool(key) and made.key == key))
            if found[-1].pinned or not (key or made.reason.code):
                break
        best = max(found, key=_worth, default=None)
        return best or Proof(name, "", self._clock.wall(), reason=reasons.NO_ADDRESS)

    def reread(self) -> None:
        """Try again at once what has failed: settings or files are others now."""
        done = [key for key, one in self._attempts.items() if one.made.done()]
        for one in done:
            del self._attempts[one]

    async def _at(
        self, name: str, place: Place, asked: Asked, since: float, *, known: bool
    ) -> Proof:
        """Return what is proven at a place.  since: when that was asked for.

        A child on record does not wait for the turn of a stranger who is announced there, too.
        """
        key = name, place, known
        while (attempt := self._attempts.get(key)) is not None:
            if attempt.made.done():
                break
            made = await asyncio.shield(attempt.made)
            if asked is not Asked.RETURNED or attempt.begun >= since:
                return made
        if attempt is None or not self._counts(name, attempt, asked):
            task = asyncio.create_task(self._make(name, place, known=known), name="prove")
            attempt = self._attempts[key] = _Attempt(task, self._clock.now())
            self._attempts.move_to_end(key)
            task.add_done_callback(partial(self._ended, attempt))
            self._make_room()
        return await asyncio.shield(attempt.made)

    def _counts(self, name: str, attempt: _Attempt, asked: Asked) -> bool:
        """Whether a connection that has ended counts for another question."""
        if asked is Asked.RETURNED or attempt.made.cancelled():
            return False
        lasts = SOON if asked is Asked.SOON else self.settings[name].retry
        failed = bool(attempt.made.result().reason.code)
        return failed and self._clock.now() < attempt.ended + lasts

    def _ended(self, attempt: _Attempt, _: asyncio.Task[Proof]) -> None:
        attempt.ended = self._clock.now()

    def _make_room(self) -> None:
        """Forget the oldest outcomes; those under way are as few as the devices that wait."""
        for key in list(self._attempts)[: max(0, len(self._attempts) - MOST)]:
            if self._attempts[key].made.done():
                del self._attempts[key]

    async def _make(self, name: str, place: Place, *, known: bool) -> Proof:
        """Make one connection, or two where the certificate is not trusted."""
        async with AsyncExitStack() as turns:
            if not known:
                await turns.enter_async_context(self._for_strangers)
            await turns.enter_async_context(self._slots)
            blank = Proof(name, place.address, self._clock.wall())
            try:
                return await self._ask(name, place, blank)
            except ProofFailed as failure:
                return replace(blank, reason=failure.reason)
            except Exception:  # border: libraries parse what a stranger sends
                log.exception("Failed to have a device prove its key (%s).", name)
                return replace(blank, reason=reasons.FAILED)

    async def _ask(self, name: str, place: Place, blank: Proof) -> Proof:
        settings = self.settings[name]
        if settings.kind is KeyKind.SSH:
            async with self._connection(place, settings.port) as connection:
                return replace(blank, key=await ssh.host_key_of(connection))
        if settings.kind is KeyKind.OPC_UA:
            return await self._ask_server(place, settings, blank)
        roots = self._roots[name] if settings.ca_files else self._keys
        try:
            facts = await self._certificate(place, settings, roots)
        except ProofFailed as failure:
            if not settings.ca_files or failure.reason not in _DISTRUSTED:
                raise
            # which key is there all the same: it may be the one that is pinned, or another
            facts = await self._certificate(place, settings, self._keys)
            return _with(blank, replace(facts, identity=""), failure.reason)
        if not settings.ca_files:
            return _with(blank, replace(facts, identity=""))
        return _with(blank, facts, Reason("") if facts.identity else reasons.NAMELESS)

    async def _certificate(
        self, place: Place, settings: ProofSettings, roots: VendorRoots
    ) -> CertificateFacts:
        context = await roots.context()
        async with self._connection(place, settings.port) as connection:
            der = await certificate_of(connection, context)
        return _read(der, settings.identity)

    async def _ask_server(self, place: Place, settings: ProofSettings, blank: Proof) -> Proof:
        """Have an OPC UA server prove its key, and compare who it says that it is."""
        server = await server_at(
            partial(self._connection, place, settings.port),
            url_of(place.address, settings.port),
            await self._own.get(),
            os.urandom(FRESH),
            self._clock.timestamp(),
        )
        facts, reason = _read(server.certificate, settings.identity), NONE
        if not settings.ca_files:
            return _with(blank, replace(facts, identity=""))
        try:
            await check_chain(server.certificate, server.chain, settings.ca_files)
        except ProofFailed as failure:
            reason = failure.reason
        named = _read(server.certificate, CertificateField.URI).identity
        if not reason.code and named != server.uri.strip().lower():
            reason = reasons.OTHER_APPLICATION
        if reason.code:
            return _with(blank, replace(facts, identity=""), reason)
        return _with(blank, facts, NONE if facts.identity else reasons.NAMELESS)

    @asynccontextmanager
    async def _connection(self, place: Place, port: int) -> AsyncIterator[socket.socket]:
        """Yield a connection for TIMEOUT.  Raises ProofFailed for what ends it before."""
        try:
            async with asyncio.timeout(TIMEOUT), connection_to(place, port) as connection:
                yield connection
        except TimeoutError as error:
            raise ProofFailed(reasons.TIMED_OUT) from error
        except OSError as error:
            raise ProofFailed(_REASONS.get(error.errno or 0, reasons.UNREACHABLE)) from error


def _read(der: bytes, field: CertificateField) -> CertificateFacts:
    try:
        return read_certificate(der, field)
    except UnreadableDeviceCertificate as error:
        raise ProofFailed(reasons.UNREADABLE) from error


def _worth(one: Proof) -> tuple[bool, bool, bool]:
    """Return what is compared of proofs of one device at several places."""
    return one.pinned, not one.reason.code, bool(one.key)


_DISTRUSTED = frozenset({reasons.NOT_TRUSTED, reasons.EXPIRED, reasons.NOT_YET_VALID})


def _with(blank: Proof, facts: CertificateFacts, reason: Reason | None = None) -> Proof:
    return replace(
        blank, key=facts.key, identity=facts.identity, signer=facts.signer, serial=facts.serial,
        reason=reason or blank.reason,
    )  # fmt: skip
