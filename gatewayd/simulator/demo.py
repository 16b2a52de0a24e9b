"""python3 -m gatewayd.simulator.demo: the whole of gatewayd on one machine, in half a minute.

A private bus with the rules of the system bus, a simulated cloud, a LAN of children on the
loopback interface, and gatewayd.  Ends with status 0 when every child is online, and the cloud
says so, too.
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
from gatewayd.simulator.world import SiteWorld, is_online, issued, ledgers, own_names

MANAGER = "org.gatewayd1 /org/gatewayd1 org.gatewayd1.Manager"
REFRESH = 0.25
"""Seconds between two drawings of the live table."""
POSSIBLE = range(3, 201)
"""How many children there may be: the story needs two of its own."""
SHOWN = 22
"""Rows of the live table, at most."""
CLOUDS: Mapping[str, str] = {
    "alibaba": "a simulated cloud",
    "huawei": "two instances of a simulated cloud, where the gateway is a device itself,",
}
"""What is played, by the name of the cloud."""


class Screen:
    """The live table: redrawn in place on a terminal, told by its changes elsewhere."""

    def __init__(self, site: Site, expected: int) -> None:
        self._site, self._expected = site, expected
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._told = ""

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
        elif summary != self._told:
            print(summary, flush=True)
        self._told = summary

    def erase(self) -> None:
        """Take the last drawing away, so that a line can be printed for good."""
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
                await _play(site, children)
            except (TimeoutError, AssertionError, RuntimeError) as error:
                print(f"\nThe demo failed: {error}", file=sys.stderr)
                return 1
            if keep:
                await _stay(site)
            return 0 if await site.stop() == 0 else 1


async def _play(site: Site, children: int) -> None:
    print(f"A bus, {CLOUDS[site.cloud]} and {children} child devices; now gatewayd is started.\n")
    await site.start()
    everybody = children + own_names(site)
    screen = Screen(site, everybody)
    async with _running(screen):
        await _prepare(site, screen)
        admitted, held = site.plant["serials"][-2:]
        await site.until(lambda: _online(site, everybody - 2), "the first children to be online")
        screen.say(f"✓ {children - 2} children were discovered, registered and are online.")
        async for sentence in story.perform(SiteWorld(site, admitted, held)):
            screen.say(f"✓ {sentence}")
        await site.until(lambda: _online(site, everybody), "all children to be online")
    await screen.draw()
    await _compare(site)
    await _type(site, held)


async def _prepare(site: Site, screen: Screen) -> None:
    """Do what an operator does once, where a cloud wants devices to show certificates."""
    if site.cloud == "huawei":
        for instance in site.plant["hosts"]:
            await site.enrol(instance)
            screen.say(f"✓ A device CA was made for the instance {instance}, which verified it.")


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
    """Hold what gatewayd shows against what the cloud itself has counted."""
    told = (await ledgers(site)).values()
    online, once = sum(map(is_online, told)), sum(issued(ledger) == 1 for ledger in told)
    print(f"\nThe cloud agrees: {online} devices online, {once} registered once and for all.")
    children = len(site.plant["serials"])
    assert (online, once) == (children, children), "the cloud counts otherwise"


async def _type(site: Site, child: str) -> None:
    """Show what an operator would type, with what it prints."""
    device, _ = (await site.devices())[child]
    path = await site.call("GetDevice", "s", device)
    print("\nWhat an operator types, and sees:\n")
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
    """Run one line as an operator would, with the demo's bus for the system bus."""
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


async def _stay(site: Site) -> None:
    print(f"It stays until Ctrl-C.  Elsewhere:\n  export DBUS_SYSTEM_BUS_ADDRESS={site.bus}")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def run(arguments: Sequence[str]) -> int:
    """Read the arguments, and run the demo."""
    parser = argparse.ArgumentParser(prog="script/demo", description="Show the whole of gatewayd.")
    parser.add_argument("--children", type=int, default=20, help="how many devices (20)")
    parser.add_argument("--cloud", choices=CLOUDS, default="alibaba", help="which is played")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    options = parser.parse_args(arguments)
    if options.children not in POSSIBLE:
        parser.error(f"--children takes {POSSIBLE[0]} to {POSSIBLE[-1]}")
    return asyncio.run(main(options.children, options.cloud, keep=options.keep))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
