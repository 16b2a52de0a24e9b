"""Commands about the device CA of a cloud: create, import, show and use it.

Certificates go to the standard output, as PEM.  The CA's key stays in the daemon's secret store.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gatewayd.ca.certificates import request
from gatewayd.ca.keys import ALGORITHMS, is_locked, key_pem, make_key, unlock
from gatewayd.cli.client import BusRefusal
from gatewayd.cli.command import (
    MAX_PEM,
    AddArguments,
    Client,
    Command,
    Connect,
    action,
    argument,
    arguments,
    no_arguments,
    pem,
    read_file,
    read_passphrase,
    write_file,
)
from gatewayd.cli.output import properties
from gatewayd.cli.output.fields import PEM, Record, flag, maybe, number, text
from gatewayd.dbus.glib import Variant
from gatewayd.dbus.names import AUTHORITY as INTERFACE
from gatewayd.dbus.names import GATEWAY, ObjectInterface, provider_path
from gatewayd.errors import GatewayError

_ISSUE_OPTIONS = ("product", "node-id", "days")
_NOT_THERE = ("UnknownInterface", "UnknownMethod", "UnknownObject")
"""How the name of the error ends where an object has no such interface."""
_SUBJECT = ("common-name", "organization", "organizational-unit", "state", "country")


def authority_of(client: Client, named: str) -> ObjectInterface:
    """Return the CA of a cloud; where none is named, of the only one.  Raises GatewayError."""
    if named:
        return _at(named)
    clouds = list(client.properties(GATEWAY)["Providers"])
    found = clouds if len(clouds) == 1 else [one for one in clouds if _has_ca(client, one)]
    if not found:
        raise GatewayError(
            "No cloud has a device CA: children of none authenticate with certificates. See "
            "gatewayd.toml(5)"
        )
    if len(found) > 1:
        raise GatewayError(f"Several clouds have a device CA. Use --cloud: {', '.join(found)}")
    return _at(found[0])


def _has_ca(client: Client, cloud: str) -> bool:
    try:
        client.call("Show", at=_at(cloud))
    except BusRefusal as error:
        if not error.name.endswith(_NOT_THERE):
            raise
        return False
    return True


def _at(cloud: str) -> ObjectInterface:
    return ObjectInterface(provider_path(cloud), INTERFACE)


def _call(connect: Connect, arguments: Namespace, method: str, *values: object) -> Any:  # noqa: ANN401  # the signature decides
    client = connect()
    return client.call(method, *values, at=authority_of(client, arguments.cloud))


def _options(arguments: Namespace, names: Iterable[str]) -> Mapping[str, Variant]:
    """Return the options that were given, as D-Bus variants."""
    given = {name: getattr(arguments, name.replace("-", "_")) for name in names}
    kinds = {str: "s", int: "u", bool: "b"}
    return {name: Variant(kinds[type(one)], one) for name, one in given.items() if one is not None}


def _make(connect: Connect, arguments: Namespace) -> Iterable[str]:
    options = _options(arguments, (*_SUBJECT, "algorithm", "days", "replace"))
    return _lines(_call(connect, arguments, "Make", options))


def _import(connect: Connect, arguments: Namespace) -> Iterable[str]:
    data = read_file(arguments.file, MAX_PEM)
    if is_locked(data):
        data = unlock(data, read_passphrase(arguments, "the CA's key"))
    file = os.memfd_create("ca", os.MFD_CLOEXEC)
    try:
        os.write(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        return _lines(_call(connect, arguments, "Import", file))
    finally:
        os.close(file)


def _prove(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return _lines(_call(connect, arguments, "Prove", arguments.code))


def _issue(connect: Connect, arguments: Namespace) -> Iterable[str]:
    if arguments.new_key:
        key = make_key(arguments.algorithm)
        write_file(arguments.new_key, key_pem(key))
        csr = request(key)
    else:
        csr = read_file(arguments.request, MAX_PEM)
    wanted, options = csr.decode("ascii", "replace"), _options(arguments, _ISSUE_OPTIONS)
    return _lines(_call(connect, arguments, "Issue", arguments.device, wanted, options))


def _shown(connect: Connect, arguments: Namespace) -> Iterable[Record]:
    return [_call(connect, arguments, "Show")]


def _show(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return properties(_call(connect, arguments, "Show"))


def _renew(connect: Connect, arguments: Namespace) -> Iterable[str]:
    _call(connect, arguments, "Renew", arguments.id)
    return ()


def _revoked(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return _lines(_call(connect, arguments, "ListRevoked"))


def _revoked_lists(connect: Connect, arguments: Namespace) -> Iterable[Record]:
    return [{"Revoked": _call(connect, arguments, "ListRevoked")}]


def _lines(pem: str) -> Iterable[str]:
    return pem.splitlines()


def _make_options(parser: ArgumentParser) -> None:
    for name in _SUBJECT:
        parser.add_argument(f"--{name}", help=f"{name} in the CA's subject")
    parser.add_argument(
        "--algorithm", choices=tuple(ALGORITHMS), help="of the key (default: rsa-2048)"
    )
    parser.add_argument("--days", type=int, help="validity of the CA (default: 3650)")
    parser.add_argument(
        "--replace", action="store_true", default=None, help="succeed the existing CA, if any"
    )


def _import_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, help="private key and certificate, PEM; - for the standard input"
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="file with the passphrase of the key (default: ask for it)",
    )  # fmt: skip


def _issue_options(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--request", type=Path, metavar="FILE",
                        help="request, PKCS #10 as PEM; - for the standard input")  # fmt: skip
    source.add_argument("--new-key", type=Path, metavar="FILE",
                        help="create a key and write it to this new file")  # fmt: skip
    parser.add_argument("--algorithm", choices=tuple(ALGORITHMS), default="rsa-2048",
                        help="of the new key (default: rsa-2048)")  # fmt: skip
    parser.add_argument("--device", default="", help="id of the device for the subject")
    parser.add_argument("--product", help="product ID of the device for the subject")
    parser.add_argument("--node-id", help="node ID of that device")
    parser.add_argument(
        "--days", type=int, help="validity of the certificate (default: from the configuration)"
    )


def _cloud_and(*adders: AddArguments) -> AddArguments:
    cloud = argument(
        "--cloud",
        default="",
        help="name of the cloud in the configuration (default: the only one with a device CA)",
    )
    return arguments(cloud, *adders)


_CA = (
    text("Explanation", 'why there is none, or what is wrong with it; "" for nothing'),
    text("Remedy", "where there is none: what to do"), text("Subject", "of the CA"),
    text("Certificate", "of the CA, as PEM"), text("Fingerprint", "SHA-256 of the certificate"),
    text("Algorithm", "of its key"), number("Generation", "counts up"),
    number("StartTimestamp", "from when it is valid"),
    number("ExpiryTimestamp", "until when it is valid"),
)  # fmt: skip

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("ca make", "create the CA that issues the devices' certificates",
            _cloud_and(_make_options), _make, pem(_make), PEM),
    Command("ca import", "import a CA that was created elsewhere, and use it from now on",
            _cloud_and(_import_options), _import, pem(_import), PEM),
    Command("huawei ca prove", "print the certificate that proves possession of the CA's key",
            _cloud_and(argument("code", help="verification code that the cloud shows for the CA")),
            _prove, pem(_prove), PEM),
    Command("ca issue", "issue a certificate for a key that is not gatewayd's",
            _cloud_and(_issue_options), _issue, pem(_issue), PEM),
    Command("ca show", "show the CA's certificate data and expiry",
            _cloud_and(no_arguments), _show, _shown,
            (flag("Present", "whether there is a CA"), *maybe(*_CA))),
    Command("ca revoked", "print the lists of revoked certificates, for a broker that refuses them",
            _cloud_and(no_arguments), _revoked, _revoked_lists,
            (text("Revoked", "a list for each CA that has not ended, as PEM, one after the other"),
             )),
    action("ca renew", "renew the certificate of a device before it is due",
            _cloud_and(argument("id", help="id of the device, an unambiguous prefix of it, or its "
                                           "name at the cloud")),
            _renew),
)
# fmt: on
