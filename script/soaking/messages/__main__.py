"""script/soak messages: kills and power cuts while children speak, more than a test can take."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gatewayd.errors import GatewayError
from script.soaking.messages import fleet
from script.soaking.messages.cuts import judge_messages, message_cuts
from script.soaking.messages.door_kills import DoorTally, kill_brokers, kill_doors
from script.soaking.messages.fast_clock import PartsClock, with_fast_clock
from script.soaking.messages.fleet import FleetTally
from script.soaking.messages.gateway import WAYS, kill_gateways
from script.soaking.messages.kill_loop import MessageTally, kill_relays
from script.soaking.messages.outages import let_fail
from script.soaking.messages.silence import be_silent
from script.soaking.powercut import trace
from script.soaking.powercut.cuts import scratch

Tally = TypeVar("Tally")
MOST_GAPS = 50
"""Gaps in what the cloud has that are printed."""
FLEET_VALUES = 5
"""Messages of each child of a fleet."""


def main() -> int:
    """Return 1 where a law was broken."""
    options = _options()
    parts: dict[str, Callable[[argparse.Namespace], Iterator[bool]]] = {
        "relay": _relays,
        "gateway": _gateways,
        "door": _doors,
        "broker": _brokers,
        "cuts": _power_cuts,
        "fleet": _fleets,
        "silence": _silence,
        "outages": _outages,
        "days": _days,
    }
    if unknown := set(options.parts) - set(parts):
        _say(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
        return 2
    # each is played, also after one has found something
    held = [ok for name in options.parts or parts for ok in parts[name](options)]
    return 0 if all(held) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak messages", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        help="relay, gateway, door, broker, cuts, fleet, silence, outages, days; default: all",
    )
    parser.add_argument("--kills", type=int, default=300, help="of a relay (300)")
    parser.add_argument("--gateways", type=int, default=300, help="of gatewayd, a cloud (300)")
    parser.add_argument("--door-kills", type=int, default=300, help="of a door's process (300)")
    parser.add_argument("--broker-kills", type=int, default=50, help="of its broker (50)")
    parser.add_argument("--cuts", type=int, default=2000, help="of the power, how many (2000)")
    parser.add_argument("--fleet", type=int, default=2000, help="children of a gateway (2000)")
    parser.add_argument("--silence", type=float, default=600, help="of silent hosts, s (600)")
    parser.add_argument("--minutes", type=float, default=60, help="of outages (60)")
    parser.add_argument("--days", type=float, default=2, help="of outages with a fast clock (2)")
    parser.add_argument("--speed", type=float, default=60, help="of that clock (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    return parser.parse_args()


def _relays(options: argparse.Namespace) -> Iterator[bool]:
    yield _kill_all("a relay", partial(kill_relays, kills=options.kills, seed=options.seed))


def _gateways(options: argparse.Namespace) -> Iterator[bool]:
    """Kill gatewayd at each cloud, as often by each of its routes."""
    for cloud, routes in WAYS.items():
        kills = options.gateways // len(routes)
        for route in routes:
            campaign = partial(
                kill_gateways, kills=kills, seed=options.seed, cloud=cloud, route=route
            )
            yield _kill_all(f"gatewayd, from a site's broker to {cloud} {route}".rstrip(), campaign)


def _kill_all(of: str, campaign: Callable[[Path], Coroutine[Any, Any, MessageTally]]) -> bool:
    """Run a campaign up to the cloud, and print its figures; return whether the laws held."""
    began = time.monotonic()
    tally = _played(campaign)
    _say(
        f"{tally.kills:>8,} kills of {of}, in {time.monotonic() - began:.0f} s",
        f"{tally.acknowledged:>8,} messages acknowledged",
        f"{tally.received:>8,} received by the cloud",
        f"{tally.repeats:>8,} of them once more: they were under way",
        f"{len(tally.wrong):>8,} lost, out of order, or repeated needlessly",
        *tally.wrong,
    )
    return not tally.wrong


def _doors(options: argparse.Namespace) -> Iterator[bool]:
    yield _kill("a door", kill_doors, options.door_kills, options.seed)


def _brokers(options: argparse.Namespace) -> Iterator[bool]:
    yield _kill("a broker", kill_brokers, options.broker_kills, options.seed)


def _kill(
    of: str,
    campaign: Callable[[Path, int, int], Coroutine[Any, Any, DoorTally]],
    kills: int,
    seed: int,
) -> bool:
    """Run a campaign against a real broker, and print its figures; return whether the laws held."""
    tally = _played(lambda directory: campaign(directory, kills, seed))
    _say(
        f"{tally.kills:>8,} kills of {of}",
        f"{tally.acknowledged:>8,} messages acknowledged to publishers",
        f"{tally.stored:>8,} stored, also such as publishers sent twice",
    )
    if tally.receipts:
        _say(
            f"{tally.receipts:>8,} receipts",
            f"{tally.lost:>8,} acknowledged by the broker, without a receipt, and lost with it",
        )
    _say(f"{len(tally.wrong):>8,} lost, stored twice or out of order", *tally.wrong)
    return not tally.wrong


def _power_cuts(options: argparse.Namespace) -> Iterator[bool]:
    with scratch() as memory:
        broken = asyncio.run(_cuts(memory, options.cuts, options.seed))
    _say(f"{options.cuts:>8,} power cuts", f"{len(broken):>8,} laws broken", *broken)
    yield not broken


async def _cuts(directory: Path, number: int, seed: int) -> list[str]:
    state = directory / "state"
    state.mkdir(mode=0o700)
    library = trace.build(directory)
    operations = trace.record(library, state, "script.soaking.messages.workload")
    _say(f"{len(operations):>8,} operations recorded")
    found = []
    for cut in message_cuts(operations, number, seed):
        try:
            found += await judge_messages(cut, directory / "cut")
        except GatewayError as error:
            found.append(f"after {cut.after}: it does not open: {error}")
    return found


def _fleets(options: argparse.Namespace) -> Iterator[bool]:
    for cloud in fleet.FLEETS:
        yield not _speak(cloud, options.fleet).wrong


def _speak(cloud: str, children: int) -> FleetTally:
    """Have a fleet speak at a cloud's limits, and print its figures."""
    tally = _played(lambda directory: fleet.run(cloud, directory, children, FLEET_VALUES))
    _say(
        f"{children:>8,} children behind a gateway at {cloud}, cut off once meanwhile",
        f"{tally.said:>8,} messages, all at once",
        f"{tally.arrived:>8,} at the cloud after {tally.seconds:.0f} s",
        f"{tally.repeats:>8,} of them once more: they were under way",
        f"{tally.peak:>8,.0f} MB at most, cloud included; {tally.before:.0f} MB before",
        f"{len(tally.wrong):>8,} lost, out of order or discarded",
        *tally.wrong,
    )
    return tally


