"""The words of a rule for the commands that its children may get from their cloud.

    set                 each command of a kind
    service:reboot      a service by its name
    set:target_*        properties by a glob: each one that the command names has to be allowed

Names are compared as the cloud writes them, as a whole, and with regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gatewayd.admission.policy.patterns import RuleError
from gatewayd.device.command import ChildCommand, CommandKind

MAX_WORDS = 64
"""Words of one rule."""
ANY = "*"

_OF_PROPERTIES = (CommandKind.SET, CommandKind.GET)
_NAME = re.compile(r"[A-Za-z0-9_.:*?-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CommandPattern:
    """Commands of one kind, and of a glob of names."""

    kind: CommandKind
    name: str = ANY

    def matches(self, name: str) -> bool:
        """Whether a whole name fits."""
        return self.name == ANY or fnmatchcase(name, self.name)


def parse_command(word: str) -> CommandPattern:
    """Return what a word of a rule allows.  Raises RuleError."""
    kind, colon, name = word.partition(":")
    if kind not in tuple(CommandKind):
        kinds = ", ".join(CommandKind)
        raise RuleError(f"begins with no kind of command: write one of {kinds}")
    if not colon:
        return CommandPattern(CommandKind(kind))
    if not _NAME.fullmatch(name):
        raise RuleError(
            f"needs a name after {kind}: with at most 128 letters, digits and _ . : - * ?"
        )
    return CommandPattern(CommandKind(kind), name)


def allows(patterns: Iterable[CommandPattern], command: ChildCommand) -> bool:
    """Whether a rule with these patterns allows a command.

    Of properties, each one has to be allowed.  Where none is named, all of a service are meant,
    whose name has to be allowed; and without that all of the child, which needs a pattern for any.
    """
    fitting = [one for one in patterns if one.kind is command.kind]
    names = [command.name]
    if command.kind in _OF_PROPERTIES:
        names = list(command.arguments) or names
    return all(any(one.matches(name) for one in fitting) for name in names)
