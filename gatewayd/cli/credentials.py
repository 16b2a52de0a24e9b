"""`gatewayctl credential`: what the holder of a handed-over child logs in with, for a person.

It reaches this process through a file descriptor, and leaves it to a file that only its owner can
read, or to what the standard output leads to; never to a terminal, which keeps what it has shown.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from gatewayd.cli.command import (
    Client,
    Command,
    Connect,
    add_id,
    argument,
    arguments,
    received,
    replace_file,
)
from gatewayd.cli.output.fields import Record, anything, maybe, text
from gatewayd.credentials.document import MAX_BYTES
from gatewayd.dbus.names import HANDED_OVER
from gatewayd.errors import GatewayError


def _read(connect: Connect, arguments: Namespace) -> Iterator[bytes]:
    """Yield the credential, unless it was written to a file.  Raises GatewayError."""

    def read(client: Client, target: int) -> None:
        client.call("Read", arguments.id, target, at=HANDED_OVER)

    if arguments.output is None and sys.stdout.isatty():
        raise GatewayError("The standard output is a terminal: give --output FILE, or redirect it")
    found = received(connect, read, MAX_BYTES)
    if arguments.output is None:
        yield found
    else:
        replace_file(arguments.output, found)


def _credential(connect: Connect, arguments: Namespace) -> int:
    for found in _read(connect, arguments):
        sys.stdout.buffer.write(found)
        sys.stdout.buffer.flush()
    return 0


def _records(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    for found in _read(connect, arguments):
        yield {"Credential": json.loads(found)}
        return
    yield {"File": str(arguments.output)}


COMMANDS: tuple[Command, ...] = (
    Command("credential", "write what the holder of a handed-over device logs in with, as JSON",
            arguments(
                add_id,
                argument("--output", type=Path, metavar="FILE",
                         help="write it to this file, for its owner alone (default: the standard "
                              "output, unless that is a terminal)"),
            ),
            _credential, _records,
            maybe(anything("Credential", "what the holder logs in with: see gatewayd(8)"),
                  text("File", "with --output: the file that it was written to"))),
)  # fmt: skip
