"""gatewayctl: control gatewayd from the command line, with less typing than busctl needs.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from typing import NoReturn

from gatewayd.cli.client import BusClient, BusRefusal, password_agent
from gatewayd.cli.command import Command, Connect
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import Record
from gatewayd.cli.output.terminal import Terminal
from gatewayd.errors import GatewayError

BUS_VARIABLE = "GATEWAYD_BUS"
"""The environment variable that names the message bus where --bus does not."""

JSON = "--json"
USAGE = 2
"""The exit status of wrong usage, as argparse has it."""
INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell has it of a program that SIGINT ends (bash(1))."""

MODULES: Mapping[str, Sequence[str]] = {
    "setup.commands": ("setup",),
    "devices": (
        "list", "show", "explain", "log", "watch", "approve", "reject", "retry", "forget",
        "rename", "reregister", "repin", "split", "merge", "permit-join", "reload",
    ),
    "moves": ("move",),
    "discover.commands": ("discover",),
    "rules": ("rules",),
    "clouds": ("cloud", "clouds", "preflight"),
    "cloud_setup.broker_config": ("broker-config",),
    "messages": ("messages",),
    "door": ("door",),
    "console.huawei": ("console",),
    "console.huawei_prepare": ("console",),
    "console.alibaba": ("console",),
    "credentials": ("credential",),
    "store": ("store",),
    "site": ("site",),
    "watching.metrics": ("metrics",),
    "watching.top": ("top",),
    "watching.dump": ("dump",),
    "vault.commands": ("vault",),
    "huawei.template": ("huawei",),
    "cloud_setup.ca": ("ca", "huawei"),
    "cloud_setup.certificate": ("certificate",),
}  # fmt: skip
"""The modules of commands, below gatewayd.cli, and the first words of their commands.

What a command needs is imported for it alone: all of it takes twice the time of most commands.
"""

GROUPS: Mapping[str, str] = {
    "rules": "list, check and test rules",
    "cloud": "test a cloud",
    "store": "manage the secret store of a running gateway",
    "site": "manage the gateways that share the devices of a site",
    "door": "manage who may use gatewayd's own message broker",
    "vault": "manage the vault of a stopped gateway",
    "ca": "manage the device CA of a cloud",
    "certificate": "manage certificates that devices have already",
    "huawei": "what Huawei Cloud IoTDA alone needs",
    "huawei template": "write, check and preview provisioning templates",
    "huawei ca": "prove to the platform that the device CA is yours",
    "console": "set up a cloud's console by its API, from any machine",
    "console alibaba": "the console of Alibaba Cloud IoT Platform",
    "console alibaba product": "products",
    "console alibaba device": "devices",
    "console huawei": "the console of Huawei Cloud IoTDA",
    "console huawei space": "resource spaces",
    "console huawei product": "products",
    "console huawei template": "provisioning templates",
    "console huawei ca": "device CAs",
    "console huawei policy": "device policies",
    "console huawei device": "devices",
}
"""What the commands of each group do."""

FORMER: Mapping[tuple[str, ...], str] = {
    ("huawei", "ca", word): f"ca {word}" for word in ("make", "import", "issue", "show", "renew")
}
"""Commands that had another name in earlier versions, to those that they have now."""


class WrongUsage(SystemExit):
    """The arguments are not those of a command.  usage: how it is called."""

    def __init__(self, usage: str, message: str) -> None:
        super().__init__(USAGE)
        self.usage, self.message = usage, message


class _Parser(argparse.ArgumentParser):
    """A parser that leaves it to `main` how a mistake is shown."""

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(f"{self.format_usage()}{self.prog}: error: ", message)


def commands_for(words: Sequence[str]) -> Sequence[Command]:
    """Return the commands that the words of a command line may mean: all for help, and where no
    word is known."""
    is_help = not {"-h", "--help"}.isdisjoint(words)
    meant = [m for m, first in MODULES.items() if not (is_help or {*first}.isdisjoint(words))]
    loaded = (import_module(f"gatewayd.cli.{module}").COMMANDS for module in meant or MODULES)
    return [command for commands in loaded for command in commands]


