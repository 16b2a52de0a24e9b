"""Children at a simulated cloud that speak, by every route: real provider, real TLS."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import Issued, Publication
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.contracts.messages import SpeakingSession
from gatewayd.testing.waiting import until
from tests.cloud.alibaba import direct, site
from tests.cloud.alibaba.direct import PRODUCT, PRODUCT_SECRET
from tests.cloud.alibaba.site import GATEWAYS, OWN, SENSORS, at_cloud, child
from tests.support.simulated_ca import CERTIFICATE

AT = 1_764_444_000_123
TSL: dict[str, Any] = {
    "properties": [
        {"identifier": "Number", "dataType": {"type": "int"}},
        {"identifier": "Light", "dataType": {"type": "bool"}},
        {"identifier": "Temperature", "dataType": {"type": "double"}},
    ],
    "events": [
        {
            "identifier": "Hot",
            "outputData": [{"identifier": "Temperature", "dataType": {"type": "double"}}],
        }
    ],
}
MODEL = specification.parse(TSL)
POST, PACK = "thing.event.property.post", "thing.event.property.pack.post"
HISTORY = "thing.event.property.history.post"
BATCH = "thing.event.property.batch.post"
EACH = "lose-reply@thing.event.property.{}.post"
HELD = f"lose-puback {EACH.format('pack')} {EACH.format('history')}"
RULES = AlibabaRules(child_logins=0, kept=10_000)
"""With the vendor's limits of messages."""


@dataclass
class Speaking:
    """A child that is online.  name: at the cloud."""

    cloud: AlibabaCloud
    provider: Alibaba
    name: CloudName
    session: SpeakingSession

    async def log_in(self) -> SpeakingSession:
        """Log the child in once more; it may do so five times a minute."""
        return await log_in(self.provider, self.cloud, self.name)

    def message(self, number: int) -> Message:
        return Message("properties", json.dumps({"Number": number}).encode(), AT + number)

    def unfit(self) -> Message:
        return Message("thing/../topo/add", b"{}", AT)

    def arrived(self) -> Sequence[int]:
        values = [cast("dict[str, Any]", one["values"]) for one in self.reports()]
        return [one["Number"] for one in values if "Number" in one]

    def hold(self) -> None:
        self.cloud.set_faults(HELD)

    def stop(self) -> None:
        self.cloud.set_faults("down")

    def reports(self) -> list[dict[str, Any]]:
        """What the cloud has, in the order of arrival."""
        return self.cloud.reports(*at_cloud(self.name))

    @property
    def ledger(self) -> Any:
        truth: Any = self.cloud.truth()
        return truth["devices"][self.name.product][self.name.device]

    async def say(self, *messages: Message) -> list[Publication]:
        """Publish messages together; return how that ended."""
        async with asyncio.timeout(60):
            return await asyncio.gather(*map(self.session.publish, messages))


async def log_in(provider: Alibaba, cloud: AlibabaCloud, name: CloudName) -> SpeakingSession:
    """Log a child in with the secret that it has at the cloud."""
    secret = cloud.secret(*at_cloud(name))
    assert secret is not None
    async with asyncio.timeout(30):
        return cast("SpeakingSession", await provider.connect(name, Secret(secret.encode())))


@asynccontextmanager
async def directly(
    folder: Path, route: str = "direct", reply_timeout: float = 10.0, **others: Any
) -> AsyncIterator[Speaking]:
    """A child with a session of its own."""
    name = CloudName("cloud", PRODUCT, "TH20-0001", route)
    options = AlibabaCloudOptions(
        preregistration_free=True, models={PRODUCT: MODEL}, rules=RULES, rate=0
    )
    cloud = AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET},
        [(PRODUCT, name.device)] if route == "direct" else [],
        certificate=CERTIFICATE,
        clock=time.monotonic,
        random=os.urandom,
        options=options,
    )
    async with cloud:
        settings = direct.settings_for(folder, cloud.port, reply_timeout=reply_timeout, **others)
        provider = Alibaba("cloud", settings, partial(read_secret, None), os.urandom)
        kept = RecordingKeeper()
        assert await provider.register(name, kept.keep) == Issued()
        session = cast("SpeakingSession", await provider.connect(name, kept.secrets[0]))
        yield Speaking(cloud, provider, name, session)
        await session.close()
        await provider.close()
        await until(lambda: not cloud._service.links)


@asynccontextmanager
async def behind_the_gateway(
    folder: Path, route: str = "sub-device", rules: AlibabaRules = RULES
) -> AsyncIterator[Speaking]:
    """A child behind the gateway's session."""
    async with site.site(folder, rules) as one:
        for product in (SENSORS, GATEWAYS):
            one.cloud.set_model(product, TSL)
        (session,) = await one.bring(child(0, route))
        yield Speaking(one.cloud, one.provider, child(0), cast("SpeakingSession", session))


@asynccontextmanager
async def as_gateway(folder: Path, rules: AlibabaRules = RULES) -> AsyncIterator[Speaking]:
    """The gateway itself."""
    async with site.site(folder, rules) as one:
        one.cloud.set_model(GATEWAYS, TSL)
        yield Speaking(one.cloud, one.provider, OWN, cast("SpeakingSession", one.session))


def by_route(route: str, folder: Path) -> AbstractAsyncContextManager[Speaking]:
    """A child in an empty folder: with a session of its own, or behind the gateway's."""
    if route == "direct":
        return directly(direct.furnish(folder))
    return behind_the_gateway(site.furnish(folder))
