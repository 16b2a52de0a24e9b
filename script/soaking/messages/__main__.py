"""python3 -m script.soaking.messages: kills and power cuts, more than a test has time for."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from gatewayd.errors import GatewayError
from script.soaking.messages import fleet
from script.soaking.messages.cuts import judge_messages, message_cuts
from script.soaking.messages.door_kills import DoorTally, kill_brokers, kill_doors
from script.soaking.messages.fleet import FleetTally
from script.soaking.messages.gateway import kill_gateways
from script.soaking.messages.kill_loop import MessageTally, kill_relays
from script.soaking.powercut import trace
from script.soaking.powercut.cuts import scratch

FLEET_VALUES = 5
"""Messages of each child of a fleet."""


def main() -> int:
    """Return 1 where a law was broken."""
    parser = argparse.ArgumentParser(prog="soak messages", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how many (300)")
    parser.add_argument("--door-kills", type=int, default=300, help="of a door's process (300)")
    parser.add_argument("--broker-kills", type=int, default=50, help="of its broker (50)")
    parser.add_argument("--gateways", type=int, default=100, help="of gatewayd itself (100)")
    parser.add_argument("--cuts", type=int, default=2000, help="of the power, how many (2000)")
    parser.add_argument("--fleet", type=int, default=2000, help="children of a gateway (2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    options = parser.parse_args()
    tallies: list[MessageTally | DoorTally] = [
        _kill_all("a relay", kill_relays, options.kills, options.seed),
        _kill_all(
            "gatewayd, from a site's broker to a cloud",
            kill_gateways,
            options.gateways,
            options.seed,
        ),
        _kill(kill_doors, options.door_kills, options.seed),
        _kill(kill_brokers, options.broker_kills, options.seed),
    ]
    with scratch() as memory:
        broken = asyncio.run(_cuts(memory, options.cuts, options.seed))
    _say(f"{options.cuts:>8,} power cuts", f"{len(broken):>8,} laws broken", *broken)
    fleets = [_speak(cloud, options.fleet) for cloud in fleet.FLEETS]
    return 1 if broken or any(one.wrong for one in (*tallies, *fleets)) else 0


def _kill_all(
    of: str,
    campaign: Callable[[Path, int, int], Coroutine[Any, Any, MessageTally]],
    kills: int,
    seed: int,
) -> MessageTally:
    """Run a campaign up to the cloud, and print its figures."""
    # short, as the path of a socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        tally = asyncio.run(campaign(Path(directory), kills, seed))
    _say(
        f"{tally.kills:>8,} kills of {of}",
        f"{tally.acknowledged:>8,} messages acknowledged",
        f"{tally.received:>8,} received by the cloud",
        f"{tally.repeats:>8,} of them once more: they were under way, or just accepted",
        f"{len(tally.wrong):>8,} lost, stored twice or out of order",
        *tally.wrong,
    )
    return tally


def _speak(cloud: str, children: int) -> FleetTally:
    """Have a fleet speak at a cloud's limits, and print its figures."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as directory:
        tally = asyncio.run(fleet.run(cloud, Path(directory), children, FLEET_VALUES))
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


def _kill(
    campaign: Callable[[Path, int, int], Coroutine[Any, Any, DoorTally]], kills: int, seed: int
) -> DoorTally:
    """Run a campaign against a real broker, and print its figures."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as directory:
        tally = asyncio.run(campaign(Path(directory), kills, seed))
    of_broker = campaign is kill_brokers
    _say(
        f"{tally.kills:>8,} kills of a {'broker' if of_broker else 'door'}",
        f"{tally.acknowledged:>8,} messages acknowledged to publishers",
        f"{tally.stored:>8,} stored, also such as publishers sent twice",
    )
    if of_broker:
        _say(
            f"{tally.receipts:>8,} receipts",
            f"{tally.lost:>8,} acknowledged by the broker, without a receipt, and lost with it",
        )
    _say(f"{len(tally.wrong):>8,} lost, stored twice or out of order", *tally.wrong)
    return tally


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


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
