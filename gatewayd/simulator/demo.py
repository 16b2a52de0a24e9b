"""python3 -m gatewayd.simulator.demo: all of gatewayd on one machine, in a minute.

A private bus with the rules of the system bus, a simulated cloud, a LAN of children on the
loopback interface, the broker to which they publish, and gatewayd.  The exit status is 0 if every
child is online, for the cloud too, and has lost nothing of what it says in an outage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from gatewayd.errors import ConfigError
from gatewayd.simulator import from_empty, mistakes, story
from gatewayd.simulator.broker.site_broker import TOPIC
from gatewayd.simulator.mistakes import MISTAKES, SiteMistake
from gatewayd.simulator.plant import IDENTITIES
from gatewayd.simulator.site import Site
from gatewayd.simulator.story import (
    Measurement,
    SiteWorld,
    is_online,
    issued,
    ledgers,
    measurements,
    own_names,
)

MANAGER = "org.gatewayd1 /org/gatewayd1 org.gatewayd1.Manager"
REFRESH = 0.25
"""Seconds between two drawings of the live table."""
POSSIBLE = range(3, 201)
"""The possible numbers of children: the story needs two of them."""
SHOWN = 22
"""Rows of the live table, at most."""
OUTAGE = 10.0
"""Seconds for which the link to the cloud is cut."""
MAX_OUTAGE = 600.0
STALLED = 10.0
"""Seconds in which no more devices come online, until their reasons are taken for final."""
FOREIGN = "another demo, or a simulator, announces its children on this loopback.  End it first."
"""Why more devices are online than there should be: all have the serials of the same seed."""
INTERVAL = 60
"""Seconds between two reports of a child, as the cloud sets them; nothing changes by that."""
LAST = 5
"""Children whose temperatures are shown."""
NONE = Measurement(0.0, 0.0)
CLOUDS: Mapping[str, str] = {
    "alibaba": "a simulated cloud",
    "huawei": "two instances of a simulated cloud with the gateway as a device,",
    "mqtt": "a broker as the cloud (a real mosquitto)",
}
"""What is simulated, by the name of the cloud."""
READING: Mapping[str, str] = {"alibaba": "reports", "huawei": "arrivals", "mqtt": "reports"}
"""The simulator's request for what a child has said, by the name of the cloud."""
MODELLED = frozenset({"alibaba", "huawei"})
"""Clouds whose products have a model, beside which nothing may be said."""


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


async def main(
    children: int,
    cloud: str,
    identity: str = "password",
    *,
    keep: bool,
    mistake: str = "",
    outage: float = OUTAGE,
) -> int:
    """Run the demo; return the exit status.

    identity: how children prove who they are, where the cloud is a broker.
    mistake: the name of one that the site is to have; then the demo fails, and says why.
    outage: seconds for which the link to the cloud is cut.
    """
    made = MISTAKES[cloud].get(mistake, SiteMistake())
    with tempfile.TemporaryDirectory(prefix="gatewayd-demo-") as directory:
        plant = ("--children", str(children - 2), "--late", "2", "--unlisted", "1", *made.plant)
        site = Site(
            Path(directory), plant_options=plant, cloud=cloud, identity=identity, speaks=True,
            commanded=True,
        )  # fmt: skip
        async with site.open():
            await made.spoil(site)
            try:
                await _perform(site, children, outage)
            except (TimeoutError, AssertionError, RuntimeError, OSError) as error:
                print(f"\nThe demo failed: {error}", file=sys.stderr)
                return 1
            if keep:
                await _wait(site)
            return 0 if await site.stop() == 0 else 1


async def begin_empty(directory: Path, children: int, cloud: str) -> int:
    """Run the demo from an empty console on; return the exit status."""
    plant = ("--children", "0", "--late", str(children), "--empty")
    site = Site(directory, plant_options=plant, cloud=cloud, speaks=True)
    async with site.open():
        try:
            await _perform_empty(site, children)
        except (TimeoutError, AssertionError, RuntimeError, OSError) as error:
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            return 1
        return 0 if await site.stop() == 0 else 1


