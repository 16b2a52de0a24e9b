"""gatewayctl: what busctl does, with less typing.

Exit status: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial

from gatewayd.cli.ca import AUTHORITY
from gatewayd.cli.client import BusClient, password_agent
from gatewayd.cli.devices import COMMANDS, Command
from gatewayd.cli.huawei_template import HUAWEI_TEMPLATE
from gatewayd.cli.objects import OBJECTS, STORE_COMMANDS
from gatewayd.cli.output import safe
from gatewayd.cli.preflight import PREFLIGHT
from gatewayd.cli.rules import RULES
from gatewayd.cli.vault import VAULT
from gatewayd.errors import GatewayError

ADDRESS = "GATEWAYD_BUS"
"""The environment variable that names the bus where --bus does not."""


def parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Build the parser; the words of a command may name groups, as "rules check"."""
    top = argparse.ArgumentParser("gatewayctl", description="Control gatewayd.")
    top.add_argument("--bus", metavar="ADDRESS", help="the message bus, instead of the system's")
    top.add_argument(
        "--no-ask-password", action="store_true", help="do not ask for a password where one helps"
    )
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
    commands: Sequence[Command] = (
        *COMMANDS,
        *OBJECTS,
        *STORE_COMMANDS,
        *VAULT,
        *RULES,
        *PREFLIGHT,
        *HUAWEI_TEMPLATE,
        *AUTHORITY,
    ),
) -> int:
    """Run gatewayctl; return its exit status."""
    arguments = parser(commands).parse_args(argv)
    address = arguments.bus or environ.get(ADDRESS, "system")
    prompt = None if arguments.no_ask_password else partial(password_agent, address, environ)
    connect = cache(partial(BusClient, address, prompt))
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
