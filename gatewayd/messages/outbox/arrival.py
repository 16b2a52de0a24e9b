"""When a message arrived, also where the clock was not right then; and which packets came before.

A gateway without a battery starts with a wrong clock.  What arrives before the clock is known to be
right is stamped by the time since the boot; once the clock is right, it is known when that boot
began, and with it the true time of all that it has stamped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gatewayd.messages.outbox.file import RING, SeenPacket
from gatewayd.runtime.clock import MARK, synchronised

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another text at each boot: random(4)."""
BOOT_VARIABLE = "GATEWAYD_BOOT_ID"
"""The environment variable with it, as a unit with ProcSubset=pid has no such file."""
_DIGEST = 7  # bytes, so that SQLite's integers hold it


TIME_SERVICES = (
    Path("/run/systemd/timesync"), Path("/run/chrony"), Path("/run/ntpd.pid"),
    Path("/run/ntpsec"), Path("/run/openntpd"),
)  # fmt: skip
"""What is there while a time service runs: systemd-timesyncd, chrony, ntpsec, openntpd."""


def clock_is_right(services: Iterable[Path] = TIME_SERVICES, mark: Path = MARK) -> bool:
    """Whether the clock may be believed, as far as that can be known.  Blocks.

    It may if the kernel says that it is in step, and where no time service runs that would set it:
    then there is no better one, and a late message without its time is of little use.
    """
    return bool(synchronised(mark)) or not any(path.exists() for path in services)


def uptime() -> float:
    """Return the seconds since the boot, with those of a suspended machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ArrivalClock:
    """The time at which messages arrive.

    wall: microseconds since the epoch.  uptime: seconds since the boot.  is_right: whether the
    clock may be believed; called on a thread.
    boot: another text at each boot; "" to read it.
    """

    def __init__(
        self,
        wall: Callable[[], int],
        uptime: Callable[[], float] = uptime,
        is_right: Callable[[], bool] = clock_is_right,
        boot: str = "",
    ) -> None:
        self._wall, self._uptime, self.is_right = wall, uptime, is_right
        self.right, self.boot_name = False, boot
        self._boot = 0
        self._began: dict[int, int] = {}

    def begin(self, boot: int, began: Mapping[int, int]) -> None:
        """Set the id of this boot; and when boots began, milliseconds since the epoch, if known."""
        self._boot, self._began = boot, dict(began)

    def now(self) -> tuple[int, int]:
        """Return a boot and the milliseconds since it began; or 0 and those since the epoch."""
        if self.right:
            return 0, self._wall() // 1000
        return self._boot, int(self._uptime() * 1000)

    def set_right(self) -> tuple[int, int]:
        """Believe the clock from now on; return this boot, and when it began, to be kept."""
        self.right = True
        began = self._began[self._boot] = self._wall() // 1000 - int(self._uptime() * 1000)
        return self._boot, began

    def time_of(self, boot: int, at: int) -> int:
        """Return the milliseconds since the epoch of what `now` has returned; 0: not known."""
        if boot == 0:
            return at
        began = self._began.get(boot, 0)
        return began + at if began else 0

    def age(self, boot: int, at: int) -> int:
        """Return the milliseconds since what `now` has returned; 0 or less where it is not known.

        The shorter of what both clocks say: the wall clock may be set, also by mistake.
        """
        arrived = self.time_of(boot, at)
        if not (self.right and arrived):
            return 0
        steady = self._began[self._boot] + int(self._uptime() * 1000)
        return min(self._wall() // 1000, steady) - arrived

    def is_older(self, boot: int, at: int, milliseconds: float) -> bool:
        """Whether more has passed since what `now` has returned, as `age` counts it."""
        if boot == 0 and self._wall() // 1000 - at <= milliseconds:
            return False  # of most: the other clock can only show less
        return self.age(boot, at) > milliseconds


def boot_name(path: Path = BOOT_ID) -> str:
    """Return a text that is another one at each boot; of this process, where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return f"process-{time.time_ns()}"


def digest_of(child: str, topic: str, payload: bytes) -> int:
    """Return a number that stands for a message."""
    name = f"\0{child}\0{topic}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(payload + name, digest_size=_DIGEST).digest(), "big")


class KnownPackets:
    """The newest packets of each door: what a broker sends again after a fault is stored once.

    seen: of an earlier run, oldest first.
    """

    def __init__(self, seen: Iterable[SeenPacket] = ()) -> None:
        self._newest: dict[int, int] = {}
        self._known: dict[int, dict[tuple[int, int], int]] = {}
        self._rings: dict[int, dict[int, SeenPacket]] = {}
        for one in seen:
            self._keep(one)

    def knows(self, door: int, packet: int, digest: int) -> bool:
        """Whether a door has received this packet before."""
        return (packet, digest) in self._known.get(door, ())

    def add(self, door: int, packet: int, digest: int) -> SeenPacket:
        """Know a packet from now on, in place of the oldest one of its door; return it."""
        one = SeenPacket(door, self._newest.get(door, 0) + 1, packet, digest)
        self._keep(one)
        return one

    def forget(self, door: int) -> bool:
        """Know no packet of a door any more; return whether there was one."""
        self._known.pop(door, None)
        return bool(self._rings.pop(door, None))

    def all(self) -> list[SeenPacket]:
        """Return all of them."""
        return [one for ring in self._rings.values() for one in ring.values()]

    def _keep(self, one: SeenPacket) -> None:
        ring, known = self._rings.setdefault(one.door, {}), self._known.setdefault(one.door, {})
        slot = one.number % RING
        before = ring.get(slot)
        if before is not None and known.get((before.packet, before.digest)) == before.number:
            del known[before.packet, before.digest]
        ring[slot] = one
        known[one.packet, one.digest] = one.number
        self._newest[one.door] = max(self._newest.get(one.door, 0), one.number)
