"""The settings of a door: a broker that the site has already, and whose messages are whose."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.settings import grammar
from gatewayd.settings.declare import setting


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """[messages.doors.NAME]"""

    host: str = setting(
        "127.0.0.1", "name or IP address of the broker", grammar=grammar.host
    )  # fmt: skip
    port: int = setting(1883, "its TCP port", low=1, high=65535)
