"""Any keyring as the secret store: each secret is an entry of its own.

A keyring promises neither durability nor a list nor transactions.  So each write is read back,
and what was written is listed in a file of ours.  The vault promises more, and is the default.

The door to the keyring that holds the secrets: whether it is open, and the right one.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreError, StoreFull, StoreSealed
from gatewayd.secretstore.keyring import backends
from gatewayd.secretstore.keyring.backends import Entries
from gatewayd.secretstore.keyring.index import Index, Mark, Plan, Slot
from gatewayd.secretstore.store import IDLE, Condition, Conditioned, Protection, State, names, parse
from gatewayd.secretstore.vault.ballast import Reserve
from gatewayd.settings.declare import REQUIRED, setting

T = TypeVar("T")

SERVICE = "gatewayd"
"""Under this service is the witness: an entry by which the keyring is known again."""


class Door:
    """Opens the keyring before it is used.

    witness: the name and the text of the entry by which the keyring is known.
    expects: whether the keyring must have that already, or may be a new one.
    tell: called with why the keyring cannot be used, and what to do; with "" when it can.
    is_open: whether it served when it was last asked.
    Every call raises what Entries raise, and StoreSealed where it is another keyring.
    """

    def __init__(
        self,
        entries: Entries,
        witness: str,
        expects: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._entries, self._witness = entries, witness
        self._expects, self._tell = expects, tell
        self.is_open = False

    def open(self) -> None:
        """Make sure that the keyring is there, if it was not."""
        if not self.is_open:
            self._guarded(self._recognise)
            self.is_open = True
            self._tell("")

    def recognise(self) -> None:
        """Make sure that it is still the keyring we know."""
        self._guarded(self._recognise)

    def read(self, service: str, entry: str) -> str | None:
        """Return an entry; None where there is none."""
        self.open()
        return self._guarded(lambda: self._entries.read(service, entry))

    def write(self, service: str, entry: str, text: str) -> None:
        """Write an entry, and read it back."""
        self.open()
        self._guarded(lambda: self._entries.write(service, entry, text))

    def remove(self, service: str, entry: str) -> None:
        """Delete an entry, if there is one."""
        self.open()
        self._guarded(lambda: self._entries.remove(service, entry))

    def _recognise(self) -> None:
        found = self._entries.read(SERVICE, self._witness)
        if found is None and not self._expects():
            self._entries.write(SERVICE, self._witness, self._witness)
        elif found != self._witness:
            raise StoreSealed(
                f"the keyring {self._entries.name} holds nothing of this gateway's: "
                "give it the keyring back that it had"
            )

    def _guarded(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except StoreFull:
            raise
        except StoreError as error:
            self.is_open = False
            self._tell(str(error))
            raise


log = logging.getLogger(__name__)

QUARANTINE = 30 * 86_400 * 1_000_000
"""How long what was moved aside is kept, microseconds."""
PATIENCE = 10.0
"""Seconds that one call of the keyring may take: the store thread waits for it."""
SWEEP = 16
"""Entries deleted after one group, at most: each is a call of the keyring."""
_SECRET = re.compile(r"(?i).*(key|pass|secret|token)")


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """[secretstore.keyring]"""

    backend: str = setting(
        REQUIRED, "the keyring backend: the name of an entry point of keyring.backends, as "
        "SecretService, or module.Class",
    )  # fmt: skip
    properties: Mapping[str, str] = setting({}, "attributes of the backend to set, as file_path")

    def problems(self) -> Iterator[str]:
        """Say what is wrong with them as a whole."""
        if why := backends.refusal(self.backend):
            yield f"the keyring backend {self.backend} is refused: {why}: name another"
        for name in self.properties:
            if _SECRET.match(name):
                yield f"the property {name[:64]!a} looks like a secret: none belongs here"


class KeyringStore(Conditioned):
    """Implements SecretStore on the keyring backend that the settings name.

    directory: takes keyring.db, the list of what was written.
    random: returns so many unpredictable bytes.
    Where the keyring is locked or gone it is sealed, until a later call finds it open.
    Raises PluginError where there is no such backend, ConfigError and StoreError like the vault.
    """

    Settings: ClassVar[type] = KeyringSettings

    def __init__(
        self,
        settings: KeyringSettings,
        directory: Path,
        credentials: Path | None = None,  # noqa: ARG002  # every store is given them
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        backend = backends.find(settings.backend, backends.installed())
        self._index = Index(directory)
        self._reserve = Reserve(directory / "keyring.reserve")
        self._plans: list[Plan] = []
        self._marked = 0
        self._tell("it was not asked yet")
        try:
            entries = Entries(
                lambda: backends.make(backend, settings.properties), settings.backend, PATIENCE
            )
            witness = self._index.witness(random(16).hex())
            self._door = Door(entries, witness, self._index.known, self._report)
            self._settle()
        except BaseException:
            self.close()
            raise
        log.warning(
            "The keyring %s keeps the secrets: unlike the vault, it promises nothing for the case "
            "of a power cut.", settings.backend,
        )  # fmt: skip

    def begin(self) -> None:
        """Open a group."""
        self._plans.clear()
        self.mark()

    def mark(self) -> None:
        """Set the point to which `undo` goes back."""
        self._marked = len(self._plans)

    def undo(self) -> None:
        """Take back what was to be deleted or moved since `mark`; what was written stays."""
        del self._plans[self._marked :]

    def rollback(self) -> None:
        """Take back what was to be deleted or moved in this group; what was written stays."""
        self._plans.clear()
        self._index.rollback()

    def commit(self) -> None:
        """Make the group durable; what is to be deleted is deleted now, or later."""
        if self._plans:
            self._index.apply(self._plans)
            self._plans.clear()
        if self._door.is_open:
            self._sweep()

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreFull, StoreUnavailable."""
        self._door.open()
        service, username = names(ref)
        slot = self._index.intend(service, username)
        self._door.write(service, slot.entry, base64.b64encode(secret.reveal()).decode())
        self._index.set(slot.id, Mark.HELD)
        self._plan(Mark.DOOMED, self._live(ref)[1:])

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed, StoreUnavailable."""
        self._door.open()
        slots = self._live(ref)
        for slot in slots:
            if (text := self._door.read(slot.service, slot.entry)) is not None:
                return self._decoded(ref, slot, text)
        if slots:
            self._door.recognise()  # or the whole keyring is another one
        raise SecretNotFound(f"no secret is kept for attempt {ref.attempt} of {ref.device}")

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so."""
        self._plan(Mark.DOOMED, self._live(ref))

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, that hold something, in order."""
        slots = self._unplanned(self._index.all_live(device))
        return sorted({ref for s in slots if (ref := parse(s.service, s.username)) is not None})

    def quarantine(self, ref: SecretRef) -> None:
        """Move a slot aside that nobody knows: it is as if empty, and can still be rescued."""
        self._plan(Mark.ASIDE, self._live(ref), "nobody knows it")

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch."""
        self._index.age(now, QUARANTINE)

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreFull."""
        self._door.open()
        self._reserve.fill()

    def make_room(self) -> bool:
        """Give up what was kept in reserve for a full disk; False if there is nothing."""
        return self._reserve.free()

    def tend(self, now: float) -> float:  # noqa: ARG002  # it is a matter of the keyring alone
        """Try a keyring that was locked or gone again; return the seconds until the next try."""
        if not self._door.is_open:
            self._settle()
        return IDLE

    def close(self) -> None:
        """Release the disk.  Closing twice is fine."""
        self._tell("the keyring is closed")
        self._index.close()

    def _report(self, why: str) -> None:
        """Take note of why the keyring cannot be used, and log it where that is new."""
        if why and why != self.why:
            about = {"message_id": "store-sealed"}
            log.error("The keyring is sealed: %s.", why, extra=about)
        self._tell(why)

    def _tell(self, why: str) -> None:
        """Take note of why the keyring cannot be used; "" where it can."""
        self._condition = (
            Condition(State.SEALED, Protection.NONE, why)
            if why
            else Condition(State.UNSEALED, Protection.KEYRING)
        )

    def _live(self, ref: SecretRef) -> list[Slot]:
        return self._unplanned(self._index.live(*names(ref)))

    def _unplanned(self, slots: Iterable[Slot]) -> list[Slot]:
        planned = {plan.id for plan in self._plans}
        return [slot for slot in slots if slot.id not in planned]

    def _plan(self, mark: Mark, slots: Iterable[Slot], why: str = "") -> None:
        self._plans += [Plan(slot.id, mark, why) for slot in slots]

    def _decoded(self, ref: SecretRef, slot: Slot, text: str) -> Secret:
        try:
            return Secret(base64.b64decode(text.encode(), validate=True))
        except (binascii.Error, UnicodeError):
            about = {"device": ref.device, "message_id": "secret-damaged"}
            log.error("A secret is not readable; it is moved aside.", extra=about)  # noqa: TRY400  # its text would tell
            self._index.apply([Plan(slot.id, Mark.ASIDE, "it does not open")])
            raise SecretCorrupt(
                f"the secret of attempt {ref.attempt} of {ref.device} does not open"
            ) from None

    def _settle(self) -> None:
        """Find out what became of writes that a crash interrupted, if the keyring can be asked."""
        with suppress(StoreError):  # the door has told it
            self._door.open()
            for slot in self._index.marked(Mark.INTENDED):
                if self._door.read(slot.service, slot.entry) is None:
                    self._index.forget(slot.id)
                else:
                    self._index.set(slot.id, Mark.HELD)

    def _sweep(self) -> None:
        """Delete what is doomed, as far as the keyring lets us; the rest stays on the list."""
        try:
            for slot in self._index.marked(Mark.DOOMED, SWEEP):
                self._door.remove(slot.service, slot.entry)
                self._index.forget(slot.id)
        except StoreError as error:
            log.warning("What is to be deleted from the keyring is deleted later: %s.", error)
