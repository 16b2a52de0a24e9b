"""gatewayctl: control gatewayd from the command line, with less typing than busctl needs.

Exit status: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial

from gatewayd.cli import clouds, credentials, devices, door, messages, rules, store
from gatewayd.cli.client import BusClient, password_agent
from gatewayd.cli.command import Command
from gatewayd.cli.huawei import ca as huawei_ca
from gatewayd.cli.huawei import template as huawei_template
from gatewayd.cli.output import safe
from gatewayd.cli.vault import commands as vault
from gatewayd.errors import GatewayError

BUS_VARIABLE = "GATEWAYD_BUS"
"""The environment variable that names the message bus where --bus does not."""

COMMANDS: tuple[Command, ...] = (
    *devices.COMMANDS,
    *rules.COMMANDS,
    *clouds.COMMANDS,
    *messages.COMMANDS,
    *door.COMMANDS,
    *credentials.COMMANDS,
    *store.COMMANDS,
    *vault.COMMANDS,
    *huawei_template.COMMANDS,
    *huawei_ca.COMMANDS,
)

GROUPS: Mapping[str, str] = {
    "rules": "list, check and test rules",
    "cloud": "test a cloud",
    "store": "manage the secret store of a running gateway",
    "door": "manage who may use gatewayd's own message broker",
    "vault": "manage the vault of a stopped gateway",
    "huawei": "manage templates and the device CA of Huawei Cloud IoTDA",
    "huawei template": "write, check and preview provisioning templates",
    "huawei ca": "manage the device CA",
}
"""What the commands of each group do."""


def build_parser(commands: Sequence[Command] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser; the words of a command may name groups, as "rules check"."""
    top = argparse.ArgumentParser("gatewayctl", description="Control gatewayd.")
    top.add_argument("--bus", metavar="ADDRESS", help="message bus (default: the system bus)")
    top.add_argument(
        "--no-ask-password", action="store_true", help="never ask for a password to authorize"
    )
    groups = {"": top.add_subparsers(required=True, metavar="COMMAND")}
    for command in commands:
        *path, word = command.words.split()
        group = ""
        for step in path:
            parent, group = group, f"{group} {step}".strip()
            if group not in groups:
                what = GROUPS.get(group)
                sub = groups[parent].add_parser(step, help=what, description=what)
                groups[group] = sub.add_subparsers(required=True, metavar="COMMAND")
        parser = groups[group].add_parser(word, help=command.help, description=command.help)
        command.add_arguments(parser)
        parser.set_defaults(run=command.run)
    return top


def main(
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    commands: Sequence[Command] = COMMANDS,
) -> int:
    """Run gatewayctl; return its exit status."""
    arguments = build_parser(commands).parse_args(argv)
    address = arguments.bus or environ.get(BUS_VARIABLE, "system")
    prompt = None if arguments.no_ask_password else partial(password_agent, address, environ)
    connect = cache(partial(BusClient, address, prompt))
    try:
        result = arguments.run(connect, arguments)
        if isinstance(result, int):
            return result
        for line in result:
            print(line, flush=True)
    except GatewayError as error:
        for line in str(error).splitlines() or [""]:  # one for each mistake in a configuration
            print(f"gatewayctl: {safe(line)}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0