async def _perform_empty(site: Site, children: int) -> None:
    print(f"The console of {site.cloud} is empty.  {children} child devices are to come.\n")
    owner = await from_empty.furnish(site, print)
    await site.start()
    await from_empty.finish(owner)
    screen = Screen(site, children)
    async with _running(screen):
        for child in site.plant["serials"]:
            await site.ask(do="announce", child=child)
        await all_online(site, children, "the children to be online")
    await screen.draw()
    await from_empty.compare(site)
    await _read_temperatures(site)


async def _perform(site: Site, children: int, outage: float) -> None:
    print(
        f"A bus, {CLOUDS[site.cloud]} and {children} child devices with their broker."
        "  Starting gatewayd.\n"
    )
    await site.start()
    total = children + own_names(site)
    screen = Screen(site, total)
    async with _running(screen):
        await _prepare(site, screen)
        first, *_, admitted, pending = site.plant["serials"]
        await all_online(site, total - 2, "the first children to be online")
        screen.say(f"✓ {children - 2} children were discovered, registered and are online.")
        if site.cloud in MODELLED:
            assert not (why := await mistakes.check_report(site, first)), why
            screen.say("✓ What a child reports fits the product's model, and the cloud keeps it.")
        pace = outage / len(story.TEMPERATURES)
        async for sentence in story.perform(SiteWorld(site, admitted, pending), pace):
            screen.say(f"✓ {sentence}")
        await all_online(site, total, "all children to be online")
        await _command(site, admitted)
        screen.say("✓ What the cloud sets of a child is carried out, and the cloud has the answer.")
    await screen.draw()
    await _compare(site)
    await _read_temperatures(site)
    await _show_commands(site, pending)


async def _command(site: Site, child: str) -> None:
    """Have the cloud set a property of a child, whose program begins to listen meanwhile."""
    assert site.broker is not None, "the site has one"

    async def carried_out() -> bool:
        return await story.set_interval(site, child, INTERVAL)

    async with site.broker.carrying_out(child):
        await site.until(carried_out, f"{child} to carry out a command")


async def _prepare(site: Site, screen: Screen) -> None:
    """Do what an operator does once, for a cloud whose devices have certificates."""
    if site.cloud == "huawei":
        for instance in site.plant["hosts"]:
            await site.enrol(instance)
            screen.say(f"✓ A device CA was made for instance {instance}, which verified it.")
    if site.identity == "certificate":
        await site.certify()
        screen.say("✓ A device CA was made, and the broker trusts it.")


@contextlib.asynccontextmanager
async def _running(screen: Screen) -> AsyncIterator[None]:
    drawing = asyncio.create_task(screen.run())
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def all_online(site: Site, number: int, what: str) -> None:
    """Return when so many devices are online.  Raises RuntimeError with the reasons of the rest.

    Raises TimeoutError where they have no reasons, and RuntimeError also where there are more.
    """
    now = asyncio.get_running_loop().time
    most, grew = 0, now()

    async def reached() -> bool:
        nonlocal most, grew
        online = (await site.call("CountDevices")).get("online", 0)
        if online > number:
            raise RuntimeError(f"{online} of {number} are online: {FOREIGN}")
        if online > most:
            most, grew = online, now()
        elif now() - grew > STALLED and (reasons := await mistakes.explain(site)):
            raise RuntimeError("\n  ".join([f"{online} of {number} are online.", *reasons]))
        return bool(online == number)

    await site.until(reached, what)


async def _compare(site: Site) -> None:
    """Compare what gatewayd shows with what the cloud has counted."""
    counts = (await ledgers(site)).values()
    online, once = sum(map(is_online, counts)), sum(issued(ledger) == 1 for ledger in counts)
    print(f"\nThe cloud agrees: {online} devices online, {once} registered exactly once.")
    children = len(site.plant["serials"])
    assert (online, once) == (children, children), "the cloud counts differently"


