"""Commands about a vault that no daemon uses.  For a running gateway there is store.py.

They need no running daemon, and all but add-recovery refuse to work beside one.  Export and import
move the devices of a gateway to another one: secrets and records go together, and only a recovery
key opens them.
"""

from __future__ import annotations

import os
import sqlite3
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatewayd.cli.command import (
    MAX_PEM,
    NOTHING_DONE,
    AddArguments,
    Command,
    Connect,
    action,
    add_config,
    argument,
    arguments,
    may_ask,
    read_file,
    replace_file,
    typed,
)
from gatewayd.cli.output import PROTECTION_TEXTS, when
from gatewayd.cli.output.fields import Record, flag, number, text, texts
from gatewayd.cli.output.terminal import Progress, sign_of_life
from gatewayd.cli.systemd_creds import WITH_KEY
from gatewayd.cli.vault import recovery
from gatewayd.cli.vault.first_key import make_first_key
from gatewayd.cli.vault.init import PROTECTIONS, init, recover, reseal
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.cli.vault.recovery import (
    Add,
    add_options,
    add_to_vault,
    opener_of,
    opener_options,
    typed_opener,
)
from gatewayd.config import load
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.plugins import Plugins
from gatewayd.runtime.sqlite import Database, has_schema, statements_of, upgrade
from gatewayd.secretstore.keyslots.factory import KeySlotFactory
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm.esapi import TpmError
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.admin import VaultReport
from gatewayd.secretstore.vault.export import MAX_BYTES, ImportResult, export, import_
from gatewayd.secretstore.vault.memory import protect_memory
from gatewayd.secretstore.vault.offline import finish_rotation, group
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.settings.files import ConfigPaths
from gatewayd.storage import records as statefile
from gatewayd.storage.import_staging import RECORDS, beside, finish_import, stage_records

COUNT = "SELECT count(*) FROM record"
COUNT_REGISTERED = "SELECT count(*) FROM record WHERE stored > 0"
NO_CHOICE = "No recovery key is chosen. Use --recovery FILE, or --no-recovery to do without"
QUESTION = """\
Without a recovery key, every secret in the vault is lost if this machine is lost.
File with the public key for recovery (PEM), or empty for none: """
START = "Start gatewayd: systemctl restart gatewayd."


def _vault(arguments: Namespace) -> OfflineVault:
    protect_memory()
    return OfflineVault.of(arguments.config, os.environ, opener_of(arguments))


def _chosen_recovery(arguments: Namespace) -> bytes | None:
    """Return the public key for recovery, asked for where no option chooses; None for none.

    Raises GatewayError.
    """
    if arguments.recovery is not None:
        return read_file(arguments.recovery, MAX_PEM)
    if arguments.no_recovery:
        return None
    if not may_ask(arguments):
        raise GatewayError(NO_CHOICE)
    answer = typed(input, QUESTION, NOTHING_DONE).strip()
    return read_file(Path(answer), MAX_PEM) if answer else None


def _init(arguments: Namespace) -> tuple[Sequence[str], VaultReport]:
    return init(_vault(arguments), arguments.protect, _chosen_recovery(arguments))


