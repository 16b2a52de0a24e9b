"""The files that the broker reads, as they follow from its users: written, and seen to be read.

gatewayd has no right over the broker: systemd has it read the files again.  Whether it has shows in
its own copies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from gatewayd.device.secret import Secret
from gatewayd.errors import StoreError
from gatewayd.messages.broker import files
from gatewayd.messages.broker.certificates import (
    BrokerAuthority,
    ServerCertificate,
    names_of_this_host,
)
from gatewayd.messages.broker.files import AccessDirectory, TlsFiles
from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings
from gatewayd.messages.broker.takeover import take_over
from gatewayd.messages.broker.users import (
    GATEWAYD,
    PASSWORD_BYTES,
    SALT_BYTES,
    BrokerUsers,
    access_list,
    new_password,
    password_file,
    password_line,
)
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import BackgroundTask

log = logging.getLogger(__name__)

LOOK = 60.0
"""Seconds between two checks of the certificate, the names of this gateway, and the clock."""

READ_WITHIN = 2.0
"""Seconds after which the broker usually has read its files."""

NOT_RUNNING = 20.0
"""Seconds after which the broker should have read its files."""

UNREAD: Final = (
    "gatewayd's broker does not run, or does not read who may use it: install mosquitto, see "
    "systemctl status gatewayd-broker, or set enabled = false under [messages.broker]"
)

TAKEOVER_TIME = 30.0
"""Seconds for throwing out one user, in which systemd has the broker read its files."""
AT_A_TIME = 16
"""How many are thrown out at the same time."""


class NotedFaults:
    """What is wrong now, by what it is of; a new one is logged."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def note(self, of: str, text: str = "", *, quiet: bool = False) -> None:
        """Note a fault, or that there is none.  quiet: it is not logged."""
        if text and self._texts.get(of) != text and not quiet:
            log.warning("%s.", text)
        self._texts.pop(of, None)
        if text:
            self._texts[of] = text

    def get(self, of: str) -> str:
        """Return a fault; "" for none."""
        return self._texts.get(of, "")

    def texts(self) -> tuple[str, ...]:
        """Return all, a sentence each."""
        return tuple(self._texts.values())


class PassingPassword(NamedTuple):
    """A password of the moment, and what mosquitto checks it by."""

    password: Secret
    line: str


class UnreadFiles(NamedTuple):
    """The files are written, and it is not known yet whether the broker has read them.

    since: when they were written, seconds of the steady clock.  pause: until the next look.
    due: when that is.  hasty: whether they followed others at once.  mosquitto 2.0 forgets a SIGHUP
    that it gets while it reads its files for another (src/loop.c clears the flag afterwards): then
    it has copies of the new files, and goes on by the old.
    """

    since: float
    pause: float
    due: float
    hasty: bool

    @classmethod
    def at(cls, now: float, *, hasty: bool) -> UnreadFiles:
        """Return it as of now."""
        return cls(now, READ_WITHIN, now + READ_WITHIN, hasty)

    def later(self, now: float) -> UnreadFiles:
        """Return it with the next look, after a longer and longer pause."""
        pause = min(2 * self.pause, LOOK)
        return UnreadFiles(self.since, pause, now + pause, hasty=False)


