"""A clock that runs faster for all parts of a site, and not for the campaign (faketime(1)).

The campaign's limits are of real time: a part needs the processor for a while to start, however
fast its clock is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gatewayd.simulator.site import run

_PRELOAD = "SOAK_PARTS_PRELOAD"
"""The environment variable for the library that parts are run with."""
_SHARED = "FAKETIME_SHARED"
"""That of faketime: the names of a semaphore and of shared memory, by which all have one clock."""
_MEMORY = Path("/dev/shm")  # noqa: S108  # where glibc has them (shm_open(3)); none is made here
_ALL = 0o666
_HOUR = 3600.0


def with_fast_clock(command: Sequence[str], speed: float) -> list[str]:
    """Return a command that runs a campaign with a clock for its parts, so many times as fast."""
    keep = f'{_PRELOAD}=$LD_PRELOAD; export {_PRELOAD}; unset LD_PRELOAD; exec "$@"'
    return ["faketime", "-f", f"+0 x{speed:g}", "sh", "-c", keep, "sh", *command]


class PartsClock:
    """The clock of the parts of a site.  prefix: of the command that runs a part.

    environ: of the campaign; without what `with_fast_clock` puts there, the clock is the machine's.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        preload = environ.get(_PRELOAD, "")
        self.prefix = ("env", f"LD_PRELOAD={preload}") if preload else ()
        if preload:
            semaphore, memory = environ[_SHARED].split()
            for name in (f"sem.{semaphore.strip('/')}", memory.strip("/")):
                (_MEMORY / name).chmod(_ALL)  # gatewayd's own broker is another user

    async def hours(self) -> float:
        """Return the hours since the epoch."""
        shown = await run(*self.prefix, sys.executable, "-c", "import time; print(time.time())")
        return float(shown) / _HOUR
