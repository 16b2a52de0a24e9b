"""script/bench: measures gatewayd against its budgets, and prints one table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from script.benchmarks import (
    alibaba,
    broker,
    dbus,
    fleet,
    huawei,
    lan,
    messages,
    registration,
    secrets,
    small,
)
from script.benchmarks.plot import Parts, picture
from script.benchmarks.subject import Subject, subjects
from script.benchmarks.table import Figure, facts, read_parts, table

WHAT = (
    "dbus",
    "registration",
    "fleet",
    "rush",
    "sources",
    "flood",
    "alibaba",
    "growth",
    "huawei",
    "mqtt",
    "secrets",
    "messages",
    "small",
)
USUAL = tuple(name for name in WHAT if name not in ("growth", "small"))
"""What is measured unless it is named: the others take minutes."""
RUSH, CHILDREN, MANY = 1000, 200, 2000

LONGEST = 900.0
"""Seconds of one part for each subject; a longer one could not be measured."""

Measure = Callable[[Sequence[Subject]], Awaitable[list[Figure]]]


def main() -> int:
    """Return 1 where something could not be measured; how fast the machine is does not matter."""
    options = _options()
    if options.drawn_from:
        earlier = [json.loads(file.read_text()) for file in options.drawn_from]
        figures = [fact for one in earlier for fact in one["figures"]]
        _draw(options.plot, read_parts(figures), *map(_where_of, earlier))
        return 0
    children, many = options.children or CHILDREN, options.children or MANY
    measures: Mapping[str, Measure] = {
        "dbus": lambda _: dbus.measure(),
        "registration": lambda them: registration.measure(children, them),
        "fleet": lambda them: fleet.measure(options.fleet, them),
        "rush": lambda _: lan.measure_rush(RUSH),
        "sources": lambda _: lan.measure_sources(RUSH),
        "flood": lambda _: lan.measure_flood(),
        "alibaba": lambda them: alibaba.measure(many, them),
        "growth": alibaba.measure_growth,
        "huawei": lambda them: huawei.measure(many, them),
        "mqtt": lambda them: broker.measure(many, them),
        "secrets": lambda _: secrets.measure(),
        "messages": lambda _: messages.measure(children),
        "small": lambda them: small.measure(children, them),
    }
    chosen = {name: measures[name] for name in options.what or USUAL}
    began, load = time.perf_counter(), os.getloadavg()[0]
    try:
        found = asyncio.run(_all(chosen, options.against))
    except asyncio.CancelledError:
        return 1
    except RuntimeError as error:
        _say(f"Nothing could be measured: {error}")
        return 1
    where = _where(time.perf_counter() - began, load)
    _say(where, "", table(found.figures, options.against))
    for name, why in found.failed.items():
        _say("", f"Could not be measured: {name}: {why}")
    if options.json:
        head = {"where": where, "against": options.against}
        figures = [
            {"part": name} | fact for name, them in found.parts.items() for fact in facts(them)
        ]
        body = {"seconds": found.seconds, "failed": found.failed, "figures": figures}
        text = json.dumps(head | body, indent=1, ensure_ascii=False)
        options.json.write_text(f"{text}\n")
    if options.plot:
        _draw(options.plot, found.parts, where)
    return 1 if found.failed else 0


def _where_of(run: Mapping[str, Any]) -> str:
    """Return what an earlier run has measured, and on what."""
    return f"{', '.join(dict.fromkeys(fact['part'] for fact in run['figures']))}: {run['where']}"


def _draw(to: Path, parts: Parts, *where: str) -> None:
    to.write_text(picture(parts, *where))
    _say("", f"Drawn: {to}")


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured, by part.

    seconds: of each part.  failed: why a part could not be measured.
    """

    parts: dict[str, list[Figure]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> list[Figure]:
        """All that was measured, in order."""
        return [one for part in self.parts.values() for one in part]


async def _all(measures: Mapping[str, Measure], against: str) -> Found:
    """Measure one after the other; what was started is ended, also on SIGTERM.

    against: the revision to compare with; "" for none.  Raises RuntimeError for an unknown one.
    """
    task = asyncio.current_task()
    assert task is not None, "this runs in one"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    found = Found()
    async with subjects(against) as them:
        for name, measure in measures.items():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(LONGEST * len(them)):
                    found.parts[name] = await measure(them)
            except (OSError, RuntimeError, LookupError, ValueError) as error:
                why = str(error) or f"it takes longer than {LONGEST * len(them):.0f} s"
                found.failed[name] = f"{type(error).__name__}: {why}"
            found.seconds[name] = round(time.perf_counter() - began, 1)
    return found


def _where(seconds: float, load: float) -> str:
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.machine()}; "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after {seconds:.0f} s."
    )


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "what", nargs="*", help=f"{', '.join(WHAT)}; default: all but growth and small"
    )
    parser.add_argument(
        "--children",
        type=int,
        help=f"onboarded by registration ({CHILDREN}), and as sub-devices of alibaba ({MANY}); "
        "directly, at huawei, at a broker and by certificate, fewer",
    )
    parser.add_argument("--fleet", type=int, default=10_000, help="on record at the start (10000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them there, too")
    parser.add_argument(
        "--from",
        dest="drawn_from",
        type=Path,
        nargs="+",
        metavar="FILE.json",
        help="measure nothing: draw what earlier runs have written by --json",
    )
    parser.add_argument(
        "--against",
        default="",
        metavar="REV",
        help="run the daemon of this revision, too, round by round: registration, fleet, alibaba, "
        "huawei and mqtt",
    )
    options = parser.parse_args()
    if unknown := set(options.what) - set(WHAT):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.drawn_from and not options.plot:
        parser.error("--from needs --plot")
    return options


if __name__ == "__main__":
    sys.exit(main())
