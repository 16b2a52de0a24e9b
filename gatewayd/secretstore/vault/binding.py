"""What binds a vault to its machine, and the records to the vault, also without a TPM.

The vault has one row: the machine that it belongs to, how often it was changed, the newest count of
changes of the records that it knows of, and the key by which the records are authenticated,
encrypted with the data key.  All of it is in the associated data, so that no part can be altered or
exchanged.  The records have a count of their own, and the newest count of the vault that they know
of (storage/record_binding.py): where either file is older than the other knows, it is an old copy.
Both together can be old: only a counter in the TPM notices that (rollback.py).
"""

from __future__ import annotations

import contextlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gatewayd.runtime.sqlite import Execute
from gatewayd.secretstore.store import BindingCounts
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import DecryptionError
from gatewayd.secretstore.vault.data_keys import DataKeys, Random

MACHINE_ID = Path("/etc/machine-id")
"""machine-id(5): names an installation, and must not leave the machine as it is."""
MOUNTS = Path("/proc/self/mountinfo")
HARDWARE = "hardware"
"""The systemd credential with the id of the machine's hardware, which root alone may read."""
HARDWARE_FILES = (
    Path("/sys/class/dmi/id/product_uuid"),
    Path("/sys/firmware/devicetree/base/serial-number"),
)
"""Where the kernel shows that id: a PC's or virtual machine's, and a board's."""
_MAX_ID = 256

ALTERED = (
    "what binds the vault to this machine and to its records was changed by another program: put "
    "the newest copy back, or accept this one with gatewayctl vault accept"
)

CLONED = (
    "the vault belongs to another machine, which may use the same secrets: stop that gateway, then "
    "accept this machine with gatewayctl store accept-machine"
)

COPIED = (
    "the vault is another machine's, and so was its key.  If this machine replaces that one, run "
    "gatewayctl vault recover --accept-machine; if it was made from an image of it, stop gatewayd, "
    "and remove the vault and its key to begin with an empty one: gatewayd(8)"
)
"""What else there is to say where no key opens a copy."""


@dataclass(frozen=True, slots=True)
class VaultBinding:
    """The row.

    machine: as `machine_digest` returns it; b"" where that is not known.  changes: groups that have
    changed the vault.  records: the newest count of the records, 0 where none are bound.
    key: authenticates the records.
    """

    machine: bytes
    changes: int
    records: int
    key: bytes = field(repr=False)

    def mac(self, text: bytes) -> bytes:
        """Authenticate something that lies outside of the vault."""
        return hmac.digest(self.key, text, "sha256")

    def next(self, records: int) -> VaultBinding:
        """Return what it is with the next change.  records: the newest count that is durable."""
        return replace(self, changes=self.changes + 1, records=max(self.records, records))

    def unbound(self, random: Random) -> VaultBinding:
        """Return a binding to which any records can be bound, as an operator has decided."""
        return replace(self, records=0, key=random(crypto.KEY_SIZE))


class BoundVault:
    """The binding of a vault that is open.

    suspected: why vault and records may not belong together.  cloned: why the vault belongs to
    another machine.  noted: the newest count of the records that is durable.
    due: whether the binding is to be written with the next group, whatever else that does.
    """

    def __init__(self, query: Execute, random: Random) -> None:
        self._query, self._random = query, random
        self.suspected = self.cloned = ""
        self.noted, self.due = 0, False
        self._durable: VaultBinding | None = None
        self._present: VaultBinding | None = None
        self._next: VaultBinding | None = None

    @property
    def counts(self) -> BindingCounts | None:
        """What is on the disk; None where that is nothing yet."""
        durable = self._durable
        return BindingCounts(durable.changes, durable.records) if durable else None

    @property
    def is_behind(self) -> bool:
        """Whether the records have changed since the vault was."""
        return self._durable is not None and self.noted > self._durable.records

    def note(self, records: int) -> None:
        """Know of this count of the records; the first one is written with the next group."""
        self.noted = max(self.noted, records)
        self.due = self.due or (self._durable is not None and not self._durable.records)

    def mac(self, text: bytes) -> bytes:
        """Authenticate something that lies outside of the vault."""
        assert self._durable is not None, "`counts` was asked for before"
        return self._durable.mac(text)

    def load(self, keys: DataKeys, machine: bytes) -> None:
        """Read the binding of a vault that was opened, or make one.

        machine: of this one, as `machine_digest` returns it.
        """
        try:
            found = load(self._query, keys)
        except DecryptionError:
            self.suspected, found = ALTERED, create(machine, self._random)
        if found is None:
            self._present, self.due = create(machine, self._random), True
            return
        self._present = self._durable = found
        if not is_same_machine(found.machine, machine):
            self.cloned = CLONED
        elif len(machine) > len(found.machine):  # it says more than it did
            self._present, self.due = replace(found, machine=machine), True

    def stamp(self, keys: DataKeys, *, changed: bool) -> None:
        """Write the binding, within a group, if that changes the vault or it is due."""
        if self._present is not None and (changed or self.due):
            self._next = (self._next or self._present).next(self.noted)
            store(self._query, keys, self._next, self._random)

    def settle(self) -> None:
        """Go on with what was written: it is durable."""
        if self._next is not None:
            self._present = self._durable = self._next
            self._next, self.due = None, False

    def rollback(self) -> None:
        """Forget what was written: it is undone."""
        self._next = None

    def release(self, keys: DataKeys) -> None:
        """Write, within a group, that any records may be bound to the vault."""
        assert self._present is not None, "it is open"
        self._next = self._present.unbound(self._random).next(0)
        store(self._query, keys, self._next, self._random)

    def released(self) -> None:
        """Trust the vault again: what `release` has written is durable."""
        self.suspected, self.noted = "", 0

    def move(self, keys: DataKeys, machine: bytes) -> None:
        """Write, within a group, that the vault belongs to this machine."""
        assert self._present is not None, "it is open"
        self._next = replace(self._present, machine=machine).next(self.noted)
        store(self._query, keys, self._next, self._random)

    def moved(self) -> None:
        """Serve this machine: what `move` has written is durable."""
        self.cloned = ""


