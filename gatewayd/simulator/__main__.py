"""python3 -m gatewayd.simulator DIRECTORY: a simulated plant to try gatewayd on."""

from __future__ import annotations

import argparse
import asyncio
import signal
from dataclasses import fields
from pathlib import Path

from gatewayd.simulator.account import CERTIFICATES
from gatewayd.simulator.control import ControlSocket
from gatewayd.simulator.plant import ACCOUNTS, Plant, PlantLayout

NODES = ("direct", "sub-device")


def _arguments() -> PlantLayout:
    parser = argparse.ArgumentParser(prog="gatewayd-simulator", description=__doc__)
    add = parser.add_argument
    add(
        "directory",
        type=Path,
        help="for ca.pem, the files of the cloud's clients, serials.txt and plant.json",
    )
    add(
        "--cloud",
        choices=ACCOUNTS,
        default="alibaba",
        help="the cloud to simulate (default: %(default)s)",
    )
    add(
        "--children",
        type=int,
        default=20,
        help="children on the LAN from the start (default: %(default)s)",
    )
    add(
        "--late",
        type=int,
        default=0,
        help="further children, announced on request (default: %(default)s)",
    )
    add(
        "--unlisted",
        type=int,
        default=0,
        help="number of the last children to leave out of serials.txt (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=1,
        help="the same seed makes the same children (default: %(default)s)",
    )
    add(
        "--interface",
        default="127.0.0.1",
        help="IPv4 address of the LAN's interface (default: %(default)s)",
    )
    add("--network", default="127.1.0.0/16", help="the children's addresses (default: %(default)s)")
    add(
        "--address",
        default="127.0.0.1",
        help="IPv4 address that the cloud listens on (default: %(default)s)",
    )
    add(
        "--certificate",
        choices=CERTIFICATES,
        default="good",
        help="the cloud's certificate (default: %(default)s)",
    )
    add(
        "--node",
        choices=NODES,
        default="direct",
        help="node type of the children at the cloud (default: %(default)s)",
    )
    add(
        "--rate",
        type=int,
        default=5,
        help="connections of a device in a minute; 0 for no limit (default: %(default)s)",
    )
    add(
        "--faults",
        default="",
        help="the faults, in the syntax of simulator/faults.py (default: none)",
    )
    options = vars(parser.parse_args())
    return PlantLayout(**{field.name: options[field.name] for field in fields(PlantLayout)})


async def _run(layout: PlantLayout) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Plant(layout) as plant, ControlSocket(plant, layout.directory / "control"):
        await asyncio.to_thread(plant.write_facts)
        await stop.wait()


def main() -> None:
    """Run until SIGTERM."""
    asyncio.run(_run(_arguments()))


if __name__ == "__main__":
    main()
