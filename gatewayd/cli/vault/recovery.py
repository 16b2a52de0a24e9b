"""Recovery keys: `vault add-recovery` makes one and shows it once, `vault recover` takes it.

A new key is words to write down.  Only its public half goes to the vault, so the words cross no
D-Bus, and no daemon has them.  An operator who has a key pair already adds its public key instead.

Words are shown when their key slot is durable: what is written down opens the vault.  Where it is
not known whether it is, as after Ctrl-C or a reply that never came, they are shown with that.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gatewayd.ca.keys import is_locked
from gatewayd.cli.client import BusRefusal
from gatewayd.cli.command import (
    MAX_PEM,
    AddArguments,
    Command,
    CommandFailed,
    Connect,
    read_file,
    read_passphrase,
    typed,
)
from gatewayd.cli.output.fields import JsonField, Record, flag, maybe, text
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.dbus.names import STORE
from gatewayd.errors import GatewayError, StoreUnavailable
from gatewayd.secretstore.keyslots import recovery, recovery_words
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.memory import protect_memory
from gatewayd.secretstore.vault.offline import group

SHOWN_ONCE = (
    "This is the recovery key.  Write it down, and keep it away from this machine: it opens the "
    "vault where the machine is lost, and it is not shown again."
)
HOW_TO_USE = "Where the vault does not open any more, run gatewayctl vault recover, and type it."
NOT_KNOWN = (
    "It is not known whether this key slot was added: {why}.  See whether gatewayctl store status, "
    "or vault status where gatewayd is stopped, has it; if not, the words open nothing."
)
LOST = (
    "The recovery key was added and could not be shown, so nothing opens its slot.  Stop gatewayd, "
    "and remove the newest slot that gatewayctl vault status shows, by gatewayctl vault remove-slot"
)
FIELDS: Sequence[JsonField] = (
    text("Slot", "the kind of the key slot"),
    flag("Added", "false where it is not known whether it was added; an error follows"),
    *maybe(text("Words", "without FILE: the new recovery key, shown once")),
)
"""Of an added key."""

Add = Callable[[bytes], str]
"""Adds a public key, PEM, to a vault; returns the kind of its key slot.  Raises GatewayError."""


def add_options(parser: ArgumentParser) -> None:
    """Add the argument that names a public key."""
    parser.add_argument(
        "file", type=Path, nargs="?",
        help="public key of a pair of yours, PEM; - for the standard input "
        "(default: make a key, and show it once as words)",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AddedKey:
    """A recovery key that was added.

    slot: its kind.  words: to be shown once; () for a key of the operator's own.
    doubt: why it is not known whether it was added, as the error it came by; None where it was.
    """

    slot: str
    words: Sequence[str] = ()
    doubt: BusRefusal | KeyboardInterrupt | None = None

    @property
    def why(self) -> str:
        """Why it is not known, without a full stop."""
        return "the command was interrupted" if self._interrupted else str(self.doubt).rstrip(".")

    @property
    def _interrupted(self) -> bool:
        return isinstance(self.doubt, KeyboardInterrupt)

    def lines(self) -> Iterator[str]:
        """Yield what to print: all of it at once, so that no part is shown alone."""
        if not self.words:
            yield f"Added the key slot {self.slot}."
            return
        known = (f"Added the key slot {self.slot}.", HOW_TO_USE) if self.doubt is None else ()
        yield "\n".join((SHOWN_ONCE, "", *recovery_words.lines(self.words), "", *known))
        self.check()

    def record(self) -> Iterator[Record]:
        """Yield the same for --json."""
        words = {"Words": " ".join(self.words)} if self.words else {}
        yield {"Slot": self.slot, "Added": self.doubt is None, **words}
        self.check()

    def check(self) -> None:
        """Raise CommandFailed where it is not known whether the key was added."""
        if self.doubt is not None:
            raise CommandFailed(NOT_KNOWN.format(why=self.why))


def add_key(file: Path | None, add: Add, random: Callable[[int], bytes]) -> AddedKey:
    """Add a recovery key.

    file: with a public key; None for a new key, in words.
    Raises GatewayError; then there is no such key slot.
    """
    if file is not None:
        return AddedKey(add(read_file(file, MAX_PEM)))
    protect_memory()
    words = recovery_words.make(random)
    pem = recovery_words.public_pem(recovery_words.decode(" ".join(words)))
    try:
        return AddedKey(add(pem), words)
    except (BusRefusal, KeyboardInterrupt) as error:
        if isinstance(error, BusRefusal) and not error.in_doubt:
            raise
        return AddedKey(recovery.slot_kind(recovery.read_public(pem)), words, error)


AddTo = Callable[[Connect, Namespace], Add]
"""Returns what adds a key, by the arguments of a command."""


def command(words: str, purpose: str, add_arguments: AddArguments, add_to: AddTo) -> Command:
    """Return the command that adds a recovery key."""

    def added(connect: Connect, arguments: Namespace) -> AddedKey:
        return add_key(arguments.file, add_to(connect, arguments), os.urandom)

    return Command(
        words, purpose, add_arguments,
        lambda connect, arguments: added(connect, arguments).lines(),
        lambda connect, arguments: added(connect, arguments).record(),
        FIELDS, unshown=LOST,
    )  # fmt: skip


def add_by_daemon(connect: Connect) -> Add:
    """Return what has the daemon add a key."""

    def add(pem: bytes) -> str:
        kind = recovery.slot_kind(recovery.read_public(pem))
        connect().call("AddRecoveryKey", pem.decode("ascii", "replace"), at=STORE)
        return kind

    return add


def add_to_vault(connect: Connect, config: Path, opener: RecoveryKey | None) -> Add:
    """Return what adds a key to the vault of a configuration, by the daemon where one runs.

    opener: opens the vault instead of its own key slot; None for that.
    """

    def add(pem: bytes) -> str:
        vault = OfflineVault.of(config, os.environ, opener)
        with ExitStack() as stack:
            try:
                stack.enter_context(vault.locked("store add-recovery"))
            except StoreUnavailable as in_use:  # or another user's, whom the daemon may let
                return _by_daemon_instead(connect, pem, in_use)
            opened = stack.enter_context(vault.opened())
            stack.enter_context(group(opened))
            return admin.add_recovery(opened, pem)

    return add


def _by_daemon_instead(connect: Connect, pem: bytes, in_use: StoreUnavailable) -> str:
    """Have the daemon add a key, as it holds the vault; where none runs, another process does."""
    try:
        return add_by_daemon(connect)(pem)
    except GatewayError as error:
        if "not running" in str(error):
            raise in_use from None
        raise


def opener_options(parser: ArgumentParser, *, required: bool = False) -> None:
    """Add the options that name a recovery key which opens the vault."""
    parser.add_argument(
        "--recovery-key", type=Path, metavar="FILE", required=required,
        help="a recovery key, its private key as PEM or its words; opens the vault instead of its "
        "own key slot",
    )  # fmt: skip
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="file with the passphrase of that key (default: ask for it)",
    )  # fmt: skip


def opener_of(arguments: Namespace) -> RecoveryKey | None:
    """Return the key of --recovery-key; None for none.  Raises GatewayError."""
    if arguments.recovery_key is None:
        return None
    data = read_file(arguments.recovery_key, MAX_PEM)
    if recovery_words.is_words(data):
        return key_of(data.decode("ascii", "replace"))
    if not is_locked(data):
        return RecoveryKey(data)
    return RecoveryKey(data, read_passphrase(arguments, "the recovery key"))


def typed_opener(arguments: Namespace) -> RecoveryKey:
    """Return the key whose words are typed, or are on the standard input.  Raises GatewayError."""
    if arguments.json and sys.stdin.isatty():
        raise GatewayError("The words are missing. Use --recovery-key FILE, or the standard input")
    if not sys.stdin.isatty():
        return key_of(sys.stdin.read(recovery_words.MAX_TEXT))
    ask = partial(typed, getpass.getpass, undone="No recovery key was given")
    return key_of(" ".join(ask_words(ask, print)))


def ask_words(ask: Callable[[str], str], say: Callable[[str], object]) -> Iterable[str]:
    """Ask for the words of a recovery key; each is checked at once, and asked for again.

    ask: shows a prompt and returns one or more words.  say: shows what is wrong with one.
    """
    words: list[str] = []
    while len(words) < recovery_words.WORDS:
        answer = ask(f"Word {len(words) + 1} of {recovery_words.WORDS}: ")
        for word in recovery_words.split(answer):
            if fault := recovery_words.fault_of(len(words), word):
                say(fault)
                break
            words.append(word)
    return words


def key_of(words: str) -> RecoveryKey:
    """Return the key in these words.  Raises ConfigError."""
    return RecoveryKey(recovery_words.private_pem(recovery_words.decode(words)))
