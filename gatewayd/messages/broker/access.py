"""Who may use gatewayd's broker: the commands of operators, and the list that follows from them.

The list of users is durable; the broker's files are made from it, and again when a child is
admitted, rejected or forgotten, and when the broker's certificate is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, StoreError, StoreUnavailable, WrongState
from gatewayd.messages.broker.access_writer import LOOK, AccessWriter, NotedFaults
from gatewayd.messages.broker.certificates import (
    CHILD_DAYS,
    MOST_CHILD_DAYS,
    BrokerAuthority,
)
from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings
from gatewayd.messages.broker.users import (
    MAX_BYTES,
    MAX_CHILDREN,
    PASSWORD_BYTES,
    SALT_BYTES,
    BrokerUser,
    BrokerUsers,
    Standing,
    child_name,
    decode,
    encode,
    new_password,
    password_line,
    program_name,
)
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.descriptors import write_all
from gatewayd.runtime.private_files import write_private
from gatewayd.runtime.watched_file import read_regular

log = logging.getLogger(__name__)

FILE: Final = "broker-users.json"
"""The list of users, in the state directory."""

PATIENCE = 5.0
"""Seconds for the receiver of a password to accept it."""


class BrokerAccess:
    """The users of the broker, and the files that it reads: the port `BrokerCommands`.

    state: the state directory.  standing: of a child now.
    resolve: an id as a caller gave it → the device.  random: returns so many random bytes.
    look: seconds between two checks of what changes by itself.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what the root joins
        self,
        settings: BrokerSettings,
        places: BrokerPlaces,
        state: Path,
        authority: BrokerAuthority,
        *,
        standing: Callable[[DeviceId], Standing],
        resolve: Callable[[str], DeviceId],
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        look: float = LOOK,
    ) -> None:
        self._settings, self._file, self._authority = settings, state / FILE, authority
        self._standing, self._resolve, self._clock = standing, resolve, clock
        self._random, self._look = random, look
        self._users: BrokerUsers | None = None
        self._concerned: frozenset[DeviceId] = frozenset()
        self._standings: Mapping[DeviceId, Standing] = {}
        self._forgotten: set[DeviceId] = set()
        self._unsaved = False
        self._stale, self._lock, self._faults = asyncio.Event(), asyncio.Lock(), NotedFaults()
        self._writer = AccessWriter(
            settings,
            places,
            authority,
            clock=clock,
            faults=self._faults,
            wake=self._stale.set,
            random=random,
        )

    @property
    def password(self) -> Secret:
        """That of gatewayd itself, the same until its end."""
        return self._writer.password

    # What the daemon calls.

    async def run(self) -> None:
        """Write the files, and keep them up to date.  Runs until cancelled; they stay."""
        try:
            while True:
                self._stale.clear()
                async with self._lock:
                    await self._refresh()
                    await self._writer.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._writer.pause or self._look):
                        await self._stale.wait()
        finally:
            await self._writer.close()

    def update(self, device: DeviceId) -> None:
        """Note that something has changed of a child, such as its verdict.  Never blocks."""
        if device in self._concerned and self._standing(device) is not self._standings.get(device):
            self._stale.set()

    def forget(self, device: DeviceId) -> None:
        """Note that a child was forgotten: it is no user any more.  Never blocks."""
        if device in self._concerned:
            self._forgotten.add(device)
            self._stale.set()

    def faults(self) -> Sequence[str]:
        """Return what is wrong, a sentence each."""
        return self._faults.texts()

    # What operators call.

    async def set_password(self, device: str, target: int, caller: str) -> None:
        """Give a child a new password, and write it to a descriptor."""
        name, password = child_name(self._resolve(device)), self._new_password()
        async with self._lock:
            user = replace(self._list().get(name), password=self._line(password))
            await self._keep(self._list().with_user(user))
        await asyncio.to_thread(_write_password, target, password)
        log.info("Device %s got a password for the broker by %s.", name, caller, extra=_of(name))

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
        log.info("Device %s got a certificate for the broker by %s.", name, caller, extra=_of(name))
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
        log.info("Program %s may speak for %d devices, by %s.", name, len(spoken_for), caller)

    async def revoke(self, name: str, caller: str) -> None:
        """Let a child or a program use the broker no more, at once."""
        async with self._lock:
            users = self._list()
            user = name if name in users.users else self._resolve(name)
            await self._keep(users.without(user, self._clock.timestamp()))
        log.info("The access of %s to the broker was revoked by %s.", user, caller)

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
            raise StoreUnavailable(self._faults.get("list") or "They are not read yet")
        return self._users

    async def _keep(self, users: BrokerUsers) -> None:
        """Make a list durable, and put it in force.  Raises StoreUnavailable."""
        try:
            await asyncio.to_thread(self._write_list, users)
        except OSError as error:
            raise StoreUnavailable(
                f"The broker's users cannot be written: {error.strerror}"
            ) from error
        self._unsaved = False
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
            self._faults.note("list")
        except OSError as error:
            self._faults.note(
                "list", f"The list of the broker's users cannot be read: {error.strerror}"
            )
        except StoreError as error:
            self._faults.note("list", str(error))
        else:
            self._faults.note("list")

    async def _drop_forgotten(self) -> None:
        """Remove forgotten children from the list.

        Where that cannot be made durable, they are out all the same, and it is tried again.
        """
        gone, users = frozenset(self._forgotten), self._users
        if users is None or not (gone or self._unsaved):
            return
        for device in gone:
            users = users.without_child(device, self._clock.timestamp())
        self._forgotten -= gone
        self._use(users)
        try:
            await asyncio.to_thread(self._write_list, users)
        except OSError as error:
            text = f"The broker's users cannot be written: {error.strerror}"
            self._faults.note("unsaved", text)
            self._unsaved = True
        else:
            self._faults.note("unsaved")
            self._unsaved = False

    async def _refresh(self) -> None:
        """Have the files written that follow from the list and the verdicts."""
        if self._users is None:
            await self._load()
        await self._drop_forgotten()
        if self._users is not None:
            self._standings = {child: self._standing(child) for child in self._concerned}
            await self._writer.write(self._users.effective(self._standings.__getitem__))

    def _new_password(self) -> Secret:
        return new_password(self._random(PASSWORD_BYTES))

    def _line(self, password: Secret) -> str:
        return password_line(password, self._random(SALT_BYTES))


def _of(name: str) -> Mapping[str, str]:
    """Return the fields of a log entry about a child."""
    return {"device": name}


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
    try:
        write_all(target, password.reveal() + b"\n", PATIENCE)
    except OSError as error:
        raise InvalidArgs(
            f"The password cannot be written: {error.strerror}. Make another"
        ) from error
