"""The credentials of children that are handed over: for holders by sockets, for people by D-Bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from gatewayd.credentials.document import document
from gatewayd.credentials.holders import Holder
from gatewayd.credentials.notices import CredentialNotices
from gatewayd.credentials.server import CredentialServer, CredentialSocket, HeldCredentials
from gatewayd.credentials.settings import CredentialSettings
from gatewayd.device.decision_log import DecisionKind, DecisionLog
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Record, RecordStore
from gatewayd.errors import InvalidArgs, NoSuchDevice, StoreError
from gatewayd.runtime.descriptors import passed_sockets, write_all

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds for the receiver of a credential to accept it."""
MAX_UNLOGGED = 1000
"""Holders whose credential is logged later, as the log could not be written."""
OF_SYSTEMD, OF_USERS = "credentials", "credentials@"
"""The name of systemd's socket, and the beginning of those of users (FileDescriptorName=)."""


class CredentialService:
    """What holders and people get: the port `CredentialCommands`, and a `HandOverListener`.

    sockets: that listen, by name.  directory: of notices; None for none.
    resolve: an id as a caller gave it → the device.
    is_for_holder: whether, by the rules now, a child's holder is to have its session.
    """

    def __init__(  # noqa: PLR0913  # all but three by keyword: what the root joins
        self,
        settings: CredentialSettings,
        records: RecordStore,
        source: HeldCredentials,
        *,
        sockets: Sequence[CredentialSocket],
        directory: Path | None,
        decisions: DecisionLog,
        resolve: Callable[[str], DeviceId],
        is_for_holder: Callable[[Record], bool],
    ) -> None:
        self._records, self._source, self._resolve = records, source, resolve
        self._sockets, self._decisions = sockets, decisions
        self._unlogged: set[Holder] = set()
        self._notices = CredentialNotices(directory, settings, records, is_for_holder)
        self._server = CredentialServer(settings, records, source, self._given)

    def secret_held(self, device: DeviceId) -> None:
        """Let a child's holder have its credential.  Never blocks."""
        self._server.secret_held(device)
        self._notices.secret_held(device)

    def secret_withheld(self, device: DeviceId) -> None:
        """Let a child's holder have its credential no more.  Never blocks."""
        self._notices.secret_withheld(device)

    def reread(self, clouds: Collection[str]) -> None:
        """Have units ask again whose clouds have other files, as roots to trust.  Never blocks."""
        self._notices.reread(clouds)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notices.run())
            group.create_task(self._server.run(self._sockets))

    async def read(self, device: str, target: int, caller: str) -> None:
        """Write a child's credential to a descriptor; see `CredentialCommands`."""
        name = self._resolve(device)
        record = self._records.get(name)
        if record is None:
            raise NoSuchDevice("No such device is registered")
        answer = document(record, await self._source.credential(name))
        try:
            await asyncio.to_thread(write_all, target, answer.reveal(), PATIENCE)
        except OSError as error:
            raise InvalidArgs(f"The credential cannot be written: {error.strerror}") from error
        log.info("The credential of device %s was read by %s.", name, caller, extra=_of(name))

    async def _given(self, holder: Holder, record: Record) -> None:
        """Note that a holder gets a credential; one that it had before is not logged again.

        Where the log could not be written, it is logged when the holder gets it the next time.
        """
        if not await self._notices.given(holder, record) and holder not in self._unlogged:
            return
        name = record.device
        log.info("The credential of device %s was given to %s.", name, holder, extra=_of(name))
        try:
            await self._decisions.append(DecisionKind.CREDENTIAL_READ, name, str(holder))
        except StoreError as error:
            log.warning("That %s got a credential is not in the log: %s.", holder, error)
            if len(self._unlogged) < MAX_UNLOGGED:
                self._unlogged.add(holder)
        else:
            self._unlogged.discard(holder)


def credential_sockets(environ: Mapping[str, str], pid: int) -> Sequence[CredentialSocket]:
    """Return the sockets on which holders ask, as systemd has passed them: to be called once.

    environ, pid: of the process.
    """
    found = []
    for name, one in passed_sockets(environ, pid):
        if name == OF_SYSTEMD or name.startswith(OF_USERS):
            found.append(CredentialSocket(one, name.removeprefix(OF_SYSTEMD).removeprefix("@")))
        else:
            one.close()
    return found


def _of(device: DeviceId) -> dict[str, str]:
    """Return the fields of a log entry about a child."""
    return {"device": device}
