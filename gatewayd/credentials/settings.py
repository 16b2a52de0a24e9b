"""The settings of credentials: which unit or user may have which child's.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatewayd.settings.declare import REQUIRED, setting, table

SUFFIX = ".service"
MAX_ADDRESS = 107
"""Characters of an address of a Unix socket: unix(7), less the null that systemd puts behind it."""
MAX_UNIT = MAX_ADDRESS - len("@0123456789abcdef/unit//c") - len(SUFFIX)
"""Characters of a unit's name without its suffix: systemd connects from an address with that name
and the credential's, which has one character at least, and does not start a unit for which that is
too long."""

_UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+@?", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?|[0-9]{1,10}", re.ASCII)
_CHILD = re.compile(r"[A-Za-z0-9_.:@-]{1,128}(/[A-Za-z0-9_.:@-]{1,128})?", re.ASCII)
_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


_NAMED = "by its id, or by its name at the cloud, alone or as product/name"
_ADMITTED = "the rule by which the child must have been admitted"


@dataclass(frozen=True, slots=True)
class HolderSettings:
    """What units and users say alike: which child they get.  Its settings are named again there,
    each with its own default."""

    child: str
    rule: str

    def problems(self) -> Iterator[str]:
        """Yield what is wrong."""
        if self.child and not _CHILD.fullmatch(self.child):
            yield "child is no id of a child, no name at a cloud and no product/name: correct it"
        if self.rule and not _RULE.fullmatch(self.rule):
            yield "rule is no name of a rule: at most 64 letters, digits and _ . -"


@dataclass(frozen=True, slots=True)
class UnitSettings(HolderSettings):
    """[credentials.units.NAME]"""

    child: str = setting(
        "",
        f"the child whose credential the unit gets, {_NAMED} (default: of a template, the name of "
        "the instance)",
    )
    rule: str = setting("", f"{_ADMITTED} (default: any; templates need one)")


@dataclass(frozen=True, slots=True)
class UserSettings(HolderSettings):
    """[credentials.users.NAME]"""

    child: str = setting(REQUIRED, f"the child whose credential the user gets, {_NAMED}")
    rule: str = setting("", f"{_ADMITTED} (default: any)")

    def problems(self) -> Iterator[str]:
        """Yield what is wrong."""
        if not self.child:
            yield "child is empty: name the child"
        yield from HolderSettings.problems(self)


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """[credentials]"""

    wait: float = setting(
        60.0,
        "how long a unit or user waits for a child that is not handed over yet, before it gets an "
        "empty answer; less than the TimeoutStartSec of its unit",
        unit="s", low=1, high=600,
    )  # fmt: skip
    units: Mapping[str, UnitSettings] = table(dict)
    users: Mapping[str, UserSettings] = table(dict)

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield "units" or "users", the name of a table there, and a phrase: what is wrong."""
        for name, unit in self.units.items():
            if fault := _unit_fault(name, unit):
                yield "units", name, fault
        for name in self.users:
            if not _USER.fullmatch(name):
                yield "users", name, "is no user: use the name, or the uid"

    def rules(self) -> Iterator[tuple[str, str, str]]:
        """Yield "units" or "users", the name of a table in it, and the rule that it names."""
        for kind, tables in (("units", self.units), ("users", self.users)):
            yield from ((kind, name, one.rule) for name, one in tables.items() if one.rule)


def _unit_fault(name: str, unit: UnitSettings) -> str:
    if name.endswith(SUFFIX):
        return f"has a name with {SUFFIX}: leave that out"
    if not _UNIT.fullmatch(name):
        return f"is no unit: use the name of a service, without {SUFFIX}"
    if len(name) > MAX_UNIT:
        return f"is too long for the address from which systemd asks: use at most {MAX_UNIT}"
    if not name.endswith("@"):
        return "" if unit.child else "has no child: add 'child'"
    if unit.child:
        return "is a template, whose instance names the child: leave out 'child'"
    return "" if unit.rule else "is a template, which would get any child: add 'rule'"