def _silence(options: argparse.Namespace) -> Iterator[bool]:
    tally = asyncio.run(be_silent(options.silence))
    _say(
        f"{tally.tried:>8,} silent connections tried from one address, in {options.silence:.0f} s",
        f"{tally.most:>8,} of them open at a time, at most",
        f"{tally.connected:>8,} times a known child has connected and published meanwhile",
        f"{tally.longest:>8.2f} s that took, at most",
        f"{len(tally.wrong):>8,} times it could not, or one address had too many",
        *tally.wrong,
    )
    yield not tally.wrong


def _outages(options: argparse.Namespace) -> Iterator[bool]:
    clock = PartsClock(os.environ)
    tally = _played(lambda directory: let_fail(directory, options.minutes, options.seed, clock))
    _say(
        f"{tally.hours:>8.1f} hours by the clock of the parts",
        f"{sum(tally.outages.values()):>8,} outages in {options.minutes:.0f} minutes: "
        + ", ".join(f"{count} times {name}" for name, count in sorted(tally.outages.items())),
        f"{tally.acknowledged:>8,} messages acknowledged",
        f"{tally.received:>8,} received by the cloud",
        f"{tally.missing:>8,} never came",
        *tally.gaps[:MOST_GAPS],
        f"{sum(tally.dropped.values()):>8,} dropped and counted: {dict(tally.dropped)}",
        f"{tally.memory:>8,.0f} MB of gatewayd, at most",
        f"{len(tally.wrong):>8,} laws broken",
        *tally.wrong,
    )
    yield not tally.wrong


def _days(options: argparse.Namespace) -> Iterator[bool]:
    """Play outages once more, with one clock for all parts that runs faster."""
    command = [
        sys.executable, "-m", "script.soaking.messages", "outages",
        "--minutes", str(options.days * 24 * 60 / options.speed), "--seed", str(options.seed),
    ]  # fmt: skip
    command = with_fast_clock(command, options.speed)
    yield subprocess.run(command, check=False).returncode == 0


def _played(campaign: Callable[[Path], Coroutine[Any, Any, Tally]]) -> Tally:
    """Run a campaign in a directory of its own; return its figures."""
    # short, as the path of a socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        return asyncio.run(campaign(Path(directory)))


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
