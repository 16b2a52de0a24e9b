"""What a command of gatewayctl is, and what commands share: arguments, files and passphrases.

Each module of commands declares them in its table COMMANDS, which main.py gathers.  A command gets
a function that opens the connection to the daemon, so one that needs no daemon needs no bus.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gatewayd.cli.output import DeviceRow, safe
from gatewayd.cli.output.fields import DONE, JsonField, Record
from gatewayd.dbus.names import GATEWAY, ObjectInterface
from gatewayd.errors import GatewayError
from gatewayd.runtime.private_files import write_private
from gatewayd.settings.files import STANDARD


class Client(Protocol):
    """The daemon, as seen over D-Bus."""

    def call(self, method: str, *arguments: object, at: ObjectInterface = GATEWAY) -> Any:  # noqa: ANN401  # the signature decides
        """Call a method and return what it returns: None, one value, or a tuple.

        A file descriptor is passed as a number and stays the caller's; the caller closes one that
        is returned.  Raises GatewayError.
        """

    def properties(self, place: ObjectInterface) -> Mapping[str, Any]:
        """Return the properties of an interface of an object.  Raises GatewayError."""

    def changes(self) -> Iterator[tuple[list[DeviceRow], list[str]]]:
        """Yield changed rows and removed ids, for ever; none of them at least once a second.

        Raises GatewayError.
        """

    def variant(self, value: str | int) -> object:
        """Return a string, or a number as u, as a D-Bus variant."""

    def timestamp(self, value: int) -> object:
        """Return microseconds since the epoch as a D-Bus variant."""


MAX_PEM = 1 << 16
"""The limit in bytes of a file with a key, a certificate, a request or a passphrase."""

Connect = Callable[[], Client]
Run = Callable[[Connect, Namespace], Iterable[str] | int]
ReturnRecords = Callable[[Connect, Namespace], Iterable[Record]]
AddArguments = Callable[[ArgumentParser], object]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of gatewayctl.

    words: "list", or "rules check" for a command in a group.
    add_arguments: adds the command's own arguments to its parser.
    run: executes it and yields the lines to print; or prints by itself and returns the exit status.
        Raises GatewayError.  Its arguments have `terminal`, how to print, and `json`, whether
        nothing may be asked.
    records: executes it for --json, and yields the objects to print.  Raises GatewayError, also
        where it would have returned another exit status than 0.
    fields: of these objects.
    unshown: what has happened where what it prints could not be printed, and what to do, without a
        full stop; "" where nothing is lost with that.
    """

    words: str
    help: str
    add_arguments: AddArguments
    run: Run
    records: ReturnRecords
    fields: Sequence[JsonField]
    unshown: str = ""


class CommandFailed(GatewayError):
    """What the command was to check is not as it should be; what it printed says why."""


def no_arguments(_parser: ArgumentParser) -> None:
    """Add no arguments."""


def add_id(parser: ArgumentParser) -> None:
    """Add the argument that names a device."""
    parser.add_argument(
        "id", help='id of the device, an unambiguous prefix of it, or "product/name" at the cloud'
    )


def add_config(parser: ArgumentParser) -> None:
    """Add the option that names the main configuration file."""
    parser.add_argument(
        "--config", type=Path, default=STANDARD, metavar="FILE",
        help=f"main configuration file (default: {STANDARD})",
    )  # fmt: skip


def argument(*names: str, **more: Any) -> AddArguments:  # noqa: ANN401  # argparse takes values of many types
    """Return what adds one argument; the parameters are those of ArgumentParser.add_argument."""
    return lambda parser: parser.add_argument(*names, **more)


def arguments(*adders: AddArguments) -> AddArguments:
    """Return what adds the arguments of several functions, in this order."""

    def add(parser: ArgumentParser) -> None:
        for adder in adders:
            adder(parser)

    return add


def number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of a number between two bounds, inclusive.  It raises ArgumentTypeError."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise ArgumentTypeError(f"must be a number from {low} to {high}")
        return int(text)

    return parse


