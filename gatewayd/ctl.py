"""gatewayctl: what busctl does, with less typing.

Exit status: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import pydbus

from gatewayd.ctl_commands import COMMANDS, Command
from gatewayd.ctl_huawei_template import HUAWEI_TEMPLATE
from gatewayd.ctl_preflight import PREFLIGHT
from gatewayd.ctl_rules import RULES
from gatewayd.ctl_text import Row, safe
from gatewayd.errors import GatewayError
from gatewayd.glib import GLib, Variant

NAME, PATH, MANAGER = "org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager"
TIMEOUT = 60  # seconds
ABSENT = ("ServiceUnknown", "NameHasNoOwner")
ADDRESS = "GATEWAYD_BUS"
"""The environment variable that names the bus where --bus does not."""


class BusClient:
    """The daemon over D-Bus.

    address: "system", or an address as "unix:path=/run/bus".  Raises GatewayError.
    """

    def __init__(self, address: str) -> None:
        try:
            bus = pydbus.SystemBus() if address == "system" else pydbus.connect(address)
            self._manager = bus.get(NAME, PATH, timeout=TIMEOUT)[MANAGER]
        except GLib.Error as error:
            raise GatewayError(reason(error.message)) from None

    def call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401  # as D-Bus has it
        """Call a method of the manager and return what it returns.  Raises GatewayError."""
        try:
            return getattr(self._manager, method)(*arguments, timeout=TIMEOUT)
        except GLib.Error as error:
            raise GatewayError(reason(error.message)) from None

    def changes(self) -> Iterator[tuple[list[Row], list[str]]]:
        """Yield changed rows and removed ids, for ever."""
        found: queue.SimpleQueue[tuple[list[Row], list[str]]] = queue.SimpleQueue()
        self._manager.DevicesChanged.connect(lambda rows, gone: found.put((rows, gone)))
        context = GLib.MainContext.default()
        while True:
            context.iteration(True)  # may_block
            while not found.empty():
                yield found.get()

    def variant(self, value: str | int) -> object:
        """Return a string, or a number as u, as a D-Bus variant."""
        return Variant("s" if isinstance(value, str) else "u", value)


def reason(message: str) -> str:
    """Return what GLib says of an error as one sentence for people."""
    name, text = re.fullmatch(r"(?:GDBus\.Error:([\w.]+): )?(.*)", message, re.DOTALL).groups()  # type: ignore[union-attr]  # matches all
    if name and name.endswith(ABSENT):
        return "gatewayd is not running"
    return safe(text.strip())


def parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Build the parser; the words of a command may name groups, as "rules check"."""
    top = argparse.ArgumentParser("gatewayctl", description="Control gatewayd.")
    top.add_argument("--bus", metavar="ADDRESS", help="the message bus, instead of the system's")
    groups = {"": top.add_subparsers(required=True, metavar="COMMAND")}
    for command in commands:
        *steps, word = command.words.split()
        group = ""
        for step in steps:
            above, group = group, f"{group} {step}".strip()
            if group not in groups:
                sub = groups[above].add_parser(step, help=f"see gatewayctl {group} --help")
                groups[group] = sub.add_subparsers(required=True, metavar="COMMAND")
        one = groups[group].add_parser(word, help=command.help, description=command.help)
        command.arguments(one)
        one.set_defaults(run=command.run)
    return top


def main(
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    commands: Sequence[Command] = (*COMMANDS, *RULES, *PREFLIGHT, *HUAWEI_TEMPLATE),
) -> int:
    """Run gatewayctl; return its exit status."""
    arguments = parser(commands).parse_args(argv)
    connect = cache(partial(BusClient, arguments.bus or environ.get(ADDRESS, "system")))
    try:
        told = arguments.run(connect, arguments)
        if isinstance(told, int):
            return told
        for line in told:
            print(line, flush=True)
    except GatewayError as error:
        print(f"gatewayctl: {safe(error)}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0
