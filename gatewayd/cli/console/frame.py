"""What the commands of all consoles share: their options, and how steps are run and printed.

These commands run anywhere: they need no daemon, no bus and no configuration of gatewayd.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cli.command import AddArguments, Command, Connect
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import JsonField, Record, flag, maybe, text, texts
from gatewayd.cli.setup.questions import split_port
from gatewayd.console.access_key import (
    AccessKey,
    key_of_credential,
    key_of_descriptor,
    key_of_file,
)
from gatewayd.console.client import ConsoleClient, ConsoleDialect
from gatewayd.console.steps import CHANGES, ConsoleStep, StepOutcome, Steps
from gatewayd.errors import ConsoleError
from gatewayd.network.connect_errors import ConnectError
from gatewayd.network.proxy import Proxy
from gatewayd.network.tls import Server, client_context
from gatewayd.settings import grammar

CONNECT_TIMEOUT, REPLY_TIMEOUT = 15.0, 60.0
"""Seconds for each step of a connection, and for an answer."""
HTTPS_PORT, PROXY_PORT, LAST_PORT = 443, 3128, 65535
MAX_DESCRIPTOR = 1 << 20

StepsOf = Callable[[ConsoleClient, Namespace], Steps]
"""Reads what the arguments name, and returns the steps, which an event loop then runs."""


@dataclass(frozen=True, slots=True)
class Console:
    """A cloud's console.

    word: names it, as "huawei".  add_arguments: its own options, as of a region.
    host: its endpoint where --endpoint does not name one.  Raises ConsoleError.
    dialect: how its API is spoken with an access key at a host.  Raises ConsoleError.
    """

    word: str
    add_arguments: AddArguments
    host: Callable[[Namespace], str]
    dialect: Callable[[AccessKey, str, Namespace], ConsoleDialect]


# fmt: off
FIELDS: tuple[JsonField, ...] = (
    text("Outcome", '"found", "present" (as wanted already), "made", "changed", "deleted" or '
                    '"absent" (what was to be deleted is not there) or "left" (still to be done, '
                    "elsewhere)"),
    flag("Done", "whether it is so; false with --dry-run, where it would become so"),
    text("Kind", 'what it is, as "product"'), text("Name", "as its owner calls it"),
    text("Id", 'as the cloud calls it; "" for what has no id, or none yet'),
    text("Detail", 'what else is to be known of it; may be ""'),
    texts("Asked", "with --dry-run, the requests that would have been sent, without secrets"),
    *maybe(text("Code", "the verification code of a device CA that is not verified")),
)
# fmt: on
UNSHOWN = "What was done stays done. Run the same command again: it does nothing twice"


def console_command(
    console: Console,
    words: str,
    purpose: str,
    adders: Sequence[AddArguments],
    steps: StepsOf,
    *,
    changes: bool = False,
) -> Command:
    """Return a command at a console.  words: after that of the console.

    changes: whether it changes anything there; then it has --dry-run.
    """

    def add(parser: ArgumentParser) -> None:
        for adder in (*adders, console.add_arguments, _add_connection):
            adder(parser)
        if changes:
            parser.add_argument(
                "--dry-run",
                action="store_true",
                help="only print what would be asked, and change nothing",
            )

    def run(_connect: Connect, arguments: Namespace) -> Iterator[str]:
        done = list[ConsoleStep]()
        for step in performed(console, steps, arguments):
            done.append(step)
            yield from step_lines(step)
        yield from conclusion(done, changes=changes)

    def records(_connect: Connect, arguments: Namespace) -> Iterable[Record]:
        return map(step_record, performed(console, steps, arguments))

    named = f"console {console.word} {words}"
    unshown = UNSHOWN if changes else ""
    return Command(named, purpose, add, run, records, FIELDS, unshown)


def performed(console: Console, steps: StepsOf, arguments: Namespace) -> Iterator[ConsoleStep]:
    """Yield the steps of a command, each once it is done.  Raises GatewayError."""
    client = client_of(console, arguments)

    async def next_of(running: Steps) -> ConsoleStep | None:
        return await anext(running, None)

    async def close(running: Steps) -> None:
        await running.aclose()

    with asyncio.Runner() as runner:
        running = steps(client, arguments)
        try:
            while (step := runner.run(next_of(running))) is not None:
                yield step
        finally:
            runner.run(close(running))


def client_of(console: Console, arguments: Namespace) -> ConsoleClient:
    """Return a client as the options of the command have it.  Raises ConsoleError."""
    server = _server(console, arguments)
    dialect = console.dialect(_access_key(arguments), server.host, arguments)
    return ConsoleClient(
        server,
        dialect,
        dry_run=getattr(arguments, "dry_run", False),
        clock=time.time,
        random=secrets.token_bytes,
        jitter=random.random,
    )


def _server(console: Console, arguments: Namespace) -> Server:
    named, port = _place(arguments.endpoint or console.host(arguments), "--endpoint", HTTPS_PORT)
    proxy = None
    if arguments.proxy is not None:
        proxy = Proxy(*_place(arguments.proxy, "--proxy", PROXY_PORT))
    try:
        context = client_context(arguments.ca_file)
    except ConnectError:
        raise ConsoleError(
            "The trusted roots cannot be read: --ca-file names no PEM file with certificates. Use "
            "one that you may read"
        ) from None
    address = arguments.address
    if address and (fault := grammar.host(address)):
        raise ConsoleError(f"The API is not asked: --address {fault}. Use a name or an IP address")
    return Server(
        named, port, context, CONNECT_TIMEOUT, REPLY_TIMEOUT, address=address, proxy=proxy
    )


def _place(written: str, option: str, port: int) -> tuple[str, int]:
    host, named = split_port(written)
    if fault := grammar.host(host):
        raise ConsoleError(f"The API is not asked: {option} {fault}. Write it as HOST or HOST:PORT")
    if named and not 0 < int(named[:6]) <= LAST_PORT:
        raise ConsoleError(f"The API is not asked: {option} has a port that there is not. Use 1 to "
                           f"{LAST_PORT}")  # fmt: skip
    return host, int(named or port)


def _access_key(arguments: Namespace) -> AccessKey:
    if arguments.key_fd is not None:
        return key_of_descriptor(arguments.key_fd)
    if arguments.key_file is not None:
        return key_of_file(arguments.key_file)
    return key_of_credential(arguments.key_credential, os.environ.get("CREDENTIALS_DIRECTORY"))


def _descriptor(written: str) -> int:
    if not (written.isdecimal() and int(written[:8]) < MAX_DESCRIPTOR):
        raise ValueError(written)
    return int(written)


def _add_connection(parser: ArgumentParser) -> None:
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument(
        "--key-fd",
        type=_descriptor,
        metavar="N",
        help="file descriptor that delivers the access key: its ID and its secret, a line each",
    )
    key.add_argument(
        "--key-credential",
        metavar="NAME",
        help="credential of systemd that holds the access key, as by systemd-run",
    )
    key.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file of mode 0600 that holds the access key, or the console's own CSV file",
    )
    parser.add_argument(
        "--endpoint", metavar="HOST[:PORT]", help="where the API is (default: that of the region)"
    )
    parser.add_argument(
        "--address",
        default="",
        metavar="HOST",
        help="name or IP address to connect to in place of the endpoint's",
    )
    parser.add_argument(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="trusted roots, PEM (default: those of this system)",
    )
    parser.add_argument("--proxy", metavar="HOST[:PORT]", help="HTTP proxy to connect by")


_FUTURE = {
    StepOutcome.MADE: "to make", StepOutcome.CHANGED: "to change", StepOutcome.DELETED: "to delete",
}  # fmt: skip


def step_lines(step: ConsoleStep) -> Iterator[str]:
    """Yield the lines that show a step."""
    outcome = _FUTURE.get(step.outcome, step.outcome.value) if step.asked else step.outcome.value
    detail = f"({step.detail})" if step.detail else ""
    what = "  ".join(filter(None, (step.name, step.id, detail)))
    yield safe(f"{outcome:<9} {step.kind:<9} {what}")
    yield from (safe(f"{'':9} {asked}") for asked in step.asked)


def step_record(step: ConsoleStep) -> Record:
    """Return a step for programs."""
    record = {
        "Outcome": step.outcome.value, "Done": not step.asked, "Kind": step.kind,
        "Name": step.name, "Id": step.id, "Detail": step.detail, "Asked": list(step.asked),
    }  # fmt: skip
    return record | ({"Code": step.code} if step.code else {})


def conclusion(done: Sequence[ConsoleStep], *, changes: bool) -> Iterator[str]:
    """Yield what is to be said after the last step, for people."""
    if not changes:
        yield from () if done else ("There is none.",)
    elif any(step.asked for step in done):
        yield "Nothing was changed: this is a dry run."
    elif CHANGES.isdisjoint(step.outcome for step in done):
        yield "Nothing was changed: all is as wanted already."
