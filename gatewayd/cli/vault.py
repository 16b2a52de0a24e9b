"""The commands of gatewayctl about a vault that no gatewayd uses.

They need no running daemon, and refuse to work beside one: what one does that runs is
`gatewayctl store`.

The files that the commands about vaults read and write, and what is asked on a terminal.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gatewayd.cli.devices import Command, Connect
from gatewayd.cli.output import PROTECTIONS as PROTECTED
from gatewayd.cli.output import when
from gatewayd.cli.systemd_creds import SEALINGS
from gatewayd.cli.vault_init import PROTECTIONS, export_all, import_all, init, reseal
from gatewayd.cli.vault_offline import AtRest
from gatewayd.cloud.ca.keys import is_locked
from gatewayd.errors import GatewayError
from gatewayd.runtime.sqlite import write_private
from gatewayd.secretstore.keyslots.factory import Slots
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm.esapi import TpmError
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.admin import Report
from gatewayd.secretstore.vault.crypto import protect_memory
from gatewayd.secretstore.vault.export import MAX_BYTES
from gatewayd.secretstore.vault.offline import finish, group
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.settings.files import STANDARD

MAX_PEM = 1 << 16
NO_CHOICE = "say --recovery FILE, so that a copy can be opened elsewhere, or else --no-recovery"
QUESTION = """\
Without a recovery key, whoever loses this machine loses every secret in the vault.
File of the public key for recovery (PEM), or nothing for none: """


def read(path: Path, limit: int = MAX_PEM) -> bytes:
    """Read a file, or the standard input where it is "-".  Raises GatewayError."""
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise GatewayError(f"{path} is too large: at most {limit} bytes are read")
    return data


def write(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read: all of it, or nothing.  Raises GatewayError."""
    try:
        write_private(path, data)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def recovery_key(arguments: Namespace) -> RecoveryKey | None:
    """Return the private key that was named; None for none.  Raises GatewayError."""
    file, passphrase = arguments.recovery_key, arguments.passphrase_file
    if file is None:
        return None
    pem = read(file)
    if not is_locked(pem):
        return RecoveryKey(pem)
    if passphrase is not None:
        return RecoveryKey(pem, read(passphrase).rstrip(b"\r\n"))
    return RecoveryKey(pem, getpass.getpass("Passphrase of the recovery key: ").encode())


def chosen_recovery(arguments: Namespace) -> bytes | None:
    """Return the public key for recovery that was chosen, or asked for; None for none.

    Raises GatewayError.
    """
    if arguments.recovery is not None:
        return read(arguments.recovery)
    if arguments.no_recovery:
        return None
    if not sys.stdin.isatty():
        raise GatewayError(NO_CHOICE)
    answer = input(QUESTION).strip()
    return read(Path(answer)) if answer else None


START = "Start gatewayd: systemctl restart gatewayd."


