"""Commands about the secret store of a running gateway.  For a stopped one there is vault/."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from gatewayd.cli import output
from gatewayd.cli.command import (
    Command,
    Connect,
    action,
    argument,
    call,
    no_arguments,
    replace_file,
)
from gatewayd.cli.output.fields import Record, of_interface
from gatewayd.cli.vault import recovery
from gatewayd.dbus.names import SECRET_STORE, STORE


def _facts(connect: Connect, _arguments: Namespace) -> Iterable[Record]:
    return [connect().properties(STORE)]


def _status(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    return output.store(connect().properties(STORE))


def _export(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client, opened = connect(), os.memfd_create("export", os.MFD_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        client.call("Export", opened, at=STORE)
        file.seek(0)
        replace_file(arguments.output, file.read())
    return ()


# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("store status", "show how the secrets are stored and protected", no_arguments, _status,
            _facts, of_interface(SECRET_STORE)),
    action("store rotate", "replace the data key and encrypt every secret with the new one",
            no_arguments, call("Rotate", at=STORE)),
    action("store reseal", "bind the data key to its key slot again, or to another one",
            argument("key", nargs="?", default="",
                     help="key slot, as in the setting `key` (default: from the configuration)"),
            call("Reseal", "key", at=STORE)),
    recovery.command("store add-recovery", "add a recovery key, which opens the store elsewhere",
                     recovery.add_options, lambda connect, _: recovery.add_by_daemon(connect)),
    action("store export", "write all secrets and records, encrypted for the recovery keys",
            argument("--output", type=Path, metavar="FILE", required=True,
                     help="write them to this file"),
            _export),
    action("store accept-rollback", "accept a store that may be an old copy", no_arguments,
            call("AcceptRollback", at=STORE)),
    action("store accept-machine", "let a store of another machine belong to this one",
            no_arguments, call("AcceptMachine", at=STORE)),
)
# fmt: on
