"""The whole on a fifth of one core: whether anything comes too late on a small gateway.

All processes of gatewayd are stopped for four fifths of each tenth of a second, by signals: any
machine can do so, without a control group and its rights.  It is harder than a quota, which does
not stop one that has rested meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from script.benchmarks.onboarding import Speed, onboard
from script.benchmarks.process import family
from script.benchmarks.stage import Stage, stage
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure

SHARE, PERIOD = 0.2, 0.1
"""Of a core, and the seconds in which it is had."""
WATCHDOG = 10.0
"""Seconds after which systemd would end gatewayd; its unit has 60."""
ROUTES = ("sub-device", "direct")
USUAL = Speed(8, 8)
LATE = ("RegistrationDelayed", "RegistrationUnknown", "StoreDelayed", "SessionDelayed",
        "SessionClosed")  # fmt: skip
"""Events of a child that had to wait: a cloud that throttles, or what timed out."""
_EVENT = re.compile(rf"Device \S+ is \S+ \(({'|'.join(LATE)})\)")


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Onboard so many on each route, by the product's own limits, once."""
    figures = []
    for route in ROUTES:
        async with stage(children, subjects[0], apart=True, route=route) as one:
            figures += await _figures(one, children, route)
    return figures


async def _figures(one: Stage, children: int, route: str) -> list[Figure]:
    os.environ["WATCHDOG_USEC"] = str(int(WATCHDOG * 1_000_000))
    try:
        with slowed(lambda: one.site.daemon.pid if one.site.daemon else 0):
            run = await onboard(one, one.site.plant["serials"], USUAL)
    finally:
        del os.environ["WATCHDOG_USEC"]
    late = Counter(_EVENT.findall(one.site.log()))
    note = ", ".join(f"{n} {event}" for event, n in late.most_common())
    return [
        Figure(f"{route} on a fifth of a core: {children} children, until all are online",
               run.seconds, "s", note=f"READY after {run.ready:.1f} s; {USUAL}"),
        Figure("  waits for a cloud, the store or a time-out", late.total(), "", 0, note),
        Figure("  longest wait of the watchdog", one.readiness.longest_wait, "s", WATCHDOG,
               f"fed {one.readiness.fed} times"),
    ]  # fmt: skip


@contextlib.contextmanager
def slowed(main: Callable[[], int]) -> Iterator[None]:
    """Let a process and all that it has started run for a fifth of the time.

    main: returns its id; 0 while there is none.
    By a thread: who calls gatewayd here waits for its answer, and lets no other task run.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_alternate, args=(main, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _alternate(main: Callable[[], int], ended: threading.Event) -> None:
    while not ended.is_set():
        pid = main()
        _signal(pid, signal.SIGSTOP)
        ended.wait(PERIOD * (1 - SHARE))
        _signal(pid, signal.SIGCONT)
        ended.wait(PERIOD * SHARE)


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process and all that it has started; 0: to none."""
    own = list[int]()
    with contextlib.suppress(OSError):  # one has ended meanwhile
        for one in family(pid) if pid else ():
            own.append(one)
    for one in own:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, number)
