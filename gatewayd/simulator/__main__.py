"""python3 -m gatewayd.simulator DIRECTORY: a simulated plant to try gatewayd on."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path

from gatewayd.simulator.account import CERTIFICATES, LOOPBACK
from gatewayd.simulator.control import ControlSocket
from gatewayd.simulator.lan.child import NETWORK
from gatewayd.simulator.plant import ACCOUNTS, Plant, PlantLayout

NODES = ("direct", "sub-device")
_NUMBERS: Sequence[tuple[str, int, str]] = (
    ("--children", 20, "children on the LAN from the start"),
    ("--late", 0, "further children, announced on request"),
    ("--unlisted", 0, "number of the last children to leave out of serials.txt"),
    ("--seed", 1, "the same seed makes the same children"),
    ("--rate", 5, "connections of a device in a minute; 0 for no limit"),
)
"""Option, default, and help."""
_TEXTS: Sequence[tuple[str, str, Collection[str], str]] = (
    ("--cloud", "alibaba", ACCOUNTS, "the cloud to simulate"),
    ("--interface", LOOPBACK, (), "IPv4 address of the LAN's interface"),
    ("--network", NETWORK, (), "the children's addresses"),
    ("--address", LOOPBACK, (), "IPv4 address that the cloud listens on"),
    ("--certificate", "good", CERTIFICATES, "the cloud's certificate"),
    ("--node", "direct", NODES, "node type of the children at the cloud"),
    ("--faults", "", (), "the faults, in the syntax of simulator/faults.py"),
)
"""Option, default, choices if there are any, and help."""


def _arguments() -> PlantLayout:
    parser = argparse.ArgumentParser(prog="gatewayd-simulator", description=__doc__)
    help_ = "for ca.pem, the files of the cloud's clients, serials.txt and plant.json"
    parser.add_argument("directory", type=Path, help=help_)
    for name, number, text in _NUMBERS:
        parser.add_argument(name, type=int, default=number, help=f"{text} (default: {number})")
    for name, default, choices, text in _TEXTS:
        shown = f"{text} (default: {default or 'none'})"
        parser.add_argument(name, default=default, choices=choices or None, help=shown)
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
