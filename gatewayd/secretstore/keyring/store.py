"""A keyring as the secret store: each secret is an entry of its own.

A keyring promises neither durability nor a list nor transactions.  So each write is read back,
and what was written is listed in a file of ours (index.py).  The vault promises more, and is the
default.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreError
from gatewayd.secretstore.keyring import backends
from gatewayd.secretstore.keyring.client import KeyringClient, VerifiedKeyring
from gatewayd.secretstore.keyring.index import EntryChange, EntryState, KeyringEntry, KeyringIndex
from gatewayd.secretstore.store import (
    IDLE,
    QUARANTINE,
    ConditionProperties,
    Protection,
    StoreCondition,
    StoreState,
    entry_name,
    parse_entry_name,
)
from gatewayd.secretstore.vault.ballast import Ballast
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds that one call of the keyring may take: the store thread waits for it."""
MAX_DELETIONS = 16
"""Entries deleted after one group, at most: each is a call of the keyring."""
_NOT_OPENED = "the keyring was not opened yet"


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """[secretstore.keyring]"""

    backend: str = setting(
        REQUIRED, "the keyring backend: the name of an entry point of keyring.backends, as "
        "SecretService, or module.Class",
        grammar=grammar.backend_name,
    )  # fmt: skip
    properties: Mapping[str, str] = setting({}, "attributes of the backend to set, as file_path")

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with them as a whole."""
        if why := backends.refusal(self.backend):
            yield f"the keyring backend {self.backend} is refused: {why}: name another"
        for name in self.properties:
            if rule := grammar.attribute_name(name):
                yield f"the property {name[:64]!a} {rule}"


class KeyringStore(ConditionProperties):
    """A secret store on the keyring backend that the settings name.  Implements SecretStore.

    directory: of keyring.db, the index of what was written.
    random: returns so many unpredictable bytes.
    Where the keyring is locked or gone the store is sealed, until a later call finds it open.
    Raises PluginError where there is no such backend, ConfigError and StoreError like the vault.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = KeyringSettings

    def __init__(
        self,
        settings: KeyringSettings,
        directory: Path,
        credentials: Path | None = None,  # noqa: ARG002  # every store is given them
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        backend = backends.find(settings.backend, backends.installed())
        self._index = KeyringIndex(directory)
        self._ballast = Ballast(directory / "keyring.ballast")
        self._changes: list[EntryChange] = []
        self._marked = 0
        self._set_condition(_NOT_OPENED)
        try:
            client = KeyringClient(
                lambda: backends.make(backend, settings.properties), settings.backend, TIMEOUT
            )
            witness = self._index.witness(random(16).hex())
            self._keyring = VerifiedKeyring(
                client, witness, self._index.expects_entries, self._report
            )
            self._complete_writes()
        except BaseException:
            self.close()
            raise
        log.warning(
            "The keyring %s keeps the secrets; unlike the vault, it does not promise that they "
            "survive a power cut.", settings.backend,
        )  # fmt: skip

    def begin(self) -> None:
        """Open a group."""
        self._changes.clear()
        self.mark()

    def mark(self) -> None:
        """Set the point to which `undo` goes back."""
        self._marked = len(self._changes)

    def undo(self) -> None:
        """Take back deletions and quarantines since `mark`; what was written stays."""
        del self._changes[self._marked :]

    def rollback(self) -> None:
        """Take back deletions and quarantines of this group; what was written stays."""
        self._changes.clear()
        self._index.rollback()

    def commit(self) -> None:
        """Make the group durable; what is to be deleted is deleted now, or later."""
        if self._changes:
            self._index.apply(self._changes)
            self._changes.clear()
        if self._keyring.is_open:
            self._delete_marked()

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreFull, StoreUnavailable."""
        self._keyring.open()
        service, username = entry_name(ref)
        entry = self._index.intend(service, username)
        self._keyring.write(service, entry.entry, base64.b64encode(secret.reveal()).decode())
        self._index.set(entry.id, EntryState.STORED)
        self._change(EntryState.DELETING, self._live(ref)[1:])

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed, StoreUnavailable."""
        self._keyring.open()
        entries = self._live(ref)
        for entry in entries:
            if (text := self._keyring.read(entry.service, entry.entry)) is not None:
                return self._decoded(ref, entry, text)
        if entries:
            self._keyring.recognise()  # it may be another keyring altogether
        raise SecretNotFound(f"no secret is stored for attempt {ref.attempt} of {ref.device}")

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so."""
        self._change(EntryState.DELETING, self._live(ref))

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, that hold something, in order."""
        entries = self._unchanged(self._index.all_live(device))
        return sorted(
            {ref for s in entries if (ref := parse_entry_name(s.service, s.username)) is not None}
        )

    def quarantine(self, ref: SecretRef) -> None:
        """Quarantine a slot without a record: as if empty, but it can still be rescued."""
        self._change(EntryState.QUARANTINED, self._live(ref), "no record points to it")

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch."""
        self._index.expire(now, QUARANTINE)

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreFull."""
        self._keyring.open()
        self._ballast.fill()

    def make_room(self) -> bool:
        """Give up the room that is kept for a full disk; False if there is none."""
        return self._ballast.free()

    def tend(self, now: float) -> float:  # noqa: ARG002  # only the keyring matters
        """Try again a keyring that was locked or gone; return the seconds until the next try."""
        if not self._keyring.is_open:
            self._complete_writes()
        return IDLE

    @property
    def read_only(self) -> bool:
        """Whether the disk takes no writes, so that nothing is put into the keyring either."""
        return self._index.read_only

    def reopen(self) -> None:
        """Use the disk again.  Raises StoreError where it still takes no writes."""
        self._index.reopen()

    def close(self) -> None:
        """Release the disk.  Closing twice is fine."""
        self._set_condition("the keyring is closed")
        self._index.close()

    def _report(self, why: str) -> None:
        """Set why the keyring cannot be used, or that it can, and log what is new of that."""
        if why and why != self.why:
            about = {"message_id": "store-sealed"}
            log.error("The keyring is sealed: %s.", why, extra=about)
        elif self.why not in ("", why, _NOT_OPENED):
            log.warning("The keyring is unsealed now.")
        self._set_condition(why)

    def _set_condition(self, why: str) -> None:
        """Set why the keyring cannot be used; "" where it can."""
        self._condition = (
            StoreCondition(StoreState.SEALED, Protection.NONE, why)
            if why
            else StoreCondition(StoreState.UNSEALED, Protection.KEYRING)
        )

    def _live(self, ref: SecretRef) -> list[KeyringEntry]:
        return self._unchanged(self._index.live(*entry_name(ref)))

    def _unchanged(self, entries: Iterable[KeyringEntry]) -> list[KeyringEntry]:
        changed = {change.id for change in self._changes}
        return [entry for entry in entries if entry.id not in changed]

    def _change(self, state: EntryState, entries: Iterable[KeyringEntry], why: str = "") -> None:
        self._changes += [EntryChange(entry.id, state, why) for entry in entries]

    def _decoded(self, ref: SecretRef, entry: KeyringEntry, text: str) -> Secret:
        try:
            return Secret(base64.b64decode(text.encode(), validate=True))
        except (binascii.Error, UnicodeError):
            about = {"device": ref.device, "message_id": "secret-damaged"}
            log.error(  # noqa: TRY400  # the error shows the text
                "The secret of %s cannot be decoded; it is quarantined.", ref.device, extra=about
            )
            self._index.apply(
                [EntryChange(entry.id, EntryState.QUARANTINED, "it cannot be decoded")]
            )
            raise SecretCorrupt(
                f"the secret of attempt {ref.attempt} of {ref.device} does not open"
            ) from None

    def _complete_writes(self) -> None:
        """Find out what became of writes that a crash interrupted, if the keyring serves."""
        with suppress(StoreError):  # `_report` has logged it
            self._keyring.open()
            for entry in self._index.in_state(EntryState.INTENDED):
                if self._keyring.read(entry.service, entry.entry) is None:
                    self._index.forget(entry.id)
                else:
                    self._index.set(entry.id, EntryState.STORED)

    def _delete_marked(self) -> None:
        """Delete what is marked for it, as far as the keyring allows; the rest stays marked."""
        try:
            for entry in self._index.in_state(EntryState.DELETING, MAX_DELETIONS):
                self._keyring.remove(entry.service, entry.entry)
                self._index.forget(entry.id)
        except StoreError as error:
            log.warning("Failed to delete entries from the keyring; trying again later: %s.", error)
