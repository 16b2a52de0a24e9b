"""The devices of all recipes on one cable: python -m tests.recipes.announcer ADDRESS NETWORK

Follows orders, a word in each line of its input: "rename" gives each device its other name, "move"
another address.
"""

from __future__ import annotations

import asyncio
import random
import sys
from ipaddress import IPv4Network

from gatewayd.simulator.lan.lan import SimulatedLan
from tests.recipes.announced import RECIPES, device, other_name

MOVED = 100
"""By how much the address of a device that has moved is higher."""


def addresses(network: str) -> list[str]:
    """Return the address of each device, in the order of the recipes."""
    block = IPv4Network(network)
    return [str(block[number + 1]) for number in range(len(RECIPES))]


def moved(network: str) -> list[str]:
    """Return where each device moves to."""
    block = IPv4Network(network)
    return [str(block[number + 1 + MOVED]) for number in range(len(RECIPES))]


async def main(interface: str, network: str) -> None:
    """Announce until there are no more orders."""
    here = addresses(network)
    devices = [device(recipe, here[number]) for number, recipe in enumerate(RECIPES)]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with SimulatedLan(devices, interface, rng=random.Random(5)) as lan:
        async for line in reader:
            for number, recipe in enumerate(RECIPES):
                if line == b"rename\n":
                    lan.rename(number, other_name(recipe))
                else:
                    lan.move(number, moved(network)[number])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