def call(method: str, *names: str, at: ObjectInterface = GATEWAY) -> Run:
    """Return a command's `run` that calls a D-Bus method and prints nothing.

    names: of the command's arguments, in the order of the method's.
    """

    def run(connect: Connect, arguments: Namespace) -> Iterable[str]:
        connect().call(method, *(getattr(arguments, name) for name in names), at=at)
        return ()

    return run


def received(connect: Connect, make: Callable[[Client, int], None], limit: int) -> bytes:
    """Return what a method of the daemon writes to a descriptor: a secret crosses no bus.

    make: calls the method, with the descriptor.  limit: in bytes.
    """
    client, opened = connect(), os.memfd_create("received", os.MFD_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        make(client, opened)
        file.seek(0)
        return file.read(limit)


def action(words: str, purpose: str, add_arguments: AddArguments, run: Run) -> Command:
    """Return a command that returns nothing: --json prints that it is done."""

    def records(connect: Connect, arguments: Namespace) -> Iterable[Record]:
        for _ in _lines(run(connect, arguments)):
            pass  # a generator is done when it has ended
        return [{"Done": True}]

    return Command(words, purpose, add_arguments, run, records, DONE)


def pem(command: Run) -> ReturnRecords:
    """Return the `records` of a command that returns the lines of certificates."""

    def records(connect: Connect, arguments: Namespace) -> Iterable[Record]:
        return [{"Certificates": "\n".join((*_lines(command(connect, arguments)), ""))}]

    return records


def _lines(result: Iterable[str] | int) -> Iterable[str]:
    return () if isinstance(result, int) else result


NOTHING_DONE = "Nothing was done"


def confirm(arguments: Namespace, consequences: Sequence[str], question: str) -> None:
    """Return if the operator wants what has these consequences: by --yes, or by an answer.

    Raises GatewayError where nothing can be asked, or the answer is no.
    """
    if not consequences or arguments.yes:
        return
    text = " ".join(map(safe, consequences))
    if not may_ask(arguments):
        raise GatewayError(f"{text} Use --yes to do it all the same")
    answer = typed(input, f"{text} {question} [y/N] ", NOTHING_DONE)
    if answer.strip().lower() not in ("y", "yes"):
        raise GatewayError(NOTHING_DONE)


def typed(ask: Callable[[str], str], prompt: str, undone: str) -> str:
    """Return what is typed at a prompt.

    Raises GatewayError after Ctrl-C or Ctrl-D, with what was not done: the command has not ended
    well.
    """
    try:
        return ask(prompt)
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")  # the prompt stands alone in its line
        raise GatewayError(undone) from None


def add_yes(parser: ArgumentParser) -> None:
    """Add the option that answers the question beforehand."""
    parser.add_argument("--yes", action="store_true", help="do not ask, whatever it does")


def read_file(path: Path, limit: int, *, truncate: bool = False) -> bytes:
    """Read a file, or the standard input where the path is "-".

    limit: in bytes.  truncate: return limit + 1 bytes of a larger file, which the reader's own
    check reports, instead of raising.
    Raises GatewayError.
    """
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit and not truncate:
        raise GatewayError(f"{path} is too large: the limit is {limit} bytes")
    return data


def write_file(path: Path, data: bytes, *, mode: int = 0o600, overwrite: bool = False) -> None:
    """Write a file.  Raises GatewayError.

    mode: of a new file.  overwrite: whether the file may exist; it then keeps its mode.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if overwrite else os.O_EXCL)
    with _naming(path), os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(data)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, completely or not at all.  Raises GatewayError."""
    with _naming(path):
        write_private(path, data)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def may_ask(arguments: Namespace) -> bool:
    """Whether there is an operator to ask: at a terminal, and not with --json."""
    return not arguments.json and sys.stdin.isatty()


def read_passphrase(arguments: Namespace, key: str) -> bytes:
    """Return the passphrase in the file of --passphrase-file; without one, ask for it.

    key: what the passphrase opens, for the prompt.  Raises GatewayError.
    """
    if arguments.passphrase_file is not None:
        return read_file(arguments.passphrase_file, MAX_PEM).rstrip(b"\r\n")
    if arguments.json:
        raise GatewayError(f"{key} has a passphrase. Use --passphrase-file FILE")
    return typed(getpass.getpass, f"Passphrase of {key}: ", NOTHING_DONE).encode()
