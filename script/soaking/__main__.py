"""script/soak: kills gatewayd while it registers children, and counts what is lost."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from script.soaking.campaign import Campaign
from script.soaking.kill_loop import KillTally

EVERY = 30.0
"""Seconds between two lines of progress."""


def main() -> int:
    """Return 1 where a secret was lost or a child is stranded."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as directory:
        campaign = Campaign(Path(directory), options.kills, options.at_once, options.seed)
        began = time.monotonic()
        try:
            asyncio.run(_watched(campaign))
        except ExceptionGroup as group:
            _say(f"The campaign failed: {'; '.join(map(str, group.exceptions))}")
            return 2
        _say(*report(campaign.tally, time.monotonic() - began))
    return 1 if campaign.tally.lost or campaign.tally.stranded else 0


def report(tally: KillTally, seconds: float) -> list[str]:
    """Return the figures, a line for each."""
    return [
        f"{tally.kills:>8,} kills by SIGKILL, {tally.kills / seconds:.1f} a second",
        f"{tally.amid:>8,} of them with a child between its first intent and its activation",
        f"{tally.starts:>8,} starts",
        f"{tally.registered:>8,} children registered and activated",
        f"{tally.issued:>8,} secrets issued by the cloud",
        f"{tally.issued - tally.acknowledged:>8,} of them never reached the disk: issued again",
        f"{tally.acknowledged:>8,} acknowledged",
        f"{len(tally.lost):>8,} acknowledged secrets lost",
        f"{len(tally.stranded):>8,} activated children stranded",
        *sorted(tally.lost),
        *sorted(tally.stranded),
    ]


async def _watched(campaign: Campaign) -> None:
    """Run, and show the progress; what was started is stopped, also on SIGTERM."""
    task = asyncio.current_task()
    assert task is not None, "this runs in one"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    progress = asyncio.create_task(_show_progress(campaign))
    try:
        await campaign.run()
    finally:
        progress.cancel()


async def _show_progress(campaign: Campaign) -> None:
    while True:
        await asyncio.sleep(EVERY)
        _say(f"… {campaign.tally.kills:,} kills, {len(campaign.tally.lost)} secrets lost so far")


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--at-once", type=int, default=3, help="gatewayds side by side (3)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (1)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
