"""The contract of discoverers, for the example."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gatewayd_devicefile import DeviceFile, DeviceFileSettings

from gatewayd.testing.contracts.discoverer import DiscovererContract


class DeviceFileTestbed:
    """Two devices in a file."""

    count, limit = 2, 10

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("PM-0001 192.0.2.1\nPM-0002 192.0.2.2\n")
        settings = DeviceFileSettings(path, every=0.1, limit=self.limit)
        self.discoverer = DeviceFile("devicefile", settings)

    async def remove(self, key: str) -> bool:
        lines = self._path.read_text().splitlines(keepends=True)
        self._path.write_text("".join(line for line in lines if not line.startswith(key)))
        return True

    async def abuse(self) -> None:
        with self._path.open("ab") as file:
            file.write(b"\xff\0\x1b[2J " * 100 + b"\n" + b"x" * 70000 + b"\n")
            file.writelines(b"EVIL-%d\n" % n for n in range(1000))


class TestDeviceFile(DiscovererContract):
    @pytest.fixture(autouse=True)
    def in_a_directory(self, tmp_path: Path) -> None:
        self.path = tmp_path / "devices"

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DeviceFileTestbed]:
        yield DeviceFileTestbed(self.path)
