"""python3 -m gatewayd.simulator DIRECTORY: a simulated plant to try gatewayd on.

With --ask, it sends a request to the plant that runs with this DIRECTORY, and prints the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path

from gatewayd.errors import ConfigError
from gatewayd.simulator.account import CERTIFICATES, LOOPBACK
from gatewayd.simulator.control import ControlSocket, ask
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
    ("--interface", LOOPBACK, (), "IPv4 address of the LAN's interface, or its name, for IPv6"),
    ("--network", NETWORK, (), "the children's addresses"),
    ("--address", LOOPBACK, (), "IP address that the cloud listens on"),
    ("--certificate", "good", CERTIFICATES, "the cloud's certificate"),
    ("--node", "direct", NODES, "node type of the children at the cloud"),
    ("--faults", "", (), "the faults, in the syntax of simulator/faults.py"),
)
"""Option, default, choices if there are any, and help."""


CONTROL = "control"
"""The control socket, in the directory of a plant."""


def _arguments() -> Namespace:
    parser = argparse.ArgumentParser(prog="gatewayd-simulator", description=__doc__)
    help_ = "for ca.pem, the files of the cloud's clients, serials.txt and plant.json"
    parser.add_argument("directory", type=Path, help=help_)
    for name, number, text in _NUMBERS:
        parser.add_argument(name, type=int, default=number, help=f"{text} (default: {number})")
    for name, default, choices, text in _TEXTS:
        shown = f"{text} (default: {default or 'none'})"
        parser.add_argument(name, default=default, choices=choices or None, help=shown)
    help_ = "send a request to the simulator that runs with this directory: gatewayd-simulator(1)"
    parser.add_argument("--ask", metavar="JSON", help=help_)
    help_ = "with --ask: add the text of this file to the request, as pem"
    parser.add_argument("--pem", type=Path, metavar="FILE", help=help_)
    return parser.parse_args()


async def _run(layout: PlantLayout) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Plant(layout) as plant, ControlSocket(plant, layout.directory / CONTROL):
        await asyncio.to_thread(plant.write_facts)
        await stop.wait()


def _ask(directory: Path, line: str, pem: Path | None) -> int:
    """Send a request to a plant that runs, and print the answer; return the exit status.

    pem: a file whose text is added to the request.
    """
    try:
        added = {} if pem is None else {"pem": pem.read_text()}
    except (OSError, ValueError) as error:
        return _failed(f"{pem} cannot be read: {error}")
    try:
        request = json.loads(line) | added
        print(json.dumps(asyncio.run(ask(directory / CONTROL, **request)), ensure_ascii=False))
    except OSError as error:
        return _failed(f"no simulator runs with {directory}: {error.strerror}")
    except RuntimeError as error:
        return _failed(str(error))
    except (ValueError, TypeError):
        return _failed('--ask takes a JSON object, as {"do": "truth"}')
    return 0


def _failed(why: str) -> int:
    print(f"gatewayd-simulator: {why}", file=sys.stderr)
    return 1


def main() -> int:
    """Run until SIGTERM, or ask a plant that runs; return the exit status."""
    options = _arguments()
    if options.ask is not None:
        return _ask(options.directory, options.ask, options.pem)
    layout = {field.name: getattr(options, field.name) for field in fields(PlantLayout)}
    try:
        options.directory.mkdir(parents=True, exist_ok=True)
        asyncio.run(_run(PlantLayout(**layout)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"cannot be started: {where}{error.strerror}. Check the options")
    except ConfigError as error:
        return _failed(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
