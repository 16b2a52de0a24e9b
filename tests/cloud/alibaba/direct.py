"""A simulated cloud with direct devices, for the routes on which a device connects for itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.cloud.alibaba.settings import AlibabaProduct, AlibabaSettings
from gatewayd.cloud.provider import CloudProvider, Issued, Outcome, Route
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.support.simulated_ca import AUTHORITY

PRODUCT, PRODUCT_SECRET = "a1Gt7n5yTt8", "p5Tq0Zx8Wv3Rk1Ls"


@dataclass
class DirectStage:
    """A provider or a route, a name, and the simulated cloud."""

    cloud: AlibabaCloud
    tested: CloudProvider | Route
    name: CloudName

    def connections(self) -> int:
        return len(self.cloud._service.links)

    async def register(self, kept: RecordingKeeper | None = None) -> Outcome:
        """Register the device in limited time; return when it has disconnected."""
        async with asyncio.timeout(30):
            outcome = await self.tested.register(self.name, (kept or RecordingKeeper()).keep)
        await until(lambda: not self.connections())
        return outcome

    async def issued(self) -> Secret:
        """Register the device; return its secret."""
        kept = RecordingKeeper()
        assert await self.register(kept) == Issued()
        assert kept.done
        return kept.secrets[0]


def furnish(folder: Path) -> Path:
    """Write the files that the settings name: roots and the product secret."""
    (folder / "ca.pem").write_text(AUTHORITY.pem)
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_text(PRODUCT_SECRET + "\n")
    return folder


def settings_for(folder: Path, port: int, **others: Any) -> AlibabaSettings:
    """Settings that lead to this machine."""
    given: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "ca_file": folder / "ca.pem",
        "connect_timeout": 20.0,
        "reply_timeout": 20.0,
        "products": {PRODUCT: AlibabaProduct(secret_file=folder / "secret")},
        "preregistration_free": True,
    }
    return AlibabaSettings(**(given | others))
