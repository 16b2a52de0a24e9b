"""BACnet devices on a network interface, by bacpypes3: one at an address, and others behind it.

bacnet_devices.py ADDRESS/PREFIX DEVICE [BEHIND...]
    each device as JSON: {"instance": 1, "vendor": 999, "name": "x", "serial": "y", "station": 10}
    serial: none for a device without that property.
    station: one byte, the address on the network 2001 behind the first device.
It writes "ready", and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bacpypes3.app import Application
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.pdu import IPv4Address
from bacpypes3.vlan import VirtualNetwork

BEHIND = 2001
SOCKETS = 2
"""At the address, and at that for broadcasts."""
LINE = "line"


def device_object(facts: Mapping[str, Any]) -> Any:
    """Return the object of a device."""
    serial = {"serialNumber": facts["serial"]} if facts.get("serial") else {}
    return DeviceObject(
        objectIdentifier=("device", facts["instance"]),
        objectName=facts["name"],
        vendorIdentifier=facts["vendor"],
        vendorName="Example",
        modelName="X-1",
        firmwareRevision="1.0",
        applicationSoftwareVersion="2.0",
        **serial,
    )


def port_on_line(station: int) -> Any:
    """Return a port on the network behind the first device."""
    made = NetworkPortObject(
        IPv4Address("127.0.0.1/32"), objectIdentifier=("network-port", 2), objectName="line"
    )
    made.networkType, made.networkInterfaceName = "virtual", LINE
    made.macAddress, made.networkNumber = bytes((station,)), BEHIND
    return made


def sockets() -> int:
    """Return how many sockets there are at the port of BACnet."""
    return Path("/proc/net/udp").read_text().count(":BAC0 ")


async def main(address: str, first: str, *behind: str) -> None:
    """Serve until the standard input ends."""
    own = NetworkPortObject(
        IPv4Address(address), objectIdentifier=("network-port", 1), objectName="lan",
        networkNumber=1 if behind else 0,
    )  # fmt: skip
    ports = [own]
    if behind:
        VirtualNetwork(LINE)
        ports.append(port_on_line(1))
    applications = [Application.from_object_list([device_object(json.loads(first)), *ports])]
    for one in map(json.loads, behind):
        objects = [device_object(one), port_on_line(one["station"])]
        applications.append(Application.from_object_list(objects))
    while sockets() < SOCKETS:  # bacpypes3 opens them in tasks of its own
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for one in applications:
        one.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