async def _read_temperatures(site: Site) -> None:
    """Have each child say its temperature, and read the last ones at the cloud."""
    children = site.plant["serials"]
    said = {child: round(18 + number / 10, 1) for number, child in enumerate(children)}
    for child, value in said.items():
        await site.say(child, temperature=value)

    async def read() -> dict[str, Measurement] | None:
        found = {child: await measurements(site, child) for child in children}
        newest = {child: values[-1] for child, values in found.items() if values}
        there = all(newest.get(child, NONE).value == value for child, value in said.items())
        return newest if there else None

    newest = await site.until(read, "every child's temperature to be at the cloud")
    print(f"\nThe cloud has the temperature of all {len(children)} children.  The last ones:\n")
    for child in children[-LAST:]:
        at = datetime.fromtimestamp(newest[child].at, tz=UTC).astimezone()
        print(f"  {child}  {newest[child].value:5.1f} °C  {at:%H:%M:%S}")


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
        f"gatewayctl messages {device[:9]}",
        "gatewayctl messages",
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


def hints(site: Site) -> str:
    """Return the commands by which a reader goes on in another terminal, while the site runs."""
    assert site.broker is not None, "the demo has one"
    child = site.plant["serials"][0]
    topic = TOPIC.format(child=child)

    def ask(**request: str) -> str:
        return f"python -m gatewayd.simulator --ask '{json.dumps(request)}' {site.directory}"

    return f"""\
Running until Ctrl-C.  In another terminal:
  export PATH={Path(sys.executable).parent}:$PATH
  export DBUS_SYSTEM_BUS_ADDRESS={site.bus}
  gatewayctl list
A child says a temperature, which is read at the cloud:
  mosquitto_pub --unix {site.broker.socket} -q 1 -t {topic} -m '{{"temperature": 21.5}}'
  {ask(do=READING[site.cloud], child=child)}
The link to the cloud is cut, what waits is shown, and the link is restored:
  {ask(do="faults", plan="down")}
  gatewayctl messages
  {ask(do="faults", plan="")}"""


async def _wait(site: Site) -> None:
    print(hints(site), flush=True)
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
        help="the cloud to simulate (default: alibaba; with --from-empty, each of its vendors)",
    )
    known = sorted({name for names in MISTAKES.values() for name in names})
    parser.add_argument(
        "--identity", choices=IDENTITIES, default=IDENTITIES[0],
        help="how children prove who they are, where the cloud is mqtt (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mistake", choices=known, default="", help="misconfigure the site: the demo then fails"
    )
    parser.add_argument(
        "--outage", type=float, default=OUTAGE, metavar="SECONDS",
        help="how long the link to the cloud is cut (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep it running until Ctrl-C")
    parser.add_argument(
        "--from-empty", action="store_true",
        help="begin with an empty console of the cloud, by commands alone; as root",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.from_empty:
        return _run_empty(parser, options)
    options.cloud = options.cloud or "alibaba"
    if options.children not in POSSIBLE:
        parser.error(f"--children takes {POSSIBLE[0]} to {POSSIBLE[-1]}")
    if options.mistake and options.mistake not in MISTAKES[options.cloud]:
        parser.error(f"--mistake takes {', '.join(MISTAKES[options.cloud])} for {options.cloud}")
    if options.identity != IDENTITIES[0] and options.cloud != "mqtt":
        parser.error(f"--identity {options.identity} is for mqtt")
    if not 0 <= options.outage <= MAX_OUTAGE:
        parser.error(f"--outage takes 0 to {MAX_OUTAGE:.0f}")
    return asyncio.run(
        main(
            options.children,
            options.cloud,
            options.identity,
            keep=options.keep,
            mistake=options.mistake,
            outage=options.outage,
        )
    )


def _run_empty(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run the demo from an empty console on: that of one vendor, or of each."""
    if options.keep or options.mistake or options.cloud not in (None, *from_empty.CLOUDS):
        parser.error(f"--from-empty is for --cloud {' or '.join(from_empty.CLOUDS)} alone")
    try:
        from_empty.check()
    except ConfigError as error:
        parser.error(str(error))
    statuses = []
    for cloud in [options.cloud] if options.cloud else from_empty.CLOUDS:
        with tempfile.TemporaryDirectory(prefix="gatewayd-demo-", dir=from_empty.PLACE) as name:
            directory = Path(name)
            directory.chmod(0o755)  # the configuration is for the daemon's user
            statuses.append(asyncio.run(begin_empty(directory, options.children, cloud)))
        print()
    return max(statuses)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
