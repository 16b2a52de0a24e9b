"""Children that speak at a simulated platform, over real TLS, by either route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.cloud.provider import LoginFailed, Session, SupportsMessages
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.exchange.arrivals import Arrival
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from tests.cloud.huawei import certified as direct
from tests.cloud.huawei import site as behind
from tests.cloud.huawei.certified import Certified, certified
from tests.cloud.huawei.site import GATEWAYS, INSTANCE, OWN_ID, SENSORS, Site, site

CLIMATE: dict[str, Any] = {
    "service_id": "climate",
    "service_type": "climate",
    "properties": [
        {"property_name": "n", "data_type": "int"},
        {"property_name": "temperature", "data_type": "decimal"},
    ],
    "events": [{"event_type": "hot", "paras": [{"para_name": "at", "data_type": "decimal"}]}],
}
AT = 1_764_444_000_000


def reading(number: int) -> Message:
    """A reading of its own time, whole milliseconds apart."""
    return Message("properties", json.dumps({"n": number, "time": AT + number}).encode(), 0)


def said(topic: str, payload: object) -> Message:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(topic, data, AT)


@dataclass
class Speaking:
    """Children that speak by one route.

    connect: opens the session of a child.  ids: their device IDs.  cut: ends the connection over
    which a child speaks.
    """

    cloud: HuaweiCloud
    instance: IotdaInstance
    names: tuple[CloudName, CloudName]
    ids: tuple[str, str]
    connect: Callable[[CloudName], Awaitable[Session]]
    sender: str

    def arrived(self, which: int = 0) -> Sequence[Arrival]:
        return self.instance.arrivals.of(self.ids[which])

    @property
    def ledger(self) -> Any:
        truth: Any = self.cloud.truth()
        return truth["instances"][INSTANCE]["devices"][self.sender]

    async def session(self, which: int = 0) -> SupportsMessages:
        """Open a session, as soon as that is possible."""
        while True:
            try:
                opened = await self.connect(self.names[which])
            except LoginFailed:
                await asyncio.sleep(0.05)
            else:
                assert isinstance(opened, SupportsMessages)
                return opened


def furnish_models(instance: IotdaInstance) -> None:
    for product in (SENSORS, GATEWAYS):
        instance.products.update(product, {"service_capabilities": [CLIMATE], "topics": ["door"]})


@asynccontextmanager
async def by_certificate(folder: Path) -> AsyncIterator[Speaking]:
    await asyncio.to_thread(direct.furnish, folder)
    async with certified(folder, services={SENSORS: "climate"}) as one:
        furnish_models(one.instance)
        names = direct.child(0), direct.child(1)
        secrets = {name: await one.secret(name) for name in names}
        yield speaking(
            one, names, lambda name: one.connect(name, secrets[name]), direct.child_id(0)
        )


@asynccontextmanager
async def as_sub_device(folder: Path) -> AsyncIterator[Speaking]:
    await asyncio.to_thread(behind.furnish, folder)
    async with site(folder, services={SENSORS: "climate"}) as one:
        furnish_models(one.instance)
        names = behind.child(0), behind.child(1)
        secrets = {name: await one.secret(name) for name in names}

        async def connect(name: CloudName) -> Session:
            if one.session is None or OWN_ID not in one.cloud._hubs[INSTANCE].broker:
                await one.log_in()
            return await one.connect(name, secrets[name])

        yield speaking(one, names, connect, OWN_ID)


def speaking(
    one: Site | Certified,
    names: tuple[CloudName, CloudName],
    connect: Callable[[CloudName], Awaitable[Session]],
    sender: str,
) -> Speaking:
    ids = direct.child_id(0), direct.child_id(1)
    return Speaking(one.cloud, one.instance, names, ids, connect, sender)