def build_parser(commands: Sequence[Command] | None = None) -> argparse.ArgumentParser:
    """Return the parser; the words of a command may name groups, as "rules check".

    commands: None for all.
    """
    top = _Parser("gatewayctl", description="Control gatewayd.")
    top.add_argument("--bus", metavar="ADDRESS", help="message bus (default: the system bus)")
    top.add_argument(
        "--no-ask-password", action="store_true", help="never ask for a password to authorize"
    )
    _add_json(top, default=False)
    groups = {"": top.add_subparsers(required=True, metavar="COMMAND")}
    for command in commands_for(()) if commands is None else commands:
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
        _add_json(parser, default=argparse.SUPPRESS)  # so that it does not undo the one before
        parser.set_defaults(command=command)
    return top


def _add_json(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        JSON, action="store_true", default=default,
        help="print JSON objects, one a line, errors too: gatewayctl-json(5)",
    )  # fmt: skip


def main(
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    commands: Sequence[Command] | None = None,
) -> int:
    """Run gatewayctl; return its exit status.  commands: None for those of gatewayd."""
    words = sys.argv[1:] if argv is None else argv
    unshown = ""
    try:
        try:
            arguments = _parsed(words, commands)
            unshown = arguments.command.unshown
            arguments.terminal = Terminal.of(sys.stdout, environ)
            status = _execute(arguments, environ)
        except WrongUsage as error:
            _show_wrong_usage(error, as_json=JSON in words)
            raise
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.filename is not None:  # not of what is printed
            raise
        return _not_printed(error, unshown)
    return status


def _parsed(words: Sequence[str], commands: Sequence[Command] | None) -> argparse.Namespace:
    """Return the arguments.  Raises WrongUsage, which names all commands if none was meant."""
    if commands is not None:
        return build_parser(commands).parse_args(words)
    try:
        return build_parser(commands_for(words)).parse_args(words)
    except WrongUsage:
        for at in range(len(words)):
            former = tuple(words[at : at + 3])
            if (new := FORMER.get(former)) is not None:
                message = f"{' '.join(former)} is called {new} now: run gatewayctl {new}"
                raise WrongUsage("gatewayctl: error: ", message) from None
        return build_parser().parse_args(words)


def _not_printed(error: OSError, unshown: str) -> int:
    """Say that the output could not be written, and what is lost with it; return the exit status.

    What reads a pipe may have seen enough: that is no failure where nothing is lost.
    """
    # Python would fail at its end to write what is left
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) and not unshown:
        return 0
    why = f"The output cannot be written: {error.strerror}. {unshown}".rstrip(". ")
    print(f"gatewayctl: {why}", file=sys.stderr)
    return 1


def _execute(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    address = arguments.bus or environ.get(BUS_VARIABLE, "system")
    quiet = arguments.json or arguments.no_ask_password
    prompt = None if quiet else partial(password_agent, address, environ)
    connect = cache(partial(BusClient, address, prompt, signs=not arguments.json))
    return _as_json(connect, arguments) if arguments.json else _for_people(connect, arguments)


def _for_people(connect: Connect, arguments: argparse.Namespace) -> int:
    try:
        result = arguments.command.run(connect, arguments)
        if isinstance(result, int):
            return result
        for line in result:
            print(line, flush=True)
    except GatewayError as error:
        for line in str(error).splitlines() or [""]:  # one for each mistake in a configuration
            print(f"gatewayctl: {safe(line)}", file=sys.stderr)
        return 1
    return 0


def _as_json(connect: Connect, arguments: argparse.Namespace) -> int:
    """Run a command; print nothing but objects, whatever it prints."""
    command: Command = arguments.command
    try:
        for record in command.records(connect, arguments):
            _print(record)
    except GatewayError as error:
        _print({"Error": error_name(error), "Message": str(error)})
        return 1
    return 0


def _print(record: Record) -> None:
    print(json.dumps(record), flush=True)


def _show_wrong_usage(error: WrongUsage, *, as_json: bool) -> None:
    if as_json:
        _print({"Error": "WrongUsage", "Message": error.message})
    else:
        print(f"{error.usage}{error.message}", file=sys.stderr)


def error_name(error: GatewayError) -> str:
    """Return the name of an error for programs: that of D-Bus, or the kind of error."""
    return error.name if isinstance(error, BusRefusal) else type(error).__name__
