"""Who may use gatewayd's broker: the commands of operators, and the files that follow from them.

The list of users is durable; the files are made from it, and again when a child is admitted,
rejected or forgotten, and when the broker's certificate is due.  gatewayd has no right over the
broker: systemd has it read the files again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, StoreError, StoreUnavailable, WrongState
from gatewayd.messages.broker import files
from gatewayd.messages.broker.certificates import (
    CHILD_DAYS,
    MOST_CHILD_DAYS,
    BrokerAuthority,
    ServerCertificate,
    names_of_this_host,
)
from gatewayd.messages.broker.files import AccessDirectory, TlsFiles
from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings
from gatewayd.messages.broker.takeover import take_over
from gatewayd.messages.broker.users import (
    GATEWAYD,
    MAX_BYTES,
    MAX_CHILDREN,
    SALT_BYTES,
    BrokerUser,
    BrokerUsers,
    access_list,
    child_name,
    decode,
    encode,
    password_file,
    password_line,
    program_name,
)
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.private_files import write_private
from gatewayd.runtime.tasks import BackgroundTask
from gatewayd.runtime.watched_file import read_regular

log = logging.getLogger(__name__)

FILE: Final = "broker-users.json"
"""The list of users, in the state directory."""

LOOK = 60.0
"""Seconds between two checks of the certificate, the names of this gateway, and the clock."""

PASSWORD_BYTES = 32
"""Of randomness in a password."""

READ_WITHIN = 2.0
"""Seconds after which the broker usually has read its files."""

NOT_RUNNING = 20.0
"""Seconds after which the broker should have read its files."""

UNREAD = (
    "gatewayd's broker does not run, or does not read who may use it: install mosquitto, see "
    "systemctl status gatewayd-broker, or set enabled = false under [messages.broker]"
)

PATIENCE = 5.0
"""Seconds for the receiver of a password to accept it."""

TAKEOVER_TIME = 30.0
"""Seconds for throwing out one user, in which systemd has the broker read its files."""
AT_A_TIME = 16
"""How many are thrown out at the same time."""


class PassingPassword(NamedTuple):
    """A password of the moment, and what mosquitto checks it by."""

    password: Secret
    line: str


class UnreadFiles(NamedTuple):
    """The files are written, and it is not known yet whether the broker has read them.

    since: when they were written, seconds of the steady clock.  pause: until the next look.
    due: when that is.
    """

    since: float
    pause: float
    due: float

    @classmethod
    def at(cls, now: float) -> UnreadFiles:
        """Return it as of now."""
        return cls(now, READ_WITHIN, now + READ_WITHIN)

    def later(self, now: float) -> UnreadFiles:
        """Return it with the next look, after a longer and longer pause."""
        pause = min(2 * self.pause, LOOK)
        return UnreadFiles(self.since, pause, now + pause)


class BrokerAccess:
    """The users of the broker, and the files that it reads: the port `BrokerCommands`.

    state: the state directory.  admitted: whether a child is on record as admitted.
    resolve: an id as a caller gave it → the device.  random: returns so many random bytes.
    look: seconds between two checks of what changes by itself.
    password: of gatewayd itself, from now until its end.
    """

    def __init__(  # noqa: PLR0913  # six by keyword: what the root joins
        self,
        settings: BrokerSettings,
        places: BrokerPlaces,
        state: Path,
        authority: BrokerAuthority,
        *,
        admitted: Callable[[DeviceId], bool],
        resolve: Callable[[str], DeviceId],
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        look: float = LOOK,
    ) -> None:
        self._settings, self._socket, self._file = settings, places.socket, state / FILE
        self._directory = AccessDirectory(places)
        self._authority = authority
        self._admitted, self._resolve, self._clock = admitted, resolve, clock
        self._random, self._look = random, look
        self.password = self._new_password()
        self._own_line = self._line(self.password)
        self._users: BrokerUsers | None = None
        self._concerned: frozenset[DeviceId] = frozenset()
        self._forgotten: set[DeviceId] = set()
        self._server: ServerCertificate | None = None
        self._tls: tuple[frozenset[int], TlsFiles] | None = None
        self._thrown_out: dict[str, PassingPassword] = {}
        self._effective: BrokerUsers | None = None
        self._speaking: frozenset[DeviceId] = frozenset()
        self._written: Mapping[str, bytes] = {}
        self._unread: UnreadFiles | None = None
        self._stale, self._lock = asyncio.Event(), asyncio.Lock()
        self._takeovers = BackgroundTask(self._throw_out)
        self._faults: dict[str, str] = {}

    # What the daemon calls.

    async def run(self) -> None:
        """Write the files, and keep them up to date.  Runs until cancelled; they stay."""
        try:
            while True:
                self._stale.clear()
                async with self._lock:
                    await self._refresh()
                    await self._have_them_read()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._unread.pause if self._unread else self._look):
                        await self._stale.wait()
        finally:
            await self._takeovers.close()

    def update(self, device: DeviceId) -> None:
        """Note that something has changed of a child, such as its verdict.  Never blocks."""
        if device in self._concerned and self._admitted(device) is not (device in self._speaking):
            self._stale.set()

    def forget(self, device: DeviceId) -> None:
        """Note that a child was forgotten: it is no user any more.  Never blocks."""
        if device in self._concerned:
            self._forgotten.add(device)
            self._stale.set()

    def faults(self) -> Sequence[str]:
        """Return what is wrong, a sentence each."""
        return tuple(self._faults.values())

    # What operators call.

    async def set_password(self, device: str, target: int, caller: str) -> None:
        """Give a child a new password, and write it to a descriptor."""
        name, password = child_name(self._resolve(device)), self._new_password()
        async with self._lock:
            user = replace(self._list().get(name), password=self._line(password))
            await self._keep(self._list().with_user(user))
        await asyncio.to_thread(_write_password, target, password)
        log.info("%s made a password of device %s for the broker.", caller, name)

    async def issue_certificate(
        self, device: str, request: str, options: Mapping[str, object], caller: str
    ) -> str:
        """Issue a certificate for a child's key; return it with that of the CA, PEM."""
        name, days = child_name(self._resolve(device)), _days(options)
        if fault := self._clock.fault():
            raise WrongState(f"A certificate needs the time: {fault}")
        pem = request.encode("ascii", "replace")
        async with self._lock:
            users, now = self._list(), self._clock.timestamp()
            made = await self._authority.child(name, pem, days, now)
            await self._keep(users.with_certificate(name, made.serial, made.ends, now))
        log.info("%s had a certificate issued for device %s at the broker.", caller, name)
        return made.chain

    async def add_program(
        self, name: str, devices: Sequence[str], target: int, caller: str
    ) -> None:
        """Let a program speak for some children; write its password to a descriptor."""
        if not 1 <= len(devices) <= MAX_CHILDREN:
            raise InvalidArgs(f"A program speaks for 1 to {MAX_CHILDREN} children")
        spoken_for = {DeviceId(child_name(self._resolve(child))) for child in devices}
        password = self._new_password()
        made = BrokerUser(
            program_name(name), self._line(password), children=tuple(sorted(spoken_for))
        )
        async with self._lock:
            await self._keep(self._list().with_user(made))
        await asyncio.to_thread(_write_password, target, password)
        log.info("%s lets program %s speak for %d children.", caller, name, len(spoken_for))

    async def revoke(self, name: str, caller: str) -> None:
        """Let a child or a program use the broker no more, at once."""
        async with self._lock:
            users = self._list()
            user = name if name in users.users else self._resolve(name)
            await self._keep(users.without(user, self._clock.timestamp()))
        log.info("%s revoked the access of %s to the broker.", caller, user)

    async def authority(self) -> str:
        """Return the certificate of the CA that children know the broker by, PEM."""
        return (await self._authority.get()).pem

    def list_users(self) -> tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]:
        """Return name, kind, ways to log in, and children of each user."""
        users = self._list().users
        return tuple(
            (one.name, "program" if one.is_program else "child", one.ways, one.speaks_for)
            for _, one in sorted(users.items())
        )

    # The list.

    def _list(self) -> BrokerUsers:
        if self._users is None:
            raise StoreUnavailable(self._faults.get("list", "The broker's users are not read yet"))
        return self._users

    async def _keep(self, users: BrokerUsers) -> None:
        """Make a list durable, and put it in force.  Raises StoreUnavailable."""
        try:
            await asyncio.to_thread(self._write_list, users)
        except OSError as error:
            raise StoreUnavailable(
                f"The broker's users cannot be written: {error.strerror}"
            ) from error
        self._use(users)
        await self._refresh()
        self._stale.set()  # `run` sees to it that the broker reads it
        if fault := self._faults.get("files"):
            raise StoreUnavailable(f"It is on record, but the broker does not know it yet: {fault}")

    def _write_list(self, users: BrokerUsers) -> None:
        write_private(self._file, encode(users))

    def _read_list(self) -> BrokerUsers:
        return decode(read_regular(self._file, MAX_BYTES))

    def _use(self, users: BrokerUsers) -> None:
        self._users, self._concerned = users, users.children

    async def _load(self) -> None:
        try:
            self._use(await asyncio.to_thread(self._read_list))
        except FileNotFoundError:
            self._use(BrokerUsers())
        except OSError as error:
            self._fault("list", f"The list of the broker's users cannot be read: {error.strerror}")
        except StoreError as error:
            self._fault("list", str(error))
        else:
            self._fault("list")

    async def _drop_forgotten(self) -> None:
        gone, users = frozenset(self._forgotten), self._users
        if not gone or users is None:
            return
        for device in gone:
            users = users.without_child(device, self._clock.timestamp())
        self._use(users)
        try:
            await asyncio.to_thread(self._write_list, users)
        except OSError as error:  # it is out of the files all the same, and tried again
            self._fault("forgotten", f"The broker's users cannot be written: {error.strerror}")
        else:
            self._forgotten -= gone
            self._fault("forgotten")

    # The files.

    async def _refresh(self) -> None:
        """Write the files, where they have changed.  A fault is shown, and tried again."""
        if self._users is None:
            await self._load()
        await self._drop_forgotten()
        if self._users is None:
            return
        effective = self._users.admitted(self._admitted)
        for name in effective.revoked_from(self._effective or effective):
            password = self._new_password()
            self._thrown_out[name] = PassingPassword(password, self._line(password))
        self._effective, self._speaking = effective, effective.children
        contents = {**await self._listeners(effective), **self._texts(effective)}
        if self._written != contents:
            try:
                await asyncio.to_thread(self._directory.write, contents)
            except OSError as error:
                self._fault("files", f"{error.filename} cannot be written: {error.strerror}")
                return
            self._fault("files")
            self._written, self._unread = contents, UnreadFiles.at(self._clock.now())
        if self._thrown_out:
            self._takeovers.begin()

    async def _have_them_read(self) -> None:
        """Write the files again where the broker has not read them.

        systemd may miss a change while it handles the one before; or the broker does not run.
        """
        unread = self._unread
        if unread is None or self._clock.now() < unread.due:
            return
        if await asyncio.to_thread(self._directory.was_read):
            self._unread = None
            self._fault("unread")
            return
        self._unread = unread.later(self._clock.now())
        if self._clock.now() - unread.since > NOT_RUNNING:
            self._fault("unread", UNREAD)
        with contextlib.suppress(OSError):  # as it was written before, it is tried again
            await asyncio.to_thread(self._directory.write, self._written)

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
            self._fault("certificate", f"The broker has no certificate for children: {error}")
            return {name: b""}
        self._fault("certificate")
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
            for name, done in zip(some, closed, strict=True):
                if not done:
                    log.warning("Cannot close what %s may have open to the broker.", name)
                del self._thrown_out[name]
        self._stale.set()

    def _fault(self, of: str, text: str = "") -> None:
        """Show a fault, which is logged where it is new; or that there is none."""
        if text and self._faults.get(of) != text:
            log.warning("%s.", text)
        self._faults.pop(of, None)
        if text:
            self._faults[of] = text

    # Passwords.

    def _new_password(self) -> Secret:
        return Secret(base64.urlsafe_b64encode(self._random(PASSWORD_BYTES)).rstrip(b"="))

    def _line(self, password: Secret) -> str:
        return password_line(password, self._random(SALT_BYTES))


def _days(options: Mapping[str, object]) -> int:
    """Return the option 'days' of a certificate.  Raises InvalidArgs."""
    if set(options) - {"days"}:
        raise InvalidArgs("Unknown option: the only one is 'days'")
    days = options.get("days", CHILD_DAYS)
    if type(days) is int and 1 <= days <= MOST_CHILD_DAYS:
        return days
    raise InvalidArgs(f"Option 'days' must be an integer from 1 to {MOST_CHILD_DAYS}")


def _write_password(target: int, password: Secret) -> None:
    """Write a password and a line end to a file or pipe.  Blocks.  Raises InvalidArgs."""
    ready, line = select.poll(), password.reveal() + b"\n"
    try:
        ready.register(target, select.POLLOUT)
        if not ready.poll(PATIENCE * 1000):
            raise InvalidArgs("The receiver of the password does not read: make another")
        if os.write(target, line) != len(line):
            raise InvalidArgs("The password was not written as a whole: make another")
    except OSError as error:
        raise InvalidArgs(
            f"The password cannot be written: {error.strerror}. Make another"
        ) from error