def hardware_id(credentials: Path | None, files: Sequence[Path] = HARDWARE_FILES) -> str:
    """Return the id of this machine's hardware; "" where none is known.  Blocks.

    An image of a disk has it on no other machine, as a copy has the machine-id.
    credentials: $CREDENTIALS_DIRECTORY, or None.
    """
    given = [credentials / HARDWARE] if credentials else []
    for file in [*given, *files]:
        with contextlib.suppress(OSError):
            text = file.read_bytes()[:_MAX_ID].strip(b" \t\r\n\0").decode(errors="replace")
            if text and text != "none":  # what the unit sets where there is no such file
                return text.lower()
    return ""


def is_same_machine(found: bytes, here: bytes) -> bool:
    """Whether two digests may be of one machine: they agree in what both of them know."""
    if not found or not here:
        return True
    both = min(len(found), len(here))
    return found[:both] == here[:both]


def machine_digest(path: Path, mounts: Path = MOUNTS, hardware: str = "") -> bytes:
    """Return digests of the id of this machine and of its hardware; b"" where no id lasts.

    On a read-only system without an id, systemd mounts another one at each boot over the file.
    mounts: of this process, proc_pid_mountinfo(5).  The device of the file does not show it: in an
    overlay, a file may have another than its directory.
    hardware: the id of the hardware; "" where it is not known: then there is one digest.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return b""
    if any(line.split(" ")[4:5] == [str(path)] for line in lines):
        return b""
    if not re.fullmatch("[0-9a-f]{32}", text):
        return b""  # "uninitialized", during the first boot
    key = bytes.fromhex(text)
    own = hmac.digest(key, b"gatewayd-vault-machine", "sha256")
    parts = b"gatewayd-vault-hardware\0" + hardware.encode()
    return own + (hmac.digest(key, parts, "sha256") if hardware else b"")


def is_of_another_machine(query: Execute, machine: bytes) -> bool:
    """Whether a vault without its key names another machine: nothing vouches for that name.

    machine: of this one, as `machine_digest` returns it.
    """
    rows = query("SELECT machine FROM binding")
    return any(not is_same_machine(row[0], machine) for row in rows)


def create(machine: bytes, random: Random) -> VaultBinding:
    """Return the binding of a vault that has none."""
    return VaultBinding(machine, 0, 0, random(crypto.KEY_SIZE))


def load(query: Execute, keys: DataKeys) -> VaultBinding | None:
    """Return the binding of a vault; None where it has none yet.  Raises DecryptionError."""
    rows = query("SELECT machine, changes, records, kid, nonce, ciphertext FROM binding")
    if not rows:
        return None
    if len(rows) > 1:
        raise DecryptionError
    machine, changes, records, kid, nonce, ciphertext = rows[0]
    try:
        context = _context(keys.store, kid, machine, changes, records)
    except OverflowError:  # a number that was altered to one below zero
        raise DecryptionError from None
    key = crypto.decrypt(keys.key(kid), nonce, ciphertext, context)
    return VaultBinding(machine, changes, records, key)


def store(query: Execute, keys: DataKeys, binding: VaultBinding, random: Random) -> None:
    """Write the binding, encrypted with the newest data key."""
    kid, nonce = keys.newest, random(crypto.NONCE_SIZE)
    context = _context(keys.store, kid, binding.machine, binding.changes, binding.records)
    ciphertext = crypto.encrypt(bytes(keys.key(kid)), nonce, binding.key, context)
    query("DELETE FROM binding")
    query(
        "INSERT INTO binding VALUES (?, ?, ?, ?, ?, ?)",
        binding.machine, binding.changes, binding.records, kid, nonce, ciphertext,
    )  # fmt: skip


def _context(store: bytes, kid: int, machine: bytes, changes: int, records: int) -> bytes:
    numbers = kid.to_bytes(4, "big") + changes.to_bytes(8, "big") + records.to_bytes(8, "big")
    return b"gatewayd-binding-v1\0" + store + numbers + machine