def _make_key(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    (made,) = _made_key(_connect, arguments)
    return list(made["Steps"])


def _made_key(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    protect_memory()
    loaded = load(ConfigPaths.of(arguments.config), Plugins.installed())
    vault = OfflineVault.within(loaded, os.environ)
    if vault is None:
        steps = [f"No key is made: the secrets are in the store {loaded.store.kind}."]
        yield {"Made": False, "Steps": steps}
        return
    existed = vault.systemd.exists(vault.settings.credential)
    steps = list(make_first_key(vault))
    made = vault.systemd.exists(vault.settings.credential) and not existed
    yield {"Made": made, "Steps": steps}


def _status(arguments: Namespace) -> tuple[Sequence[str], VaultReport]:
    vault = _vault(arguments)
    with vault.locked("store status"):
        return (), vault.report()


Act = Callable[[Namespace], tuple[Sequence[str], VaultReport]]
"""Does something with a vault; returns what was done, and a report of the vault."""


def _reporting(
    words: str, purpose: str, add_arguments: AddArguments, act: Act, last: Sequence[str] = (START,)
) -> Command:
    """Return a command that reports the state of the vault.  last: its last lines, for people."""

    def run(_connect: Connect, arguments: Namespace) -> Iterable[str]:
        done, report = act(arguments)
        return [*done, *_lines(report), *last]

    def records(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
        done, report = act(arguments)
        yield {
            "Steps": list(done), "State": report.state.value, "Explanation": report.why,
            "Protection": report.protection.value, "NSecrets": report.secrets,
            "NQuarantined": report.quarantined, "KeySlots": list(report.slots),
            "KeyId": report.generation, "KeyCreatedTimestamp": report.made * 1_000_000,
            "Rotating": report.generations > 1, "Counter": report.counter,
        }  # fmt: skip

    return Command(words, purpose, add_arguments, run, records, _REPORT)


def _lines(report: VaultReport) -> Iterable[str]:
    """Yield the state of a vault."""
    yield f"State: {report.state}"
    yield from [f"Why: {report.why}"] if report.why else []
    yield f"Secrets: {report.secrets}, and {report.quarantined} in quarantine"
    yield f"Protected: {PROTECTION_TEXTS[report.protection]}"
    yield f"Key slots: {', '.join(report.slots) or 'none'}"
    if report.generation:
        created = when(report.made * 1_000_000)
        rotating = ", rotation not finished" if report.generations > 1 else ""
        yield f"Data key: number {report.generation}, created {created}{rotating}"
    yield f"Counter in the TPM: {'yes' if report.counter else 'no'}"


def _rotate(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    vault = _vault(arguments)
    with (
        vault.locked("store rotate"), vault.opened() as opened,
        _sign("Encrypting the secrets again", arguments) as progress,
    ):  # fmt: skip
        with group(opened):
            admin.rotate(opened, arguments.drop)
        finish_rotation(opened, at=progress.at)
    return ()


def _sign(what: str, arguments: Namespace) -> AbstractContextManager[Progress]:
    return sign_of_life(what, wanted=not arguments.json)


def _reseal(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    reseal(_vault(arguments), arguments.key, arguments.protect)
    return ()


def _add_to(connect: Connect, arguments: Namespace) -> Add:
    return add_to_vault(connect, arguments.config, opener_of(arguments))


def _recover(arguments: Namespace) -> tuple[Sequence[str], VaultReport]:
    vault = _vault(arguments)
    vault = (
        vault if vault.recovery is not None else replace(vault, recovery=typed_opener(arguments))
    )
    done = recover(vault, arguments.protect, accept_machine=arguments.accept_machine)
    with vault.locked():
        return done, replace(vault, recovery=None).report()


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


def _accept_machine(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    def accept(vault: Vault) -> Iterable[str]:
        vault.accept_machine()
        return ()

    return _change(arguments, "store accept-machine", accept)


def _change(
    arguments: Namespace, instead: str, act: Callable[[Vault], Iterable[str]]
) -> Iterable[str]:
    """Do something with the vault in one group.  instead: as OfflineVault.locked takes it."""
    vault = _vault(arguments)
    with vault.locked(instead), vault.opened() as opened, group(opened):
        return act(opened)


def _boot_policy(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    vault = OfflineVault.of(arguments.config, os.environ)
    slot = KeySlotFactory(vault.settings, vault.directory, None).make("tpm2")
    assert isinstance(slot, TpmSlot), "the factory makes it for this word"
    try:
        replace_file(arguments.output, slot.boot_policy())
    except TpmError as error:
        raise GatewayError(str(error)) from error
    return ()


def _export(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    with _sign("Exporting", arguments):
        replace_file(arguments.output, export_all(_vault(arguments)))
    return ()


def _import(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    (made,) = _imported(_connect, arguments)
    damaged = made["NDamaged"]
    lost = [f"{damaged} secrets are damaged and missing."] if damaged else []
    return [f"Imported {made['NSecrets']} secrets and {made['NRecords']} records.", *lost, START]


def _imported(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    vault = OfflineVault.of(arguments.config, os.environ)
    key = opener_of(arguments)
    assert key is not None, "the parser requires it"
    with _sign("Importing", arguments) as progress:
        whole = read_file(arguments.file, MAX_BYTES)
        imported, records = import_all(vault, whole, key, progress.at)
    yield {"NSecrets": imported.secrets, "NRecords": records, "NDamaged": imported.damaged}


def export_all(vault: OfflineVault) -> bytes:
    """Return everything that another gateway needs.  Raises GatewayError."""
    with vault.locked("store export"), vault.opened() as opened:
        return export(opened, {RECORDS: _records(vault.directory), **beside(vault.directory)})


def import_all(
    vault: OfflineVault,
    whole: bytes,
    key: RecoveryKey,
    at: Callable[[int, int], object] = lambda *_: None,
) -> tuple[ImportResult, int]:
    """Import an export of another gateway; return what was imported, and the number of records.

    at: is called with the number of rows that are done, and of all.
    Raises GatewayError; then nothing has changed.
    """
    with vault.locked():
        if _count(_records(vault.directory), COUNT_REGISTERED):
            raise GatewayError(f"Registered devices exist in {vault.directory}. Import into a "
                               "gateway that has none")  # fmt: skip
        with vault.opened() as opened, group(opened):
            imported = import_(opened, whole, key, at)
            records = imported.enclosures.get(RECORDS)
            if records is None:
                raise ConfigError("The export contains no records of devices")
            count = _count(records)
            stage_records(vault.directory, records, imported.enclosures)
        finish_import(vault.directory)
        return imported, count


def _records(directory: Path) -> bytes:
    """Return the records of a gateway, as the bytes of a database file."""
    file = directory / RECORDS
    with closing(Database(file, statefile.SCHEMA, statefile.VERSION, statefile.STEPS)) as opened:
        return opened.snapshot()


def _count(records: bytes, query: str = COUNT) -> int:
    """Count records by a query.

    Raises ConfigError if a newer gatewayd wrote them, or another program.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:

        def run(sql: str, /, *values: object) -> list[Any]:
            return file.execute(sql, values).fetchall()

        try:
            file.deserialize(records)
            run("PRAGMA trusted_schema = OFF")
            found = int(run("PRAGMA user_version")[0][0])
            if found > statefile.VERSION:
                raise ConfigError("A newer gatewayd wrote the export. Install that version here")
            is_newest = found == statefile.VERSION
            known = statefile.SCHEMA if is_newest else statements_of(statefile.STEPS, found)
            # before a step reads a view in the place of a table
            if not has_schema(run, known) or run("PRAGMA integrity_check(1)") != [("ok",)]:
                raise ConfigError("The records in the export are not gatewayd's")
            upgrade(run, statefile.STEPS, found, statefile.VERSION)
            return int(run(query)[0][0])
        except (sqlite3.Error, KeyError) as error:
            raise ConfigError(f"The records in the export are damaged ({error})") from error


def _common(parser: ArgumentParser, *, required: bool = False) -> None:
    add_config(parser)
    opener_options(parser, required=required)


def _init_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--protect", choices=tuple(PROTECTIONS), default="",
        help="how to protect the key (default: from the configuration)",
    )  # fmt: skip
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--recovery", type=Path, metavar="FILE",
                        help="public key of a recovery key, PEM")  # fmt: skip
    choice.add_argument("--no-recovery", action="store_true", help="add no recovery key")
    _common(parser)


def _reseal_options(parser: ArgumentParser) -> None:
    parser.add_argument("key", help="key slot, as in the setting `key`")
    parser.add_argument("--protect", choices=WITH_KEY, default="",
                        help="encrypt the credential again, with this key")  # fmt: skip
    _common(parser)


def _recover_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--protect", choices=WITH_KEY, default="",
        help="how to protect the new key (default: the best that there is)",
    )  # fmt: skip
    parser.add_argument(
        "--accept-machine", action="store_true",
        help="let a vault of another machine, which is off for good, belong to this one",
    )  # fmt: skip
    _common(parser)


def _import_options(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="export to import; - for the standard input")
    _common(parser, required=True)


_OUTPUT = arguments(
    argument("--output", type=Path, metavar="FILE", required=True, help="write to this file"),
    _common,
)

# fmt: off
_REPORT = (
    texts("Steps", "what was done, a sentence each"), text("State", "of the vault"),
    text("Explanation", 'why it is in its state, or ""'),
    text("Protection", "what protects the key: a word, as in org.gatewayd1.SecretStore"),
    number("NSecrets", "secrets in it"),
    number("NQuarantined", "secrets without a record, kept for a while"),
    texts("KeySlots", "the kinds of its key slots"),
    number("KeyId", "number of its data key; 0 for none"),
    number("KeyCreatedTimestamp", "when that was made"),
    flag("Rotating", "whether an older data key is still needed"),
    flag("Counter", "whether a counter in the TPM guards it"),
)
_MADE = (
    flag("Made", "whether a key was made"),
    texts("Steps", "what was done, or why nothing was, a sentence each"),
)
_IMPORTED = (
    number("NSecrets", "secrets that were imported"),
    number("NRecords", "records of devices that were imported"),
    number("NDamaged", "secrets that are damaged and missing"),
)

COMMANDS: tuple[Command, ...] = (
    _reporting("vault init", "create the vault, its key, and the service's access to the key",
               _init_options, _init),
    Command("vault make-key", "make the key of a vault that has none, as the first start does",
            add_config, _make_key, _made_key, _MADE),
    _reporting("vault status", "show the state and the key slots of the vault", _common, _status,
               last=()),
    action("vault rotate", "replace the data key and encrypt every secret with the new one",
           arguments(argument("--drop", action="append", default=[], metavar="SLOT",
                              help="remove this key slot instead of reading it"), _common),
           _rotate),
    action("vault reseal", "bind the vault to a key slot again, or to another one",
           _reseal_options, _reseal),
    recovery.command("vault add-recovery", "add a recovery key, which opens the vault elsewhere",
                     arguments(add_options, _common), _add_to),
    _reporting("vault recover", "open the vault with a recovery key, and make it a new key here",
               _recover_options, _recover),
    action("vault remove-slot", "remove a key slot",
           arguments(argument("kind", help="key slot, as `vault status` shows it"), _common),
           _remove_slot),
    action("vault export", "write all secrets and records, encrypted for the recovery keys",
           _OUTPUT, _export),
    Command("vault import", "import the secrets and records that another gateway exported",
            _import_options, _import, _imported, _IMPORTED),
    action("vault accept", "accept a vault that may be an old copy", _common, _accept),
    action("vault accept-machine", "let a vault of another machine belong to this one", _common,
           _accept_machine),
    action("vault boot-policy", "write the digest to sign to let the current boot open the vault",
           _OUTPUT, _boot_policy),
)
# fmt: on
