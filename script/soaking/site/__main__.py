"""script/soak site: kills, pauses and cuts at a site of several gateways that share etcd.

Each of them, each member of etcd and the plant has a network namespace of its own; needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from script.soaking.site.campaign import SiteCampaign, SiteFigures, SiteOptions
from script.soaking.site.clouds import CLOUDS
from script.soaking.site.laws import MOST, SiteVerdict

DISK = Path("/var/tmp")  # noqa: S108  # what is made there is private
"""Where the directories are: /tmp may be in memory, and fsync there costs nothing."""
MOST_SHOWN = 20
"""Offences of one kind that are printed."""
LAWS = {
    "lower": "CONNECT or PUBLISH by a lower token after a CONNECT by a higher one",
    "without": "CONNECT or PUBLISH by who held no token",
    "needless": "registrations of a child whose secret was durable",
    "lost": "secrets lost: no login after the last start, or one refused",
    "late": "not served in time: 45 s, 75 s with etcd's leader, 60 s after all",
    "crowded": f"placements with more than {MOST:.0%} at one gateway",
    "restless": "children that connected more than once after a return",
}


def main() -> int:
    """Return 1 where a law was broken."""
    options = _options()
    # The kernel hangs up on a process group that has stopped members when its shell ends.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        directory = options.directory or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="gatewayd-site-", dir=DISK)
        )
        asked = SiteOptions(
            options.children, options.gateways, options.faults, options.seed, options.late,
            until=options.minutes * 60, rest=options.rest, period=options.period,
            cloud=options.cloud, announced=not options.listed,
        )  # fmt: skip
        campaign = SiteCampaign(Path(directory), asked, _say)
        began = time.monotonic()
        verdict = asyncio.run(_until_ended(campaign))
        _say(*report(verdict, campaign.figures, time.monotonic() - began))
    return 1 if verdict.offences else 0


async def _until_ended(campaign: SiteCampaign) -> SiteVerdict:
    """Play the campaign; what was started is stopped on SIGTERM, too."""
    task = asyncio.current_task()
    assert task is not None, "this runs in one"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await campaign.run()


def report(verdict: SiteVerdict, figures: SiteFigures, seconds: float) -> list[str]:
    """Return the figures, a line for each, and the laws with what broke them."""
    rest, shares = figures.rest, verdict.shares
    fsync = ", ".join(f"{part:.1%} in {limit * 1000:.0f} ms" for limit, part in figures.fsync)
    return [
        f"{verdict.faults.total():>8,} faults in {verdict.epochs:,} epochs, in {seconds:,.0f} s",
        *(f"{count:>16,} {kind}" for kind, count in sorted(verdict.faults.items())),
        f"{verdict.connects:>8,} CONNECTs at the cloud, {verdict.said:,} PUBLISHes",
        f"{verdict.registrations:>8,} registrations, {verdict.tokens:,} tokens",
        *_moves(verdict),
        f"{max(shares, default=0):>8.0%} of all children at one gateway, in {len(shares)} cases",
        f"{verdict.returns:>8,} returns of a gateway whose children were all served elsewhere",
        f"{figures.up:>8.0f} s until all children were online first",
        f"{rest.bytes:>8,.0f} bytes and {rest.requests:.2f} requests a second to etcd, at rest",
        f"{figures.memory / 1e6:>8.0f} MB resident, the largest etcd; fsync of its log: {fsync}",
        *_verdicts(verdict),
    ]


def _moves(verdict: SiteVerdict) -> Iterator[str]:
    """Yield how long it took from the fault of an owner to the session at another."""
    for kind, took in sorted(verdict.moved.items()):
        middle, most = sorted(took)[len(took) // 2], max(took)
        yield f"{len(took):>8,} children moved after {kind}: {middle:.1f} s, {most:.1f} s at most"


def _verdicts(verdict: SiteVerdict) -> Iterator[str]:
    for name, law in LAWS.items():
        offences: Sequence[str] = getattr(verdict, name)
        yield f"{len(offences):>8,} {law}"
        yield from (f"           {one}" for one in offences[:MOST_SHOWN])


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak site", description=__doc__)
    parser.add_argument("--children", type=int, default=300, help="how many (300)")
    parser.add_argument("--late", type=int, default=0, help="more, that come amid faults (0)")
    parser.add_argument("--gateways", type=int, default=3, help="how many (3)")
    parser.add_argument("--faults", type=int, default=1000, help="how many, at least (1000)")
    parser.add_argument("--seed", type=int, default=1, help="of what is chosen (1)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="no fault begins after so many"
    )
    parser.add_argument(
        "--rest", type=float, default=60.0, help="seconds of measuring at rest, first (60)"
    )
    parser.add_argument(
        "--period", type=float, default=30.0, help="seconds between messages of a child (30)"
    )
    help_ = "where children are: at Alibaba directly, or behind the gateways' own name; at Huawei "
    help_ += "by certificate; at a broker by password (alibaba)"
    parser.add_argument("--cloud", choices=[*CLOUDS], default="alibaba", help=help_)
    parser.add_argument(
        "--directory", help="empty directory for all files, which stay (default: none stays)"
    )
    parser.add_argument(
        "--listed", action="store_true", help="gateways list the children: for thousands of them"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
