"""script/attack: fuzzes every parser of foreign bytes, or plays what strangers can do."""

from __future__ import annotations

import argparse
import base64
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from script.attacking.dead_cloud import measure
from script.attacking.fuzzer import Campaign, Parser
from script.attacking.parsers import parsers
from script.attacking.situations import TOP, play
from script.attacking.tally import Effort, Tally

SLICE = 10.0
"""Seconds of processor time after which a tally is written."""


def main(words: Sequence[str]) -> int:
    """Run what is asked for; return the exit status: 1 where anything was found."""
    options = _parser().parse_args(words)
    if options.what == "situations":
        return play(options.only)
    if options.what == "booted":
        return _attack_booted(options.only)
    if options.what == "clouds":
        return measure()
    chosen = [one for one in parsers() if any(text in one.name for text in options.only)]
    if options.list:
        print("\n".join(one.name for one in chosen))
        return 0
    logging.disable()  # what a parser logs of each input says nothing here
    tally = Tally(options.tally)
    crashes = sum(_fuzz(one, options.seconds, options.seed, tally) for one in chosen)
    spent = sum(tally.of(one.name).seconds for one in chosen)
    print(f"{len(chosen)} parsers, {spent:.0f} s, {crashes} crashes; seed {options.seed}.")
    return 1 if crashes else 0


def _attack_booted(only: Sequence[str]) -> int:
    """Boot a gateway of each release, and attack it; the figures of each attack are printed."""
    tests = [sys.executable, "-m", "pytest", "-s", "-q", "tests/system/test_attacks.py"]
    chosen = (f"--attacks={text}" for text in only)
    print(f"Load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.", flush=True)
    return subprocess.run([*tests, *chosen], cwd=TOP, check=False).returncode


def _fuzz(parser: Parser, seconds: float, seed: int, tally: Tally) -> int:
    """Fuzz a parser until its tally has so many seconds of processor time; return its crashes.

    Prints the figures of all its runs, and what this one has found.
    """
    campaign, kept = Campaign(parser, random.Random(seed)), Effort()
    while tally.of(parser.name).seconds < seconds:
        began = time.process_time()
        campaign.run(min(SLICE, seconds - tally.of(parser.name).seconds))
        now = Effort(time.process_time() - began, campaign.inputs, len(campaign.crashes))
        tally.add(parser.name, replace(
            now, inputs=now.inputs - kept.inputs, crashes=now.crashes - kept.crashes
        ))  # fmt: skip
        kept = now
    whole = tally.of(parser.name)
    print(
        f"{parser.name:45} {whole.seconds:6.1f} s {whole.inputs:>9} inputs "
        f"{len(campaign.corpus):>5} kept {campaign.edges:>5} steps {whole.crashes:>3} crashes",
        flush=True,
    )
    for crash in campaign.crashes:
        print(f"    {crash.what}\n    {base64.b64encode(crash.data).decode()}", flush=True)
    return whole.crashes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/attack", description=__doc__)
    what = ("parsers", "situations", "booted", "clouds")
    parser.add_argument("what", nargs="?", choices=what, default=what[0])
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT",
        help="those whose names have one of these texts",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the names of the parsers alone")
    parser.add_argument(
        "--seconds", type=float, default=600.0,
        help="processor time for each parser (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--tally", type=Path, metavar="FILE",
        help="add up what is done in a file: the seconds are those of all runs together",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 32),
        help="repeats a campaign",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