def _init(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    done, told = init(_vault(arguments), arguments.protect, chosen_recovery(arguments))
    return [*done, *lines(told), START]


def _status(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    vault = _vault(arguments)
    with vault.locked("store status"):
        return [*lines(vault.report())]


def _rotate(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    vault = _vault(arguments)
    with vault.locked("store rotate"), vault.opened() as opened:
        with group(opened):
            admin.rotate(opened, arguments.drop)
        finish(opened)
    return ()


def _reseal(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    reseal(_vault(arguments), arguments.key, arguments.protect)
    return ()


def _add_recovery(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    pem = read(arguments.file)

    def add(vault: Vault) -> list[str]:
        return [f"The key slot {admin.add_recovery(vault, pem)} was added."]

    return _change(arguments, f"store add-recovery {arguments.file}", add)


def _remove_slot(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    def remove(vault: Vault) -> Iterable[str]:
        admin.remove_slot(vault, arguments.kind)
        return ()

    return _change(arguments, "", remove)


def _accept(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    def accept(vault: Vault) -> Iterable[str]:
        vault.accept()
        return ()

    return _change(arguments, "store accept-rollback", accept)


def _change(
    arguments: Namespace, instead: str, act: Callable[[Vault], Iterable[str]]
) -> Iterable[str]:
    vault = _vault(arguments)
    with vault.locked(instead), vault.opened() as opened, group(opened):
        return act(opened)


def _export(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    write(arguments.output, export_all(_vault(arguments)))
    return ()


def _import(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    vault = AtRest.of(arguments.config, os.environ)
    key = recovery_key(arguments)
    assert key is not None, "the parser demands it"
    told, records = import_all(vault, read(arguments.file, MAX_BYTES), key)
    lost = [f"{told.damaged} secrets were damaged, and are missing."] if told.damaged else []
    return [f"{told.secrets} secrets and {records} records were taken in.", *lost, START]


def _boot_policy(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    vault = AtRest.of(arguments.config, os.environ)
    slot = Slots(vault.settings, vault.directory, None).of("tpm2")
    assert isinstance(slot, TpmSlot), "that is its word"
    try:
        write(arguments.output, slot.boot_policy())
    except TpmError as error:
        raise GatewayError(str(error)) from error
    return ()


def _vault(arguments: Namespace) -> AtRest:
    protect_memory()
    return AtRest.of(arguments.config, os.environ, recovery_key(arguments))


def lines(told: Report) -> Iterable[str]:
    """Yield how a vault is."""
    yield f"State: {told.state}"
    yield from [f"Why: {told.why}"] if told.why else []
    yield f"Kept: {told.secrets} secrets, and {told.quarantined} aside"
    yield f"Protected: {PROTECTED[told.protection]}"
    yield f"Key slots: {', '.join(told.slots) or 'none'}"
    if told.generation:
        made = when(told.made * 1_000_000)
        goes_on = ", and the rotation goes on" if told.generations > 1 else ""
        yield f"Data key: number {told.generation}, made {made}{goes_on}"
    yield f"Counter in the TPM: {'yes' if told.counter else 'no'}"


def _common(parser: ArgumentParser, *, required: bool = False) -> None:
    parser.add_argument("--config", type=Path, default=STANDARD, help="main configuration file")
    parser.add_argument(
        "--recovery-key", type=Path, metavar="FILE", required=required,
        help="private key of recovery, PEM; opens the vault instead of its own slot",
    )  # fmt: skip
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="holds the passphrase of that key; else it is asked for",
    )  # fmt: skip


def _with(*names: str, help: str, **more: Any) -> Callable[[ArgumentParser], None]:  # noqa: A002, ANN401  # as argparse
    """Return what adds one argument, and those that are common."""

    def add(parser: ArgumentParser) -> None:
        parser.add_argument(*names, help=help, **more)
        _common(parser)

    return add


def _making(parser: ArgumentParser) -> None:
    parser.add_argument("--protect", choices=tuple(PROTECTIONS), default="",
                        help="by what the key is protected; as configured")  # fmt: skip
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--recovery", type=Path, metavar="FILE",
                        help="public key, PEM, whose private half opens the vault too")  # fmt: skip
    choice.add_argument("--no-recovery", action="store_true", help="nothing else opens it")
    _common(parser)


def _resealing(parser: ArgumentParser) -> None:
    parser.add_argument("key", help="which key slot, as the setting `key` has it")
    parser.add_argument("--protect", choices=SEALINGS, default="",
                        help="by what a credential is sealed")  # fmt: skip
    _common(parser)


def _importing(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="what was exported; - for the standard input")
    _common(parser, required=True)


# fmt: off
_OUTPUT = _with("--output", help="write it there", type=Path, metavar="FILE", required=True)

VAULT: tuple[Command, ...] = (
    Command("vault init", "make the vault, its key, and what hands the key over", _making, _init),
    Command("vault status", "tell how the vault is", _common, _status),
    Command("vault rotate", "change the data key, and encrypt every secret anew",
            _with("--drop", help="give this key slot up", action="append", default=[],
                  metavar="SLOT"), _rotate),
    Command("vault reseal", "bind the vault anew to a key slot, or to one more", _resealing,
            _reseal),
    Command("vault add-recovery", "let a key that is kept elsewhere open the vault too",
            _with("file", help="a public key, PEM; - for the standard input", type=Path),
            _add_recovery),
    Command("vault remove-slot", "take a key slot away",
            _with("kind", help="which, as `vault status` names it"), _remove_slot),
    Command("vault export", "write all secrets and records, for the recovery keys alone", _OUTPUT,
            _export),
    Command("vault import", "take in what another gateway has exported", _importing, _import),
    Command("vault accept", "go on with a vault that may be an old copy", _common, _accept),
    Command("vault boot-policy", "write what a fleet's owner signs to let this boot open the vault",
            _OUTPUT, _boot_policy),
)
# fmt: on
