"""`gatewayctl door`: who may use gatewayd's own message broker, the door for children without one.

A password reaches this process through a file descriptor, and leaves it once: to a file that only
its owner can read, or to the standard output.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gatewayd.cli.command import (
    MAX_PEM,
    Client,
    Command,
    Connect,
    ReturnRecords,
    Run,
    action,
    add_id,
    argument,
    arguments,
    call,
    no_arguments,
    number,
    pem,
    read_file,
    received,
    replace_file,
)
from gatewayd.cli.output.fields import PEM, Record, maybe, text, texts
from gatewayd.cli.output.terminal import Terminal
from gatewayd.dbus.names import OWN_BROKER


def _password(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    def make(client: Client, target: int) -> None:
        client.call("SetPassword", arguments.id, target, at=OWN_BROKER)

    yield _secret(connect, arguments.output, make)


def _program(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    def make(client: Client, target: int) -> None:
        client.call("AddProgram", arguments.name, arguments.children, target, at=OWN_BROKER)

    yield _secret(connect, arguments.output, make)


def _secret(connect: Connect, output: Path | None, make: Callable[[Client, int], None]) -> Record:
    """Have a password made; write it to a file, or return it."""
    password = received(connect, make, MAX_PEM).rstrip(b"\n")
    if output is None:
        return {"Password": password.decode("ascii")}
    replace_file(output, password)
    return {"File": str(output)}


def _shown(records: ReturnRecords) -> Run:
    """Return what prints the password that a command has made, if it was not written to a file."""

    def run(connect: Connect, arguments: Namespace) -> Iterable[str]:
        return [str(one["Password"]) for one in records(connect, arguments) if "Password" in one]

    return run


def _certificate(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    csr = read_file(arguments.csr, MAX_PEM).decode("ascii", "replace")
    options = {"days": client.variant(arguments.days)} if arguments.days else {}
    chain: str = client.call("IssueCertificate", arguments.id, csr, options, at=OWN_BROKER)
    return chain.splitlines()


def _authority(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    certificate: str = connect().call("GetAuthority", at=OWN_BROKER)
    return certificate.splitlines()


def _listed(connect: Connect, _arguments: Namespace) -> Iterator[Record]:
    for user in connect().call("ListUsers", at=OWN_BROKER):
        yield dict(zip(USER, user, strict=True))


def _list(connect: Connect, arguments: Namespace) -> Iterable[str]:
    rows = [
        (one["User"], one["Kind"], ", ".join(one["Ways"]) or "-", ", ".join(one["Children"]))
        for one in _listed(connect, arguments)
    ]
    terminal: Terminal = arguments.terminal
    return terminal.columns(("USER", "KIND", "LOGS IN BY", "SPEAKS FOR"), rows)


USER = ("User", "Kind", "Ways", "Children")
_SECRET = maybe(text("Password", "the password, shown once"),
                text("File", "the file that it was written to"))  # fmt: skip
_LOST = "The password was made and not shown: run the command again for another one"
_output = argument(
    "--output", type=Path, metavar="FILE",
    help="write the password to this file, for its owner alone (default: print it)",
)  # fmt: skip

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("door list", "list who may use gatewayd's own broker, and how", no_arguments, _list,
            _listed,
            (text("User", "its name there, or the id of the child"),
             text("Kind", '"child" or "program"'), texts("Ways", "how it logs in"),
             texts("Children", "whom it speaks for"))),
    Command("door password", "make a password by which a child logs in, in place of any other",
            arguments(add_id, _output), _shown(_password), _password, _SECRET, unshown=_LOST),
    Command("door certificate", "issue a certificate by which a child logs in",
            arguments(
                add_id,
                argument("--csr", type=Path, metavar="FILE", required=True,
                         help="request, PKCS #10 as PEM; - for the standard input"),
                argument("--days", type=number(1, 3650), help="its validity (default: 365)"),
            ),
            _certificate, pem(_certificate), PEM),
    Command("door program", "let a program of this machine speak for children",
            arguments(
                argument("name", help="user name of the program"),
                argument("--children", nargs="+", metavar="ID", required=True,
                         help="ids of the children that it speaks for"),
                _output,
            ),
            _shown(_program), _program, _SECRET, unshown=_LOST),
    action("door revoke", "take the password and the certificates of a child or a program",
           argument("name", help="user name of the program, or id of the child"),
           call("Revoke", "name", at=OWN_BROKER)),
    Command("door authority", "print the certificate of the CA that children trust the broker by",
            no_arguments, _authority, pem(_authority), PEM),
)
# fmt: on
