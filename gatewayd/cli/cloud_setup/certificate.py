"""Commands about certificates that devices have already: import them with their keys, remove them.

The key goes to the daemon through a descriptor, in the clear; a passphrase never leaves this
process, and none stands in the arguments.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gatewayd.ca.bundle import Bundle
from gatewayd.cli.cloud_setup.ca import authority_of
from gatewayd.cli.cloud_setup.manifest import ImportEntry, Passphrases, read_manifest
from gatewayd.cli.command import (
    Client,
    Command,
    Connect,
    action,
    argument,
    arguments,
    may_ask,
    number,
)
from gatewayd.cli.output import safe, when
from gatewayd.cli.output.fields import Record, flag, text, texts
from gatewayd.cli.output.fields import number as number_field
from gatewayd.errors import GatewayError

_LAST_DESCRIPTOR = 1 << 20


def _entries(arguments: Namespace) -> Sequence[ImportEntry]:
    """Return what is to be imported.  Raises GatewayError."""
    single = (arguments.file, arguments.key, arguments.id, arguments.product, arguments.node_id,
              arguments.device_id)  # fmt: skip
    if arguments.manifest is not None:
        if any(single):
            raise GatewayError("A manifest names files and devices itself: leave out the others")
        return read_manifest(arguments.manifest)
    if arguments.file is None:
        raise GatewayError("Name the file with the certificate, or use --manifest FILE")
    entry = ImportEntry(
        str(arguments.file), str(arguments.key or ""), id=arguments.id, product=arguments.product,
        node_id=arguments.node_id, device_id=arguments.device_id,
    )  # fmt: skip
    for problem in entry.problems():
        raise GatewayError(problem[0].upper() + problem[1:])
    return [entry]


def _imported(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    """Yield what is public about each certificate: all are read before the first is imported."""
    passphrases = Passphrases.of(arguments, may_ask=may_ask(arguments))
    opened = [(entry, passphrases.open(entry)) for entry in _entries(arguments)]
    client = connect()
    for entry, bundle in opened:
        try:
            yield _import_one(client, entry, bundle, arguments.cloud)
        except GatewayError as error:
            if len(opened) == 1:
                raise
            raise GatewayError(
                f"{entry.shown}: {error}. Those before it are imported; correct it, and run the "
                "command again"
            ) from error


def _import_one(client: Client, entry: ImportEntry, bundle: Bundle, cloud: str) -> Record:
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(file, bundle.pem.reveal())
        os.lseek(file, 0, os.SEEK_SET)
        place = authority_of(client, entry.cloud or cloud)
        facts: Record = client.call(
            "ImportCertificate", entry.id, file, _options(client, entry), at=place
        )
    finally:
        os.close(file)
    return facts


def _options(client: Client, entry: ImportEntry) -> Mapping[str, object]:
    given = {"product": entry.product, "node-id": entry.node_id, "device-id": entry.device_id}
    return {name: client.variant(value) for name, value in given.items() if value}


def _import(connect: Connect, arguments: Namespace) -> Iterator[str]:
    for one in _imported(connect, arguments):
        name = safe(f"{one['Product']}/{one['NodeId']}")
        whose = f"{name} ({safe(one['Id'])})" if one["Id"] else f"{name}, not known here yet"
        yield f"{whose}: valid until {when(one['ExpiryTimestamp'])}, SHA-256 {one['Fingerprint']}."
        if one["Renewing"]:
            yield "  It logs in with it now. Watch it with: gatewayctl watch"
        yield from (f"  {safe(note)}" for note in one["Notes"])


def _remove(connect: Connect, arguments: Namespace) -> Sequence[str]:
    client, id_ = connect(), arguments.id
    entry = ImportEntry("", id=id_, product=arguments.product, node_id=arguments.node_id)
    for problem in entry.problems():
        raise GatewayError(problem[0].upper() + problem[1:])
    place = authority_of(client, arguments.cloud)
    client.call("RemoveCertificate", entry.id, _options(client, entry), at=place)
    return ()


def _import_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="?",
        help="certificate, and those above it, PEM; or with its key as PKCS #12",
    )  # fmt: skip
    parser.add_argument("--key", type=Path, metavar="FILE",
                        help="its private key, PEM (default: in the same file)")  # fmt: skip
    parser.add_argument("--manifest", type=Path, metavar="FILE",
                        help="import those that this file lists, TOML")  # fmt: skip
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="file with the passphrase of the key (default: ask for it)",
    )  # fmt: skip
    source.add_argument(
        "--passphrase-fd", type=number(0, _LAST_DESCRIPTOR), metavar="N",
        help="number of the open file descriptor to read it from",
    )  # fmt: skip
    source.add_argument(
        "--passphrase-credential", metavar="NAME", default="",
        help="name of the systemd credential with it",
    )  # fmt: skip
    parser.add_argument(
        "--device-id", default="", metavar="ID",
        help="device ID of a device that was created at Huawei by hand",
    )  # fmt: skip


_CLOUD = argument(
    "--cloud",
    default="",
    help="name of the cloud in the configuration (default: the only one with certificates)",
)
_WHOSE = arguments(
    argument("--id", default="", help="id of the device"),
    argument("--product", default="", help="product of the device at the cloud, in place of --id"),
    argument("--node-id", default="", metavar="NAME", help="its name there"),
)

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("certificate import", "import a certificate that a device has already, with its key",
            arguments(_CLOUD, _import_options, _WHOSE), _import, _imported,
            (text("Product", "of the device at the cloud"), text("NodeId", "its name there"),
             text("CloudDeviceId", "by which it logs in"),
             text("Id", 'id of the device; "" where it is not known here'),
             flag("Renewing", "whether it logs in with it now"),
             text("Subject", "of the certificate"), text("Issuer", "of the certificate"),
             text("Fingerprint", "SHA-256 of the certificate"),
             number_field("StartTimestamp", "from when it is valid"),
             number_field("ExpiryTimestamp", "until when it is valid"),
             texts("Notes", "what is left to do"))),
    action("certificate remove", "remove a certificate that was imported",
           arguments(_CLOUD, _WHOSE), _remove),
)
# fmt: on
