"""python3 -m script.soaking.powercut: many power cuts, more than a test has time for."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from gatewayd.errors import GatewayError
from script.soaking.powercut import trace
from script.soaking.powercut.cuts import cuts, judge, scratch


def main() -> int:
    """Return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=20_000, help="how many (20000)")
    parser.add_argument("--seed", type=int, default=1, help="of what is left each time (1)")
    options = parser.parse_args()
    with scratch() as directory:
        broken = asyncio.run(_all(directory, options.cuts, options.seed))
    sys.stdout.write(f"{options.cuts:>8,} power cuts\n{len(broken):>8,} promises broken\n")
    sys.stdout.write("".join(f"{text}\n" for text in broken))
    return 1 if broken else 0


async def _all(directory: Path, number: int, seed: int) -> list[str]:
    state = directory / "state"
    state.mkdir(mode=0o700)
    library = trace.build(directory)
    operations = trace.record(library, state, "script.soaking.powercut.workload")
    sys.stdout.write(f"{len(operations):>8,} operations recorded\n")
    found = []
    for cut in cuts(operations, number, seed):
        try:
            found += await judge(cut, directory / "cut")
        except GatewayError as error:
            found.append(f"after {cut.after}: it does not open: {error}")
    return found


if __name__ == "__main__":
    sys.exit(main())
