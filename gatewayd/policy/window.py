"""The join window, as far as policy sees it: what it covers while it is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.policy.pattern import normal
from gatewayd.policy.rules import Rule


@dataclass(frozen=True, slots=True)
class Window:
    """What an open join window covers; "" is no limit.  Where none is open there is no Window.

    interface: where the device was seen.  protocol: how it was found, as "mdns".
    rule: the name of the rule that matches.  provider: the cloud that the rule names.
    """

    interface: str = ""
    protocol: str = ""
    rule: str = ""
    provider: str = ""

    def covers(self, rule: Rule, view: Mapping[str, str]) -> bool:
        """Whether what the rule matches in this view lies inside."""
        return (
            self.rule in ("", rule.name)
            and self.provider in ("", rule.provider)
            and _fits(self.interface, "interface", view)
            and _fits(self.protocol, "source", view)
        )


def _fits(wanted: str, key: str, view: Mapping[str, str]) -> bool:
    return not wanted or normal(key, view) == wanted.lower()
