"""script/soak interfaces: an interface changes at random, while children announce themselves.

The interface is put down, made again as another one, renumbered; children get other addresses while
gatewayd can receive nothing.  So that these are shown, gatewayd must listen again, and ask.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.simulator.site import Site, run
from tests.integration.lan import CHILDREN, NETWORK, UPLINK_PEER, namespaces, second_cable

WITHIN = 5.0
"""Seconds in which all children are to be received again."""
PATIENCE = 30.0
"""Seconds after which a change is given up."""
POLL = 0.1
MAX_PAUSE = 2.0
"""Seconds that a change may last during which nothing can be received."""
CHILDREN_COUNT = 3
FIRST_FREE, FREE = 100, 100
"""The last byte of the first address that children move to, and how many there are."""
ADDRESSES = ("10.77.0.1/16", "10.77.9.9/16", "10.77.0.1/30", "192.168.50.1/24", "169.254.3.3/16")
"""The children's are in the first three, or in none."""
SECOND = "172.16.9.1/24"


@dataclass(slots=True)
class InterfaceTally:
    """What was counted.

    took: seconds until all children were shown where they had gone, by the kind of change.
    late: changes that took longer than WITHIN.  wrong: what else broke the law, in words.
    """

    took: dict[str, list[float]] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """How many changes there were."""
        return sum(map(len, self.took.values()))


