"""The commands of gatewayctl about the secret store of a gateway that runs."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path

from gatewayd.ctl_commands import Command, Connect
from gatewayd.ctl_vault_files import read, write
from gatewayd.status.names import STORE as PLACE


def _rotate(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    connect().call("Rotate", at=PLACE)
    return ()


def _reseal(connect: Connect, arguments: Namespace) -> Iterable[str]:
    connect().call("Reseal", arguments.key, at=PLACE)
    return ()


def _add_recovery(connect: Connect, arguments: Namespace) -> Iterable[str]:
    pem = read(arguments.file).decode("ascii", "replace")
    connect().call("AddRecoveryKey", pem, at=PLACE)
    return ()


def _export(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client, opened = connect(), os.memfd_create("export", os.MFD_CLOEXEC)
    with open(opened, "rb") as file:  # noqa: PTH123  # of a descriptor
        client.call("Export", opened, at=PLACE)
        file.seek(0)
        write(arguments.output, file.read())
    return ()


def _accept(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    connect().call("AcceptRollback", at=PLACE)
    return ()


def _none(_parser: ArgumentParser) -> None:
    """Take no arguments."""


def _key(parser: ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", default="",
                        help="by what, as the setting `key` has it; as configured")  # fmt: skip


def _file(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a public key, PEM; - for the standard input")


def _output(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", required=True,
                        help="write it there")  # fmt: skip


# fmt: off
STORE: tuple[Command, ...] = (
    Command("store rotate", "change the data key, and encrypt every secret anew", _none, _rotate),
    Command("store reseal", "bind the data key anew to what protects it", _key, _reseal),
    Command("store add-recovery", "let a key that is kept elsewhere open the store too", _file,
            _add_recovery),
    Command("store export", "write all secrets and records, for the recovery keys alone", _output,
            _export),
    Command("store accept-rollback", "go on with a store that may be an old copy", _none, _accept),
)
# fmt: on
