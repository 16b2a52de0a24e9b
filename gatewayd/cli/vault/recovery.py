"""Recovery keys: `vault add-recovery` makes one and shows it once, `vault recover` takes it.

A new key is words to write down.  Only its public half goes to the vault, so the words cross no
D-Bus, and no daemon has them.  An operator who has a key pair already adds its public key instead.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from gatewayd.ca.keys import is_locked
from gatewayd.cli.command import MAX_PEM, Connect, read_file, read_passphrase, typed
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
OPENS_NOTHING = "The words above open nothing"

Add = Callable[[bytes], str]
"""Adds a public key, PEM, to a vault; returns the kind of its key slot.  Raises GatewayError."""


def add_options(parser: ArgumentParser) -> None:
    """Add the argument that names a public key."""
    parser.add_argument(
        "file", type=Path, nargs="?",
        help="public key of a pair of yours, PEM; - for the standard input "
        "(default: make a key, and show it once as words)",
    )  # fmt: skip


def add_key(file: Path | None, add: Add, random: Callable[[int], bytes]) -> Iterator[str]:
    """Add a recovery key; yield the lines to print.

    file: with a public key; None for a new key, in words.  They are yielded before the key is
    added: so there is no key in the vault that was not shown.
    Raises GatewayError.
    """
    if file is not None:
        yield f"Added the key slot {add(read_file(file, MAX_PEM))}."
        return
    protect_memory()
    words = recovery_words.make(random)
    yield from (SHOWN_ONCE, "", *recovery_words.lines(words), "")
    try:
        kind = add(recovery_words.public_pem(recovery_words.decode(" ".join(words))))
    except GatewayError as error:
        raise GatewayError(f"{error}. {OPENS_NOTHING}") from error
    yield from (f"Added the key slot {kind}.", HOW_TO_USE)


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