class GatewayInterface:
    """The gateway's lan0, over one cable that ends at port0: itself, a bridge, or a macvlan.

    namespace: of the gateway.  rng: chooses addresses, and pauses.
    """

    def __init__(self, namespace: str, rng: random.Random) -> None:
        self._namespace, self._rng = namespace, rng
        self._kind, self._address = "cable", ADDRESSES[0]

    async def change(self, kind: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Make a change.  kind: one of CHANGES.  meanwhile: called after the first step."""
        first, *steps = CHANGES[kind](self)
        await self._do(first)
        await meanwhile()
        if kind in DEAF:
            await asyncio.sleep(self._rng.uniform(0, MAX_PAUSE))
        for step in steps:
            await self._do(step)

    async def _do(self, step: str) -> None:
        await run("ip", "-n", self._namespace, *step.split())

    def down(self) -> Sequence[str]:
        """Put it down, and up again."""
        return "link set lan0 down", "link set lan0 up"

    def unplugged(self) -> Sequence[str]:
        """Take the cable away, and plug it in again."""
        port = "lan0" if self._kind == "cable" else "port0"
        return f"link set {port} down", f"link set {port} up"

    def flapping(self) -> Sequence[str]:
        """Put it down and up several times."""
        return *self.down(), *self.down(), *self.down()

    def renumbered(self) -> Sequence[str]:
        """Give it another address."""
        before, self._address = self._address, self._rng.choice(ADDRESSES)
        return f"addr del {before} dev lan0", f"addr add {self._address} dev lan0"

    def other_netmask(self) -> Sequence[str]:
        """Give the same address another netmask."""
        before = self._address
        self._address = f"{before.partition('/')[0]}/{self._rng.choice((8, 16, 24, 30))}"
        return f"addr del {before} dev lan0", f"addr add {self._address} dev lan0"

    def second_address(self) -> Sequence[str]:
        """Give it a second address for a moment."""
        return f"addr add {SECOND} dev lan0", f"addr del {SECOND} dev lan0"

    def other_address_first(self) -> Sequence[str]:
        """Leave it a second address alone for a moment."""
        return (
            *(f"addr add {SECOND} dev lan0", f"addr del {self._address} dev lan0"),
            *(f"addr add {self._address} dev lan0", f"addr del {SECOND} dev lan0"),
        )

    def made_again(self) -> Sequence[str]:
        """Delete it, and make it again: of the same kind, or of another."""
        gone = ("link set lan0 down", "link set lan0 name port0")
        if self._kind != "cable":
            gone = ("link del lan0", "link set port0 down")
        self._kind = self._rng.choice(KINDS)
        made = {
            "cable": ("link set port0 name lan0",),
            "bridge": (
                "link add lan0 type bridge",
                *("link set port0 master lan0", "link set port0 up"),
            ),
            "macvlan": ("link set port0 up", "link add lan0 link port0 type macvlan mode bridge"),
        }[self._kind]
        cleared = ("addr flush dev lan0",) if self._kind == "cable" else ()
        return *gone, *made, *cleared, "link set lan0 up", f"addr add {self._address} dev lan0"


KINDS = ("cable", "bridge", "macvlan")
CHANGES: Mapping[str, Callable[[GatewayInterface], Sequence[str]]] = {
    "down": GatewayInterface.down,
    "unplugged": GatewayInterface.unplugged,
    "flapping": GatewayInterface.flapping,
    "renumbered": GatewayInterface.renumbered,
    "other netmask": GatewayInterface.other_netmask,
    "second address": GatewayInterface.second_address,
    "other address first": GatewayInterface.other_address_first,
    "made again": GatewayInterface.made_again,
}
"""What happens to the interface, as words of ip(8)."""
DEAF = frozenset({"down", "unplugged", "renumbered", "other netmask", "made again"})
"""The changes during which nothing can be received: they last a while."""


class InterfaceCampaign:
    """A gatewayd on the interface, its children online over another one.

    changes: how many.  seed: of what is chosen.
    """

    def __init__(self, site: Site, changes: int, seed: int) -> None:
        self._site, self._changes = site, changes
        self._rng = random.Random(seed)  # play, not cryptography
        self._interface = GatewayInterface(site.gateway[3], self._rng)
        self._next = FIRST_FREE
        self.tally = InterfaceTally()

    async def run(self) -> None:
        """Return after all changes.  Raises RuntimeError, TimeoutError."""
        serials = self._site.plant["serials"]
        for child in serials:
            await self._site.wait_for(child, "online")
        ids = [(await self._site.devices())[child][0] for child in serials]
        for number in range(self._changes):
            kinds = list(CHANGES)
            await self._once(kinds[number] if number < len(kinds) else self._rng.choice(kinds))
        for one in ids:
            steps = (await self._site.call("DescribeDevice", "s", one))["History"]["data"]
            if {"offline", "absent"} & {step[2] for step in steps}:
                self.tally.wrong.append(f"{one} was offline, and has announced itself all the time")

    async def _once(self, kind: str) -> None:
        there: dict[str, str] = {}

        async def move() -> None:
            for child in self._site.plant["serials"]:
                there[child] = f"10.77.1.{self._next}"
                self._next = FIRST_FREE + (self._next - FIRST_FREE + 1) % FREE
                await self._site.ask(do="move", child=child, address=there[child])

        await self._interface.change(kind, move)
        began = time.monotonic()
        while missing := await self._elsewhere(there):
            if time.monotonic() - began > PATIENCE:
                self.tally.wrong.append(f"{kind}: {', '.join(missing)} not received again")
                break
            await asyncio.sleep(POLL)
        took = time.monotonic() - began
        self.tally.took.setdefault(kind, []).append(took)
        if took > WITHIN:
            self.tally.late.append(f"{kind}: {took:.1f} s until all were received again")

    async def _elsewhere(self, there: Mapping[str, str]) -> list[str]:
        """Return the children that are not shown where they are now, or are not online."""
        devices = await self._site.devices()
        found = {child: await self._site.describe(child) for child in there if child in devices}
        return [
            child
            for child, address in there.items()
            if child not in found
            or address not in found[child]["Addresses"]
            or found[child]["State"] != "online"
        ]


async def change_interfaces(directory: Path, changes: int, seed: int) -> InterfaceTally:
    """Play so many changes.  Needs the right to make namespaces."""
    options = ("--children", str(CHILDREN_COUNT), "--interface", CHILDREN,
               "--address", UPLINK_PEER, "--network", NETWORK)  # fmt: skip
    with namespaces() as (gateway, children):
        second_cable(gateway[3], children[3])
        site = Site(directory, gateway, children, "lan0", options)
        async with site.open():
            await site.start()
            campaign = InterfaceCampaign(site, changes, seed)
            await campaign.run()
            return campaign.tally


async def _until_ended(directory: Path, changes: int, seed: int) -> InterfaceTally:
    """Play the changes; what was started is stopped on SIGTERM, too."""
    task = asyncio.current_task()
    assert task is not None, "this runs in one"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await change_interfaces(directory, changes, seed)


def main() -> int:
    """Return 1 where a child was not received in time, or was offline."""
    parser = argparse.ArgumentParser(prog="soak interfaces", description=__doc__)
    parser.add_argument("--changes", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, default=1, help="of what is chosen (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as directory:
        tally = asyncio.run(_until_ended(Path(directory), options.changes, options.seed))
    for kind, took in sorted(tally.took.items()):
        most, mean = max(took), sum(took) / len(took)
        sys.stdout.write(f"{len(took):>5} {kind}: {mean:.1f} s on average, {most:.1f} s at most\n")
    broken = (*tally.wrong, *tally.late)
    sys.stdout.write(f"{tally.changes:>5} changes, {len(broken)} against the law\n")
    sys.stdout.write("".join(f"{one}\n" for one in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
