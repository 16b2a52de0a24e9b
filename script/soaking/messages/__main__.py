"""python3 -m script.soaking.messages: kills and power cuts, more than a test has time for."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from gatewayd.errors import GatewayError
from script.soaking.messages.cuts import judge_messages, message_cuts
from script.soaking.messages.kill_loop import kill_relays
from script.soaking.powercut import trace
from script.soaking.powercut.cuts import scratch


def main() -> int:
    """Return 1 where a law was broken."""
    parser = argparse.ArgumentParser(prog="soak messages", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how many (300)")
    parser.add_argument("--cuts", type=int, default=2000, help="of the power, how many (2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as directory:
        tally = asyncio.run(kill_relays(Path(directory), options.kills, options.seed))
    _say(
        f"{tally.kills:>8,} kills by SIGKILL",
        f"{tally.acknowledged:>8,} messages acknowledged",
        f"{tally.received:>8,} received by the cloud",
        f"{tally.repeats:>8,} of them once more: they were under way, or just accepted",
        f"{len(tally.wrong):>8,} lost, stored twice or out of order",
        *tally.wrong,
    )
    with scratch() as memory:
        broken = asyncio.run(_cuts(memory, options.cuts, options.seed))
    _say(f"{options.cuts:>8,} power cuts", f"{len(broken):>8,} laws broken", *broken)
    return 1 if tally.wrong or broken else 0


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
