"""`gatewayctl door`: who may use gatewayd's own message broker, the door for children without one.

A password reaches this process through a file descriptor, and leaves it once: to a file that only
its owner can read, or to the standard output.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

from gatewayd.cli.command import (
    MAX_PEM,
    Client,
    Command,
    Connect,
    add_id,
    argument,
    arguments,
    call,
    no_arguments,
    number,
    read_file,
    replace_file,
)
from gatewayd.cli.output import columns, safe
from gatewayd.dbus.names import OWN_BROKER


def _password(connect: Connect, arguments: Namespace) -> Iterable[str]:
    def make(client: Client, target: int) -> None:
        client.call("SetPassword", arguments.id, target, at=OWN_BROKER)

    return _secret(connect, arguments.output, make)


def _program(connect: Connect, arguments: Namespace) -> Iterable[str]:
    def make(client: Client, target: int) -> None:
        client.call("AddProgram", arguments.name, arguments.children, target, at=OWN_BROKER)

    return _secret(connect, arguments.output, make)


def _secret(
    connect: Connect, output: Path | None, make: Callable[[Client, int], None]
) -> Iterable[str]:
    """Have a password made; write it to a file, or return the line to print."""
    client, opened = connect(), os.memfd_create("password", os.MFD_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        make(client, opened)
        file.seek(0)
        password = file.read(MAX_PEM).rstrip(b"\n")
    if output is None:
        return [password.decode("ascii")]
    replace_file(output, password)
    return []


def _certificate(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    pem = read_file(arguments.csr, MAX_PEM).decode("ascii", "replace")
    options = {"days": client.variant(arguments.days)} if arguments.days else {}
    chain: str = client.call("IssueCertificate", arguments.id, pem, options, at=OWN_BROKER)
    return chain.splitlines()


def _authority(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    certificate: str = connect().call("GetAuthority", at=OWN_BROKER)
    return certificate.splitlines()


def _list(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    rows = [
        (safe(name), safe(kind), ", ".join(map(safe, ways)) or "-", ", ".join(map(safe, children)))
        for name, kind, ways, children in connect().call("ListUsers", at=OWN_BROKER)
    ]
    return columns(("USER", "KIND", "LOGS IN BY", "SPEAKS FOR"), rows)


_output = argument(
    "--output", type=Path, metavar="FILE",
    help="write the password to this file, for its owner alone (default: print it)",
)  # fmt: skip

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("door list", "list who may use gatewayd's own broker, and how", no_arguments, _list),
    Command("door password", "make a password by which a child logs in, in place of any other",
            arguments(add_id, _output), _password),
    Command("door certificate", "issue a certificate by which a child logs in",
            arguments(
                add_id,
                argument("--csr", type=Path, metavar="FILE", required=True,
                         help="request, PKCS #10 as PEM; - for the standard input"),
                argument("--days", type=number(1, 3650), help="its validity (default: 365)"),
            ),
            _certificate),
    Command("door program", "let a program of this machine speak for children",
            arguments(
                argument("name", help="user name of the program"),
                argument("--children", nargs="+", metavar="ID", required=True,
                         help="ids of the children that it speaks for"),
                _output,
            ),
            _program),
    Command("door revoke", "take the password and the certificates of a child or a program",
            argument("name", help="user name of the program, or id of the child"),
            call("Revoke", "name", at=OWN_BROKER)),
    Command("door authority", "print the certificate of the CA that children trust the broker by",
            no_arguments, _authority),
)
# fmt: on
