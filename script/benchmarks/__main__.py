"""script/bench: measures gatewayd against its budgets, and prints one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from script.benchmarks import alibaba, dbus, fleet, huawei, lan, registration, secrets
from script.benchmarks.table import Figure, table

WHAT = ("dbus", "registration", "fleet", "rush", "flood", "alibaba", "huawei", "secrets")
RUSH, CHILDREN, MANY = 1000, 200, 2000

Measure = Callable[[], Awaitable[list[Figure]]]


def main() -> int:
    """Return 1 where something could not be measured; how fast the machine is does not matter."""
    options = _options()
    measures: Mapping[str, Measure] = {
        "dbus": dbus.measure,
        "registration": lambda: registration.measure(options.children or CHILDREN),
        "fleet": lambda: fleet.measure(options.fleet),
        "rush": lambda: lan.measure_rush(RUSH),
        "flood": lan.measure_flood,
        "alibaba": lambda: alibaba.measure(options.children or MANY),
        "huawei": lambda: huawei.measure(options.children or MANY),
        "secrets": secrets.measure,
    }
    chosen = {name: measures[name] for name in options.what or measures}
    began, load = time.perf_counter(), os.getloadavg()[0]
    try:
        figures, failed = asyncio.run(_all(chosen))
    except asyncio.CancelledError:
        return 1
    _say(_where(time.perf_counter() - began, load), "", table(figures))
    for name, why in failed.items():
        _say("", f"Could not be measured: {name}: {why}")
    return 1 if failed else 0


async def _all(measures: Mapping[str, Measure]) -> tuple[list[Figure], dict[str, str]]:
    """Measure one after the other; what was started is ended, also on SIGTERM."""
    task = asyncio.current_task()
    assert task is not None, "this runs in one"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    for name, measure in measures.items():
        try:
            figures += await measure()
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return figures, failed


def _where(seconds: float, load: float) -> str:
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.machine()}; "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after {seconds:.0f} s."
    )


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{', '.join(WHAT)}; default: all")
    parser.add_argument(
        "--children",
        type=int,
        help=f"onboarded by registration ({CHILDREN}), by each route of alibaba and as sub-devices "
        f"of huawei ({MANY}); by certificate, fewer",
    )
    parser.add_argument("--fleet", type=int, default=10_000, help="on record at the start (10000)")
    options = parser.parse_args()
    if unknown := set(options.what) - set(WHAT):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
