"""A Modbus server of pymodbus: modbus_server.py ADDRESS NAME UNIT…  It prints when it serves."""

from __future__ import annotations

import asyncio
import sys

from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def main(address: str, name: str, units: list[int]) -> None:
    """Serve until the process is ended."""
    identity = ModbusDeviceIdentification(  # type: ignore[no-untyped-call]  # it has no types
        info_name={
            "VendorName": "Acme",
            "ProductCode": "PM",
            "MajorMinorRevision": "1.0",
            "ModelName": "M1",
            "UserApplicationName": name,
        }
    )
    data = SimData(0, values=[0x504D, 0x3432], datatype=DataType.REGISTERS)  # "PM42"
    devices = [SimDevice(unit, simdata=[data]) for unit in units]
    server = ModbusTcpServer(devices, identity=identity, address=(address, 502))
    await server.serve_forever(background=True)
    print("It serves.", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], list(map(int, sys.argv[3:]))))
