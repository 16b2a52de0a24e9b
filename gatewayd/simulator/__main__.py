"""python3 -m gatewayd.simulator DIRECTORY: a simulated plant to try gatewayd on.

With --ask, it sends a request to the plant that runs with this DIRECTORY, and prints the answer.
With --replay FILE, and no DIRECTORY, it plays a recording of gatewayctl discover.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import signal
import socket
import struct
import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path

from gatewayd.errors import ConfigError
from gatewayd.simulator.account import CERTIFICATES, LOOPBACK
from gatewayd.simulator.control import ControlSocket, ask
from gatewayd.simulator.lan import replay
from gatewayd.simulator.lan.child import NETWORK, fleet
from gatewayd.simulator.plant import ACCOUNTS, IDENTITIES, Plant, PlantLayout
from gatewayd.simulator.site_files import InstalledSite

NODES = ("direct", "sub-device")
_LAST_PORT = 65_535
_MOST = 100_000
"""Children, at most: as many as the simulated clouds hold devices."""
_NUMBERS: Sequence[tuple[str, int, str]] = (
    ("--children", 20, "children on the LAN from the start"),
    ("--late", 0, "further children, announced on request"),
    ("--unlisted", 0, "number of the last children to leave out of serials.txt"),
    ("--seed", 1, "the same seed makes the same children"),
    ("--rate", 5, "connections of a device in a minute; 0 for no limit"),
    ("--port", 0, "port that the cloud listens on; 0 for a free one"),
)
"""Option, default, and help."""
_TEXTS: Sequence[tuple[str, str, Collection[str], str]] = (
    ("--cloud", "alibaba", ACCOUNTS, "the cloud to simulate"),
    ("--interface", LOOPBACK, (), "IPv4 address of the LAN's interface, or its name, for IPv6"),
    ("--network", NETWORK, (), "the children's addresses"),
    ("--address", LOOPBACK, (), "IP address that the cloud listens on"),
    ("--certificate", "good", CERTIFICATES, "the cloud's certificate"),
    ("--identity", "password", IDENTITIES, "how children prove who they are at a broker"),
    ("--node", "direct", NODES, "node type of the children at the cloud"),
    ("--faults", "", (), "the faults, in the syntax of simulator/faults.py"),
    ("--journal", "", (), "file for what arrives at the cloud, as lines of JSON"),
)
"""Option, default, choices if there are any, and help."""


_SIOCGIFADDR = 0x8915  # linux/sockios.h
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
    help_ = (
        "keep the cloud's state in the directory at the end, and go on with it at the next start"
    )
    parser.add_argument("--keep", action="store_true", help=help_)
    help_ = "a cloud without products and devices, until they are made by its calls"
    parser.add_argument("--empty", action="store_true", help=help_)
    help_ = "print what gatewayd needs for the simulator that runs with this directory, and exit"
    parser.add_argument("--configuration", action="store_true", help=help_)
    help_ = "print the answers to gatewayctl setup for the simulator of this directory, and exit"
    parser.add_argument("--answers", action="store_true", help=help_)
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
        if sys.stdout.isatty():
            answers = f"gatewayd-simulator --answers {layout.directory}"
            print(f"It runs until Ctrl-C.  The answers to gatewayctl setup: {answers}")
        await stop.wait()


def _print_for_gatewayd(directory: Path, interface: str, *, answers: bool) -> int:
    """Print what gatewayd needs for a plant that runs; return the exit status.

    answers: for gatewayctl setup, in place of commands and files.
    """
    try:
        facts = json.loads((directory / "plant.json").read_text())
    except (OSError, ValueError) as error:
        return _failed(f"no simulator runs with {directory}: {error}")
    name = interface_of(interface)
    if not name:
        return _failed(f"no interface has the address {interface}. Correct --interface")
    site = InstalledSite(facts, name)
    try:
        lines = (site.answers if answers else site.printed)(directory.absolute())
        print("\n".join(lines))
    except OSError as error:
        return _failed(f"{error.filename} cannot be read: {error.strerror}. Run it as its owner")
    except ConfigError as error:
        return _failed(str(error))
    return 0


def interface_of(address: str) -> str:
    """Return the name of the interface that has an IPv4 address, or this name; "" for none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            if name == address:
                return name
            wanted = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, wanted)
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return ""


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
        return _failed(f"no simulator runs with {directory}: {error.strerror or error}")
    except RuntimeError as error:
        return _failed(str(error))
    except (ValueError, TypeError):
        return _failed('--ask takes a JSON object, as {"do": "truth"}')
    return 0


def _wrong(options: Namespace) -> str:
    """Return what of the options cannot be; "" for nothing."""
    children = options.children + options.late
    if min(options.children, options.late, options.unlisted, options.rate, options.port) < 0:
        return "a number is negative: give 0 or more"
    if options.port > _LAST_PORT:
        return f"--port must be at most {_LAST_PORT}"
    if children > _MOST:
        return f"there are too many children: {_MOST} at most"
    try:
        ip_address(options.address)
        fleet(children, options.seed, network=options.network)
    except ValueError as error:
        return f"{error}. Correct --network or --address"
    return ""


def _failed(why: str) -> int:
    print(f"gatewayd-simulator: {why}", file=sys.stderr)
    return 1


def main() -> int:
    """Run until SIGTERM, or ask a plant that runs; return the exit status."""
    if any(word.partition("=")[0] == "--replay" for word in sys.argv[1:]):
        return replay.main(sys.argv[1:])
    options = _arguments()
    if options.ask is not None:
        return _ask(options.directory, options.ask, options.pem)
    if options.configuration or options.answers:
        directory, interface = options.directory, options.interface
        return _print_for_gatewayd(directory, interface, answers=options.answers)
    return _start(options)


def _start(options: Namespace) -> int:
    """Run a plant until SIGTERM; return the exit status."""
    if wrong := _wrong(options):
        return _failed(wrong)
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
