"""Commands that settle who a device is: two that are one, and one that is two."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable

from gatewayd.cli.command import (
    Command,
    Connect,
    Run,
    action,
    add_id,
    add_yes,
    argument,
    arguments,
    confirm,
)


def _settle(method: str, question: str) -> Run:
    """Return the `run` of a command that says what a method does, asks, and calls it."""

    def run(connect: Connect, arguments: Namespace) -> Iterable[str]:
        client, other = connect(), arguments.other or ""
        does = f"{method} {other}".strip()
        confirm(arguments, client.call("Consequences", arguments.id, does), question)
        client.call(method, arguments.id, other)
        return ()

    return run


_ARGUMENTS = arguments(
    add_id,
    argument("other", nargs="?", help="the other device (default: what is seen of it elsewhere)"),
    add_yes,
)

COMMANDS: tuple[Command, ...] = (
    action(
        "split",
        "have two devices that show one identity be two: what both show identifies neither",
        _ARGUMENTS,
        _settle("Split", "Split them?"),
    ),
    action(
        "merge",
        "have two devices be one: the first is kept, the other is forgotten",
        _ARGUMENTS,
        _settle("Merge", "Merge them?"),
    ),
)
