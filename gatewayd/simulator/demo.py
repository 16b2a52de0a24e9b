"""python3 -m gatewayd.simulator.demo: all of gatewayd on one machine, in half a minute.

A private bus with the rules of the system bus, a simulated cloud, a LAN of children on the
loopback interface, and gatewayd.  The exit status is 0 if every child is online, for the cloud too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from gatewayd.simulator import story
from gatewayd.simulator.site import Site
from gatewayd.simulator.story import SiteWorld, is_online, issued, ledgers, own_names

MANAGER = "org.gatewayd1 /org/gatewayd1 org.gatewayd1.Manager"
REFRESH = 0.25
"""Seconds between two drawings of the live table."""
POSSIBLE = range(3, 201)
"""The possible numbers of children: the story needs two of them."""
SHOWN = 22
"""Rows of the live table, at most."""
CLOUDS: Mapping[str, str] = {
    "alibaba": "a simulated cloud",
    "huawei": "two instances of a simulated cloud with the gateway as a device,",
}
"""What is simulated, by the name of the cloud."""


class Screen:
    """The live table: redrawn in place on a terminal; elsewhere, a line for each change."""

    def __init__(self, site: Site, expected: int) -> None:
        self._site, self._expected = site, expected
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._summary = ""

    async def run(self) -> None:
        """Draw until cancelled."""
        while True:
            await self.draw()
            await asyncio.sleep(REFRESH)

    async def draw(self) -> None:
        """Draw the table once."""
        rows = await self._site.call("ListDevices")
        counts = await self._site.call("CountDevices")
        online = counts.get("online", 0)
        words = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        summary = f"{online} of {self._expected} online" + (f"   ({words})" if words else "")
        if self._live:
            self.erase()
            table = [f"  {row[0]}  {row[1]:<12} {row[3]}" for row in rows[:SHOWN]]
            self._drawn = len(table) + 1
            print("\n".join([*table, summary]), flush=True)
        elif summary != self._summary:
            print(summary, flush=True)
        self._summary = summary

    def erase(self) -> None:
        """Erase the last drawing, so that a line can be printed."""
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="")
            self._drawn = 0

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.erase()
        print(line, flush=True)


async def main(children: int, cloud: str, *, keep: bool) -> int:
    """Run the demo; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-demo-") as directory:
        plant = ("--children", str(children - 2), "--late", "2", "--unlisted", "1")
        site = Site(Path(directory), plant_options=plant, cloud=cloud)
        async with site.open():
            try:
                await _perform(site, children)
            except (TimeoutError, AssertionError, RuntimeError) as error:
                print(f"\nThe demo failed: {error}", file=sys.stderr)
                return 1
            if keep:
                await _wait(site)
            return 0 if await site.stop() == 0 else 1


async def _perform(site: Site, children: int) -> None:
    print(f"A bus, {CLOUDS[site.cloud]} and {children} child devices.  Starting gatewayd.\n")
    await site.start()
    total = children + own_names(site)
    screen = Screen(site, total)
    async with _running(screen):
        await _prepare(site, screen)
        admitted, pending = site.plant["serials"][-2:]
        await site.until(lambda: _online(site, total - 2), "the first children to be online")
        screen.say(f"✓ {children - 2} children were discovered, registered and are online.")
        async for sentence in story.perform(SiteWorld(site, admitted, pending)):
            screen.say(f"✓ {sentence}")
        await site.until(lambda: _online(site, total), "all children to be online")
    await screen.draw()
    await _compare(site)
    await _show_commands(site, pending)


async def _prepare(site: Site, screen: Screen) -> None:
    """Do what an operator does once, for a cloud whose devices have certificates."""
    if site.cloud == "huawei":
        for instance in site.plant["hosts"]:
            await site.enrol(instance)
            screen.say(f"✓ A device CA was made for instance {instance}, which verified it.")


@contextlib.asynccontextmanager
async def _running(screen: Screen) -> AsyncIterator[None]:
    drawing = asyncio.create_task(screen.run())
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def _online(site: Site, number: int) -> bool:
    return bool((await site.call("CountDevices")).get("online", 0) == number)


async def _compare(site: Site) -> None:
    """Compare what gatewayd shows with what the cloud has counted."""
    counts = (await ledgers(site)).values()
    online, once = sum(map(is_online, counts)), sum(issued(ledger) == 1 for ledger in counts)
    print(f"\nThe cloud agrees: {online} devices online, {once} registered exactly once.")
    children = len(site.plant["serials"])
    assert (online, once) == (children, children), "the cloud counts differently"


async def _show_commands(site: Site, child: str) -> None:
    """Show commands of an operator, with their output."""
    device, _ = (await site.devices())[child]
    path = await site.call("GetDevice", "s", device)
    print("\nCommands of an operator, with their output:\n")
    for line in (
        f"busctl get-property {MANAGER} State Protection NDevices NPending",
        f"busctl call {MANAGER} CountDevices",
        f"busctl call {MANAGER} ListDevicesFiltered a{{sv}}su 1 state s online '' 3",
        f"busctl call {MANAGER} GetDevice s {device[:9]}",
        f"busctl get-property org.gatewayd1 {path} org.gatewayd1.Device State Admission Reason",
        f"busctl call {MANAGER} Approve ss {device} ''",
        f"gatewayctl explain {device[:9]}",
    ):
        print(f"$ {line}")
        print(await _shell(line, site), end="\n\n", flush=True)


async def _shell(line: str, site: Site) -> str:
    """Run a command line with the demo's bus as the system bus; return its output."""
    here = str(Path(sys.executable).parent)
    environ = {
        **os.environ,
        "DBUS_SYSTEM_BUS_ADDRESS": site.bus,
        "PATH": f"{here}:{os.environ.get('PATH', '/usr/bin:/bin')}",
    }
    process = await asyncio.create_subprocess_shell(
        line, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode().rstrip()


async def _wait(site: Site) -> None:
    print(
        f"Running until Ctrl-C.  In another terminal:\n  export DBUS_SYSTEM_BUS_ADDRESS={site.bus}"
    )
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments, and run the demo."""
    parser = argparse.ArgumentParser(prog="script/demo", description="Demonstrate gatewayd.")
    parser.add_argument(
        "--children", type=int, default=20, help="number of devices (default: %(default)s)"
    )
    parser.add_argument(
        "--cloud",
        choices=CLOUDS,
        default="alibaba",
        help="the cloud to simulate (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep it running until Ctrl-C")
    options = parser.parse_args(arguments)
    if options.children not in POSSIBLE:
        parser.error(f"--children takes {POSSIBLE[0]} to {POSSIBLE[-1]}")
    return asyncio.run(main(options.children, options.cloud, keep=options.keep))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
