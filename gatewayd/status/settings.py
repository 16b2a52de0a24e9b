"""The settings of the D-Bus service."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.settings import setting


@dataclass(frozen=True, slots=True)
class BusSettings:
    """[bus]"""

    address: str = setting("system", 'message bus: "system", or an address as "unix:path=/run/bus"')
    gather: float = setting(
        0.2, "time for which changes are gathered before they are told", unit="s", low=0.01, high=10
    )
    rate: int = setting(2000, "children whose changes are told in a second", low=10, high=10000)
    commands: int = setting(64, "commands under way at the same time", low=1, high=1000)
    free_invocations: bool = setting(
        True, "free what old GLib versions leave behind after each call, where a test shows it"
    )
