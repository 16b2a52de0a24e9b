"""A simulated cloud with a gateway and its sub-devices, and the gateway logged in over real TLS."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import Issued, Session
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.devices import AlibabaNodeType
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.stand_ins import ManualClock, Wishes
from tests.cloud.trial import Trial
from tests.support.simulated_ca import AUTHORITY, CERTIFICATE

GATEWAYS, SENSORS = "a1Gateways1", "a1Sensors22"
GATEWAY = (GATEWAYS, "gateway-1")
OWN = CloudName("cloud", *GATEWAY, "gateway")
PRODUCT_SECRETS = {GATEWAYS: "g4Hq7Zx8Wv3Rk1Ls", SENSORS: "s5Tq0Zx8Wv3Rk1Ls"}
NODES = {GATEWAYS: AlibabaNodeType.GATEWAY, SENSORS: AlibabaNodeType.SUB_DEVICE}
CHILDREN = 60
UNHURRIED = AlibabaRules(child_logins=0, messages=(0, 0))
"""Without the limits of time: gatewayd's clock is turned by hand, and the cloud's is not."""


def child(number: int, route: str = "sub-device") -> CloudName:
    """The name of one of the children."""
    return CloudName("cloud", SENSORS, f"SEN-{number:04}", route)


def at_cloud(name: CloudName) -> tuple[str, str]:
    """The same as the simulator has it."""
    return name.product, name.device


@dataclass
class Site(Trial):
    """cloud: simulated.  provider: ours.  session: the gateway's own, the newest."""

    cloud: AlibabaCloud
    provider: Alibaba
    wishes: Wishes
    clock: ManualClock
    session: Session | None = None
    sessions: list[Session] = field(default_factory=list)

    async def log_in(self) -> None:
        """Log the gateway in."""
        secret = self.cloud.secret(*GATEWAY)
        assert secret is not None
        self.session = await self.provider.connect(OWN, Secret(secret.encode()))

    async def lose_link(self) -> None:
        """Let the network cut the gateway off."""
        assert self.session is not None
        for link in tuple(self.cloud._service.links):
            link.abort()
        await self.session.wait_closed()

    async def online(self, *numbers: int) -> list[Session]:
        """Register children, and log them in."""
        return await self.bring(*map(child, numbers))

    @property
    def ledger(self) -> Any:
        """What the cloud's ledger says of the gateway."""
        truth: Any = self.cloud.truth()
        return truth["gateways"][GATEWAYS][GATEWAY[1]]

    @property
    def ledger_of_gateway(self) -> Any:
        """What the cloud's ledger says of the gateway as of any device."""
        truth: Any = self.cloud.truth()
        return truth["devices"][GATEWAYS][GATEWAY[1]]

    def calls(self, method: str) -> int:
        """How often the gateway asked for something, with whatever answer."""
        return sum(self.ledger["calls"].get(method, {}).values())


def furnish(folder: Path) -> Path:
    """Write what settings name: roots, product secrets, a folder for device secrets."""
    for key, value in PRODUCT_SECRETS.items():
        (folder / key).touch(mode=0o600)
        (folder / key).write_text(value)
    (folder / "ca.pem").write_text(AUTHORITY.pem)
    (folder / "devices").mkdir()
    return folder


def settings_for(folder: Path, port: int, **others: Any) -> AlibabaSettings:
    """Settings that lead to this machine.  gateway: further settings of the gateway."""
    own = {"register": True} | others.pop("gateway", {})
    products = {
        key: AlibabaProduct(secret_file=folder / key, device_directory=folder / "devices")
        for key in PRODUCT_SECRETS
    }
    given: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "ca_file": folder / "ca.pem",
        "connect_timeout": 20.0,
        "reply_timeout": 20.0,
        "products": products,
        "gateway": AlibabaGateway(GATEWAYS, GATEWAY[1], **own),
    }
    return AlibabaSettings(**(given | others))


def cloud_with(
    rules: AlibabaRules, random: Callable[[int], bytes] = os.urandom, children: int = CHILDREN
) -> AlibabaCloud:
    """A cloud with a gateway and so many sub-devices."""
    return AlibabaCloud(
        PRODUCT_SECRETS,
        [GATEWAY, *(at_cloud(child(number)) for number in range(children))],
        certificate=CERTIFICATE,
        clock=time.monotonic,
        random=random,
        options=AlibabaCloudOptions(rate=0, nodes=NODES, rules=rules),
    )


@asynccontextmanager
async def site(
    folder: Path, rules: AlibabaRules | None = None, children: int = CHILDREN, **others: Any
) -> AsyncIterator[Site]:
    """Set everything up, with the gateway registered and logged in."""
    clock, wishes = ManualClock(), Wishes()
    async with cloud_with(rules or UNHURRIED, children=children) as cloud:
        settings = settings_for(folder, cloud.port, **others)
        provider = Alibaba(
            "cloud", settings, partial(read_secret, None), os.urandom, Clock(clock.now, wall_time)
        )
        provider.set_requests(wishes)
        one = Site(cloud, provider, wishes, clock)
        assert await provider.register(OWN, RecordingKeeper().keep) == Issued()
        await one.log_in()
        yield one
        for session in one.sessions:
            await session.close()
        if one.session is not None:
            await one.session.close()
        await provider.close()
        await until(lambda: not cloud._service.links)
