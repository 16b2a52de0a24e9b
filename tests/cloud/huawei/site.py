"""A simulated instance with a gateway, and the gateway logged in with its secret over real TLS."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.provider import Issued, Session
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.options import HuaweiCloudOptions, HuaweiRules
from gatewayd.simulator.huawei.platform.device import DeviceAuth, HuaweiDeviceStatus
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.platform import Platform
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.stand_ins import ManualClock, Wishes
from tests.cloud.trial import Trial
from tests.support.simulated_ca import AUTHORITY

INSTANCE, GATEWAYS, SENSORS = "instance-1", "gateways", "sensors"
OWN = CloudName("cloud", GATEWAYS, "gw-1", "gateway")
OWN_ID, OTHER_ID = "gateways_gw-1", "gateways_gw-2"
SECRET = Secret(b"4f0c1a_gateway-Secret")


def child(number: int) -> CloudName:
    """The name of one of the children."""
    return CloudName("cloud", SENSORS, f"SEN-{number:04}", "sub-device")


def child_id(number: int) -> str:
    """The device ID that the platform gives to it."""
    return f"{SENSORS}_SEN-{number:04}"


@dataclass
class Site(Trial):
    """cloud: simulated.  provider: ours.  session: the gateway's own, the newest."""

    cloud: HuaweiCloud
    provider: Huawei
    wishes: Wishes
    clock: ManualClock
    session: Session | None = None
    sessions: list[Session] = field(default_factory=list)

    @property
    def instance(self) -> IotdaInstance:
        """What is managed."""
        return self.cloud.platform.get(INSTANCE)

    async def log_in(self) -> None:
        """Log the gateway in."""
        self.session = await self.provider.connect(OWN, SECRET)

    async def lose_link(self) -> None:
        """Let the network cut the gateway off."""
        assert self.session is not None
        self.cloud.disconnect(INSTANCE, OWN_ID)
        await self.session.wait_closed()

    async def online(self, *numbers: int) -> list[Session]:
        """Register children, and log them in."""
        return await self.bring(*map(child, numbers))

    def create(self, number: int, gateway: str = OWN_ID, device_id: str | None = None) -> None:
        """Create a child at the platform."""
        self.instance.devices.add(
            node_id=child(number).device,
            product_id=SENSORS,
            device_id=device_id,
            gateway_id=gateway,
        )

    def status(self, device_id: str) -> HuaweiDeviceStatus:
        """What the platform takes a device for."""
        return self.instance.devices.get(device_id).status

    def online_there(self) -> set[str]:
        """The children that the platform takes for online."""
        sessions = self.instance.devices.descendants(OWN_ID)
        return {one.device_id for one in sessions if one.status is HuaweiDeviceStatus.ONLINE}

    @property
    def gateway_ledger(self) -> Any:
        """What the platform's ledger says of the gateway."""
        truth: Any = self.cloud.truth()
        return truth["instances"][INSTANCE]["gateways"][OWN_ID]

    def asked(self, event: str) -> int:
        """How often the gateway asked for something, with whatever answer."""
        requests = self.gateway_ledger["requests"]
        return sum(count for name, count in requests.items() if event in name)


def furnish(folder: Path) -> Path:
    """Write what settings name: roots, and the gateway's secret."""
    (folder / "ca.pem").write_text(AUTHORITY.pem)
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_bytes(SECRET.reveal())
    return folder


def endpoint(folder: Path, cloud: HuaweiCloud) -> dict[str, Any]:
    """Return the settings that lead to a simulated instance."""
    return {
        "host": cloud.platform.get(INSTANCE).domain,
        "address": "127.0.0.1",
        "port": cloud.port,
        "ca_file": folder / "ca.pem",
        "connect_timeout": 20.0,
        "reply_timeout": 20.0,
    }


def with_products() -> tuple[Platform, IotdaInstance]:
    """A platform of one instance, with a product of gateways and one of sensors."""
    made = Platform(clock=time.time, random=os.urandom)
    instance = made.create(INSTANCE)
    for product in (GATEWAYS, SENSORS):
        instance.products.create(name=product, device_type=product, product_id=product)
    return made, instance


def platform() -> Platform:
    """An instance with two gateways, and a product of sensors."""
    made, instance = with_products()
    for node, secret in (("gw-1", SECRET.reveal().decode()), ("gw-2", "another-secret")):
        instance.devices.add(node_id=node, product_id=GATEWAYS, auth=DeviceAuth(secret=secret))
    return made


@asynccontextmanager
async def site(
    folder: Path,
    rules: HuaweiRules | None = None,
    gateway: dict[str, Any] | None = None,
    **others: Any,
) -> AsyncIterator[Site]:
    """Set everything up, with the gateway registered and logged in."""
    clock, wishes = ManualClock(), Wishes()
    options = HuaweiCloudOptions(rules=rules or HuaweiRules())
    async with HuaweiCloud(platform(), authority=AUTHORITY, options=options) as cloud:
        own = HuaweiGateway(
            GATEWAYS, OWN.device, login="secret", secret_file=folder / "secret", **(gateway or {})
        )
        values = endpoint(folder, cloud) | {"products": (SENSORS,), "gateway": own} | others
        provider = Huawei(
            "cloud",
            HuaweiSettings(**values),
            partial(read_secret, None),
            Clock(clock.now, wall_time),
        )
        provider.set_requests(wishes)
        one = Site(cloud, provider, wishes, clock)
        assert await provider.register(OWN, RecordingKeeper().keep) == Issued()
        await one.log_in()
        yield one
        await asyncio.gather(*(session.close() for session in one.sessions))
        if one.session is not None:
            await one.session.close()
        await provider.close()
