"""What `gatewayctl huawei ca` does: the device CA of a cloud, made, imported, shown and used.

Certificates go to the standard output, as PEM.  The CA's key is in the daemon's secret store, and
stays there.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gatewayd.cli.devices import Command, Connect
from gatewayd.cli.output import properties
from gatewayd.cloud.ca.certificates import MAX_BYTES, request
from gatewayd.cloud.ca.keys import ALGORITHMS, is_locked, key_pem, make_key, unlock
from gatewayd.dbus.glib import Variant
from gatewayd.dbus.interfaces import AUTHORITY as INTERFACE
from gatewayd.dbus.interfaces import Place, provider_path
from gatewayd.errors import GatewayError

_NAMES = ("common-name", "organization", "organizational-unit", "state", "country")


def _ca(arguments: Namespace) -> Place:
    return Place(provider_path(arguments.cloud), INTERFACE)


def _options(arguments: Namespace, names: Iterable[str]) -> Mapping[str, Variant]:
    """Return those that were given, as D-Bus has options."""
    given = {name: getattr(arguments, name.replace("-", "_")) for name in names}
    kinds = {str: "s", int: "u", bool: "b"}
    return {name: Variant(kinds[type(one)], one) for name, one in given.items() if one is not None}


def _make(connect: Connect, arguments: Namespace) -> Iterable[str]:
    options = _options(arguments, (*_NAMES, "algorithm", "days", "replace"))
    return _lines(connect().call("Make", options, at=_ca(arguments)))


def _import(connect: Connect, arguments: Namespace) -> Iterable[str]:
    data = _read(arguments.file)
    if is_locked(data):
        data = unlock(data, _passphrase(arguments.passphrase_file))
    file = os.memfd_create("ca", os.MFD_CLOEXEC)
    try:
        os.write(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        return _lines(connect().call("Import", file, at=_ca(arguments)))
    finally:
        os.close(file)


def _prove(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return _lines(connect().call("Prove", arguments.code, at=_ca(arguments)))


def _issue(connect: Connect, arguments: Namespace) -> Iterable[str]:
    if arguments.new_key:
        key = make_key(arguments.algorithm)
        _write_private(Path(arguments.new_key), key_pem(key))
        wanted = request(key)
    else:
        wanted = _read(arguments.request)
    options = _options(arguments, ("product", "node-id", "days"))
    asked = arguments.device, wanted.decode("ascii", "replace"), options
    return _lines(connect().call("Issue", *asked, at=_ca(arguments)))


def _show(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return properties(connect().call("Show", at=_ca(arguments)))


def _renew(connect: Connect, arguments: Namespace) -> Iterable[str]:
    connect().call("Renew", arguments.id, at=_ca(arguments))
    return ()


def _lines(pem: str) -> Iterable[str]:
    return pem.splitlines()


def _read(name: str) -> bytes:
    """Read a file, or the standard input where it is "-".  Raises GatewayError."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(name).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise GatewayError(f"{name} cannot be read: {error.strerror}") from error


def _passphrase(file: str | None) -> bytes:
    if file is not None:
        return _read(file).rstrip(b"\r\n")
    return getpass.getpass("Passphrase of the CA's key: ").encode()


def _write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody else may read, and that did not exist.  Raises GatewayError."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123  # of a descriptor
            file.write(data)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def _cloud(add: Callable[[ArgumentParser], object]) -> Callable[[ArgumentParser], None]:
    """Return what adds the arguments of a command, and --cloud."""

    def both(parser: ArgumentParser) -> None:
        parser.add_argument(
            "--cloud", default="huawei", help="the cloud's name in the configuration"
        )
        add(parser)

    return both


def _making(parser: ArgumentParser) -> None:
    for name in _NAMES:
        parser.add_argument(f"--{name}", help="of the CA's subject")
    parser.add_argument("--algorithm", choices=tuple(ALGORITHMS), help="of the key; rsa-2048")
    parser.add_argument("--days", type=int, help="how long the CA is good for; 3650")
    parser.add_argument(
        "--replace", action="store_true", default=None, help="let it follow the CA there is"
    )


def _importing(parser: ArgumentParser) -> None:
    parser.add_argument("file", help="private key and certificate, PEM; - for the standard input")
    parser.add_argument(
        "--passphrase-file", help="holds the key's passphrase; else it is asked for"
    )


def _issuing(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--request", help="a request, PKCS #10 as PEM; - for the standard input")
    source.add_argument("--new-key", metavar="FILE", help="make a key, and write it there")
    parser.add_argument("--algorithm", choices=tuple(ALGORITHMS), default="rsa-2048",
                        help="of the new key")  # fmt: skip
    parser.add_argument("--device", default="", help="the child whose subject it gets")
    parser.add_argument("--product", help="product ID of the device whose subject it gets")
    parser.add_argument("--node-id", help="node ID of that device")
    parser.add_argument("--days", type=int, help="how long it is good for; as configured")


def _proving(parser: ArgumentParser) -> None:
    parser.add_argument("code", help="the verification code that the cloud shows for the CA")


def _renewing(parser: ArgumentParser) -> None:
    parser.add_argument("id", help="an id, a beginning of one, or its name in the cloud")


def _nothing(_parser: ArgumentParser) -> None:
    """Take no arguments."""


# fmt: off
AUTHORITY: tuple[Command, ...] = (
    Command("huawei ca make", "make the CA that issues the devices' certificates",
            _cloud(_making), _make),
    Command("huawei ca import", "take a CA that was made elsewhere, from now on",
            _cloud(_importing), _import),
    Command("huawei ca prove", "prove to the cloud who has the CA's key", _cloud(_proving), _prove),
    Command("huawei ca issue", "issue a certificate for a key that is not gatewayd's",
            _cloud(_issuing), _issue),
    Command("huawei ca show", "tell what is public about the CA", _cloud(_nothing), _show),
    Command("huawei ca renew", "replace the certificate of a child before its time",
            _cloud(_renewing), _renew),
)
# fmt: on
