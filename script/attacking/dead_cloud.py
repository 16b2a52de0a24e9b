"""How long the children of a healthy cloud take beside a dead one, and alone, by real daemons.

One daemon for each case runs side by side with the others, each in a network of its own, and all
begin in the same moment: what else the machine does makes all of them slower alike.  So a verdict
needs no idle machine; on a busy one it takes more rounds.

python -m script.attacking.dead_cloud HOW plays one case: it prints "ready", waits for a line on
its input, and prints the seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from gatewayd.simulator.site import Site
from tests.support.dead_cloud import NAMES, TLS, add_dead_cloud

TENTH = 1.1
"""The healthy cloud's children may take so many times what they take alone."""
MANY = ("--children", "0", "--late", "160", "--seed", "7")
"""About half of them are the healthy cloud's."""
ROUNDS = 20
"""After so many no verdict is expected any more."""
DOUBT = 0.02
"""How likely a look at the rounds so far may be wrong by chance; there is one after each round."""
ALONE = "alone"
HOW = {NAMES: "beside a cloud whose name is not answered", TLS: "beside one that answers no TLS"}
READY = "ready"
PATIENCE = 300.0
"""Seconds in which the children are online, on a machine that does much else."""
_LOOK = 0.05

_TOP = Path(__file__).parents[2]


def measure() -> int:
    """Print what each case takes; return the exit status: 1 unless a dead cloud costs nothing."""
    rounds: list[Mapping[str, float]] = []
    verdicts: dict[str, bool | None] = dict.fromkeys(HOW)
    for _ in range(ROUNDS):
        if (played := _play_side_by_side()) is None:
            print("A round did not begin, and does not count.", flush=True)
            continue
        rounds.append(played)
        shown = ", ".join(f"{how} {played[how]:.2f} s" for how in (ALONE, *HOW))
        print(f"Round {len(rounds)}: {shown}.", flush=True)
        verdicts = {how: verdict(_ratios(rounds, how)) for how in HOW}
        if None not in verdicts.values():
            break
    if not rounds:
        return 1
    alone = statistics.median(one[ALONE] for one in rounds)
    print(f"{ALONE:45} {alone:5.2f} s  in {len(rounds)} rounds", flush=True)
    said = {True: "held", False: "a healthy cloud waits for a dead one", None: "not certain yet"}
    for how, shown in HOW.items():
        ratios = _ratios(rounds, how)
        low, high = bounds(ratios)
        times = f"{statistics.median(ratios):4.2f} times ({low:4.2f} to {high:4.2f})"
        print(f"{shown:45} {times}  {said[verdicts[how]]}", flush=True)
    return 0 if all(verdicts.values()) else 1


def verdict(ratios: Sequence[float]) -> bool | None:
    """Whether a cloud's children take no more than a tenth longer; None: that is not certain.

    ratios: of what they take, to what they take alone at the same time.
    """
    low, high = bounds(ratios)
    return True if high <= TENTH else False if low > TENTH else None


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return between which values the median of all such values is, but for DOUBT.

    It is less than the k-th of n with the chance that a fair coin shows fewer than k heads of n:
    no distribution is assumed.
    """
    count, below, least = len(values), 0.0, 0
    while (below := below + math.comb(count, least) / 2**count) <= DOUBT / 2:
        least += 1
    ordered = sorted(values)
    return (ordered[least - 1], ordered[count - least]) if least else (-math.inf, math.inf)


def _ratios(rounds: Sequence[Mapping[str, float]], how: str) -> Sequence[float]:
    return [one[how] / one[ALONE] for one in rounds]


def _play_side_by_side() -> Mapping[str, float] | None:
    """Play each case once, all at the same time; return its seconds.

    None where one could not begin, as on a machine on which gatewayd takes a minute to start.
    """
    command = (_TOP / "script/own-network", sys.executable, "-m", __name__)
    with contextlib.ExitStack() as stack:
        cases = {
            how: stack.enter_context(
                subprocess.Popen(
                    [*command, how], cwd=_TOP, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )
            for how in (ALONE, *HOW)
        }  # fmt: skip
        ready = [_is_ready(case) for case in cases.values()]
        if not all(ready):
            return None
        return dict(zip(cases, _begin_together(list(cases.values())), strict=True))


def _is_ready(case: subprocess.Popen[str]) -> bool:
    assert case.stdout is not None, "it is a pipe"
    return case.stdout.readline().strip() == READY


def _begin_together(cases: Sequence[subprocess.Popen[str]]) -> Sequence[float]:
    """Let all of them begin; return what each prints."""
    for case in cases:
        assert case.stdin is not None, "it is a pipe"
        case.stdin.write("\n")
        case.stdin.flush()
    return [float(case.communicate()[0]) for case in cases]


async def _online(directory: Path, how: str, port: int) -> float | None:
    """Return the seconds from the announcement of the healthy cloud's children to all online.

    None where the round ends before it began.
    """
    site = Site(directory, plant_options=MANY)
    async with site.open():
        doomed, healthy = add_dead_cloud(site, NAMES if how == ALONE else how, port)
        await site.start("tests.support.dead_names")
        first, *others = healthy
        await _announce(site, [first])  # what a daemon does once is not measured
        await _until_online(site, [first])
        if how != ALONE:
            await _announce(site, doomed)
            await site.until(partial(_is_registering, site), "children to wait for the dead cloud")
        print(READY, flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            return None
        began = time.monotonic()
        await _announce(site, others)
        await _until_online(site, others)
        took = time.monotonic() - began
        await site.stop()
    return took


async def _is_registering(site: Site) -> bool:
    return "registering" in dict(await site.call("CountDevices"))


async def _until_online(site: Site, children: Sequence[str]) -> None:
    """Return once the cloud has sessions of all these.  Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            truth = (await site.ask(do="truth"))["cloud"]["devices"][site.plant["product"]]
            if all(truth[child]["online"] for child in children):
                return
            await asyncio.sleep(_LOOK)


async def _announce(site: Site, children: Sequence[str]) -> None:
    for child in children:
        await site.ask(do="announce", child=child)


def main(how: str) -> None:
    """Play one case."""
    with (
        TemporaryDirectory(prefix="attack-") as name,
        socket.create_server(("127.0.0.1", 0), backlog=128) as silent,
    ):
        took = asyncio.run(_online(Path(name), how, silent.getsockname()[1]))
        if took is not None:
            print(took, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
