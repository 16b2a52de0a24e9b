"""script/attack: fuzzes every parser of foreign bytes, or plays what strangers can do."""

from __future__ import annotations

import argparse
import base64
import logging
import os
import random
import subprocess
import sys
from collections.abc import Sequence

from script.attacking.fuzzer import Campaign, Parser
from script.attacking.parsers import parsers
from script.attacking.situations import TOP, play


def main(words: Sequence[str]) -> int:
    """Run what is asked for; return the exit status: 1 where anything was found."""
    options = _parser().parse_args(words)
    if options.what == "situations":
        return play(options.only)
    if options.what == "booted":
        return _attack_booted(options.only)
    logging.disable()  # what a parser logs of each input says nothing here
    chosen = [one for one in parsers() if options.only in one.name]
    crashes = sum(_fuzz(one, options.seconds, options.seed) for one in chosen)
    print(f"{len(chosen)} parsers, {crashes} crashes; seed {options.seed}.")
    return 1 if crashes else 0


def _attack_booted(only: str) -> int:
    """Boot a gateway of each release, and attack it; the figures of each attack are printed."""
    tests = [sys.executable, "-m", "pytest", "-s", "-q", "tests/system/test_attacks.py"]
    print(f"Load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.", flush=True)
    return subprocess.run([*tests, "--attacks", only], cwd=TOP, check=False).returncode


def _fuzz(parser: Parser, seconds: float, seed: int) -> int:
    """Run one campaign, print its figures and what it has found; return the number of crashes."""
    campaign = Campaign(parser, random.Random(seed))
    campaign.run(seconds)
    print(
        f"{parser.name:45} {campaign.inputs:>9} inputs {len(campaign.corpus):>5} kept "
        f"{campaign.edges:>5} steps {len(campaign.crashes):>3} crashes",
        flush=True,
    )
    for crash in campaign.crashes:
        print(f"    {crash.what}\n    {base64.b64encode(crash.data).decode()}", flush=True)
    return len(campaign.crashes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/attack", description=__doc__)
    what = ("parsers", "situations", "booted")
    parser.add_argument("what", nargs="?", choices=what, default=what[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name has this text")
    parser.add_argument(
        "--seconds", type=float, default=600.0,
        help="processor time for each parser (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 32),
        help="repeats a campaign",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
