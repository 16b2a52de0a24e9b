"""The commands of gatewayctl about what is beside the children: clouds, the store, diagnostics.

The commands of gatewayctl about the secret store of a gateway that runs.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayd.cli import output as text
from gatewayd.cli.devices import Client, Command, Connect
from gatewayd.cli.vault import read, write
from gatewayd.dbus.interfaces import GATEWAY, PROVIDER, STORE, Place, provider_path
from gatewayd.dbus.interfaces import STORE as PLACE
from gatewayd.errors import GatewayError


def _clouds(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    client = connect()
    return text.clouds(client.properties(_cloud(name)) for name in _configured(client))


def _cloud_test(connect: Connect, arguments: Namespace) -> Iterator[str]:
    client, name = connect(), arguments.name
    configured = _configured(client)
    if name not in configured:
        known = ", ".join(configured) or "none"
        raise GatewayError(f"There is no such cloud: configured are {known}")
    client.call("Test", at=_cloud(name))
    yield f"The cloud {text.safe(name)} can be used."


def _configured(client: Client) -> list[str]:
    return list(client.properties(GATEWAY)["Providers"])


def _cloud(name: str) -> Place:
    return Place(provider_path(name), PROVIDER)


def _store(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    return text.store(connect().properties(STORE))


def _dump(connect: Connect, arguments: Namespace) -> Iterator[str]:
    with os.fdopen(connect().call("Dump"), "rb") as diagnostics:
        found = diagnostics.read()
    if arguments.output is None:
        yield found.decode("ascii", "replace")
    else:
        _write(arguments.output, found)


def _write(path: Path, found: bytes) -> None:
    """Write a file, a new one for its owner alone: names and addresses of devices are in it."""

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    try:
        with open(path, "wb", opener=create) as file:
            file.write(found)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def _none(_parser: ArgumentParser) -> None:
    """Take no arguments."""


def _name(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="the name of the cloud, as in the configuration")


def _output(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there")


OBJECTS = (
    Command("clouds", "list the clouds", _none, _clouds),
    Command("cloud test", "look whether a cloud could be used now; registers nothing", _name,
            _cloud_test),
    Command("store status", "tell how the secrets are kept", _none, _store),
    Command("dump", "print all that is known, for a report of a fault", _output, _dump),
)  # fmt: skip


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


def _key(parser: ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", default="",
                        help="by what, as the setting `key` has it; as configured")  # fmt: skip


def _file(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a public key, PEM; - for the standard input")


def _output_required(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", required=True,
                        help="write it there")  # fmt: skip


# fmt: off
STORE_COMMANDS: tuple[Command, ...] = (
    Command("store rotate", "change the data key, and encrypt every secret anew", _none, _rotate),
    Command("store reseal", "bind the data key anew to what protects it", _key, _reseal),
    Command("store add-recovery", "let a key that is kept elsewhere open the store too", _file,
            _add_recovery),
    Command("store export", "write all secrets and records, for the recovery keys alone",
            _output_required,
            _export),
    Command("store accept-rollback", "go on with a store that may be an old copy", _none, _accept),
)
# fmt: on
