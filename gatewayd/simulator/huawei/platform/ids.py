"""The identifiers of the simulated Huawei platform."""

from __future__ import annotations

import uuid
from collections.abc import Callable


class Ids:
    """A maker of identifiers.

    clock: seconds since 1970.  random: so many random bytes.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self.clock, self._random = clock, random
        self._machine = random(5)
        self._number = 0
        self._newest = 0

    def record(self) -> str:
        """Return 24 hexadecimal digits, greater than those before, for the order of pages."""
        self._newest = max(self._newest, int(self.clock()))
        self._number += 1
        return f"{self._newest & 0xFFFFFFFF:08x}{self._machine.hex()}{self._number & 0xFFFFFF:06x}"

    def plain(self) -> str:
        """Return 32 hexadecimal digits."""
        return self._random(16).hex()

    def code(self) -> str:
        """Return a verification code, which is a UUID."""
        return str(uuid.UUID(bytes=self._random(16), version=4))