class AccessWriter:
    """The writer of these files.

    faults: where it notes what is wrong.  wake: has `look` called soon.
    random: returns so many random bytes.
    password: of gatewayd itself, from now until its end.
    """

    def __init__(  # noqa: PLR0913  # four by keyword
        self,
        settings: BrokerSettings,
        places: BrokerPlaces,
        authority: BrokerAuthority,
        *,
        clock: Clock,
        faults: NotedFaults,
        wake: Callable[[], None],
        random: Callable[[int], bytes],
    ) -> None:
        self._settings, self._socket, self._authority = settings, places.socket, authority
        self._directory, self._clock, self._random = AccessDirectory(places), clock, random
        self._faults, self._wake = faults, wake
        self.password = self._new_password()
        self._own_line = self._line(self.password)
        self._users: BrokerUsers | None = None
        self._server: ServerCertificate | None = None
        self._tls: tuple[frozenset[int], TlsFiles] | None = None
        self._thrown_out: dict[str, PassingPassword] = {}
        self._written: Mapping[str, bytes] = {}
        self._unread: UnreadFiles | None = None
        self._takeovers = BackgroundTask(self._throw_out)

    @property
    def pause(self) -> float | None:
        """In how many seconds `look` is to be called; None where nothing waits for it."""
        return self._unread.pause if self._unread else None

    async def close(self) -> None:
        """End what runs; the files stay."""
        await self._takeovers.close()

    async def write(self, users: BrokerUsers) -> None:
        """Write the files, where they have changed.  A fault is noted; the next call tries again.

        users: those that have an effect.
        """
        for name in users.revoked_from(self._users or users):
            password = self._new_password()
            self._thrown_out[name] = PassingPassword(password, self._line(password))
        self._users = users
        contents = {**await self._listeners(users), **self._texts(users)}
        if self._written != contents:
            try:
                await asyncio.to_thread(self._directory.write, contents)
            except OSError as error:
                self._faults.note("files", f"{error.filename} cannot be written: {error.strerror}")
                return
            self._faults.note("files")
            hasty = self._unread is not None
            self._written, self._unread = contents, UnreadFiles.at(self._clock.now(), hasty=hasty)
        if self._thrown_out:
            self._takeovers.begin()

    async def look(self) -> None:
        """Write the files again where the broker has not read them, or may have missed a change.

        systemd may miss a change while it handles the one before, and so may mosquitto; or the
        broker does not run.
        """
        unread = self._unread
        if unread is None or self._clock.now() < unread.due:
            return
        was_read = await asyncio.to_thread(self._directory.was_read)
        if was_read and not unread.hasty:
            self._unread = None
            self._note_unread("")
            return
        self._unread = unread.later(self._clock.now())
        if not was_read and self._clock.now() - unread.since > NOT_RUNNING:
            self._note_unread(UNREAD)
        with contextlib.suppress(OSError):  # as it was written before, it is tried again
            await asyncio.to_thread(self._directory.write, self._written)

    def _note_unread(self, text: str) -> None:
        """Note that the broker has not read its files, or that it has; both have their entry."""
        before = self._faults.get("unread")
        if text and not before:
            log.warning("%s.", text, extra={"message_id": "broker-unread"})
        if before and not text:
            log.warning("gatewayd's broker runs.", extra={"message_id": "broker-read"})
        self._faults.note("unread", text, quiet=True)

    def _texts(self, users: BrokerUsers) -> Mapping[str, bytes]:
        lines = {name: passing.line for name, passing in self._thrown_out.items()}
        texts = {
            files.ACCESS: access_list(users),
            files.LIMIT: files.limit(self._settings),
            files.PASSWORDS: password_file(users, {**lines, GATEWAYD: self._own_line}),
        }
        return {name: text.encode("ascii") for name, text in texts.items()}

    async def _listeners(self, users: BrokerUsers) -> Mapping[str, bytes]:
        """Return the files for the listeners; no listeners where there is no CA to be had."""
        name, settings = files.LISTENERS, self._settings
        if not settings.ports:
            return {name: b""}
        try:
            tls = await self._tls_files(frozenset(users.revoked))
        except StoreError as error:
            self._faults.note("certificate", f"The broker has no certificate for children: {error}")
            return {name: b""}
        self._faults.note("certificate")
        return {**tls.contents(), name: files.listeners(settings, self._directory.path).encode()}

    async def _tls_files(self, revoked: frozenset[int]) -> TlsFiles:
        """Return what the listeners need; the same as before, unless something has changed."""
        names = self._settings.names or await asyncio.to_thread(names_of_this_host)
        now, server = self._clock.timestamp(), self._server
        if server is None or server.is_due(names, now):
            server = self._server = await self._authority.server(names, now)
            self._tls = None
            log.info("The broker has a new certificate, for %s.", ", ".join(names))
        if self._tls is None or self._tls[0] != revoked:
            self._tls = revoked, await self._authority.tls_files(server, revoked)
        return self._tls[1]

    async def _throw_out(self) -> None:
        """Throw out those who are connected with what was revoked."""
        while some := dict(islice(self._thrown_out.items(), AT_A_TIME)):
            closed = await asyncio.gather(
                *(
                    take_over(self._socket, name, passing.password, TAKEOVER_TIME)
                    for name, passing in some.items()
                )
            )
            for (name, passing), done in zip(some.items(), closed, strict=True):
                if not done:
                    log.warning("Cannot close what %s may have open to the broker.", name)
                if self._thrown_out[name] is passing:  # it was not revoked again meanwhile
                    del self._thrown_out[name]
        self._wake()

    def _new_password(self) -> Secret:
        return new_password(self._random(PASSWORD_BYTES))

    def _line(self, password: Secret) -> str:
        return password_line(password, self._random(SALT_BYTES))
