"""A discoverer of the devices that another program writes into a file: "SERIAL ADDRESS" lines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import Context, Health, Loss, LossReason, Sighting, Sink
from gatewayd.errors import DiscoveryRetry
from gatewayd.settings.declare import REQUIRED, setting


@dataclass(frozen=True, slots=True)
class DeviceFileSettings:
    """[discovery.<name>] with kind = "devicefile"."""

    path: Path = setting(REQUIRED, "file with one device in each line, as SERIAL ADDRESS")
    every: float = setting(5.0, "time between two looks at the file", unit="s", low=0.1, high=3600)
    limit: int = setting(1000, "most devices that are read", low=1, high=100000)


class DeviceFile:
    """The discoverer of the devices in one file."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = DeviceFileSettings

    def __init__(self, name: str, settings: DeviceFileSettings) -> None:
        self.name, self.health, self._settings = name, Health(), settings
        self._rescan = asyncio.Event()

    async def run(self, context: Context, sink: Sink) -> None:
        """Report the devices again and again, and those whose line is gone."""
        seen: dict[str, Sighting] = {}
        while True:
            self._rescan.clear()
            now = {one.key: one for one in await self._read()}
            for one in now.values():
                sink.sight(one)
            for gone in seen.keys() - now.keys():
                sink.lose(Loss(self.name, gone, context.now(), LossReason.GOODBYE))
            self.health.sighted += len(now)
            self.health.lost += len(seen.keys() - now.keys())
            self.health.entries, seen = len(now), now
            try:
                async with asyncio.timeout(self._settings.every):
                    await self._rescan.wait()
            except TimeoutError:
                continue

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Read the file again: the line is the device."""
        return next((one for one in await self._read() if one.key == sighting.key), None)

    async def rescan(self) -> None:
        """Read the file now."""
        self._rescan.set()

    async def _read(self) -> list[Sighting]:
        # a pool thread, as a file may block
        try:
            text = await asyncio.to_thread(self._settings.path.read_text, errors="replace")
        except OSError as error:
            raise DiscoveryRetry(f"{self.name}: cannot read the file: {error.strerror}") from error
        return list(self._sightings(text.splitlines()[: self._settings.limit]))

    def _sightings(self, lines: list[str]) -> Iterator[Sighting]:
        for line in lines:
            serial, _, address = line.partition(" ")
            attribute = sanitize.attribute("txt.serial", serial)
            claimed = claim("serial", self.name, serial)
            if attribute is None or claimed is None:
                self.health.drop("unusable")
                continue
            yield Sighting(
                source=self.name,
                key=serial,
                at=asyncio.get_running_loop().time(),
                valid_for=max(60.0, 3 * self._settings.every),
                interface="",
                addresses=(address,) if address else (),
                port=None,
                claims=frozenset({claimed}),
                attributes={"source": "devicefile", "txt.serial": serial},
                label=sanitize.label(serial),
            )
