"""A simulated instance whose devices register themselves, and a provider with a CA it knows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.ca.certificates import to_pem
from gatewayd.cloud.ca.store import AuthoritySlots
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiGateway, HuaweiSettings
from gatewayd.cloud.provider import Session
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import SecretNotFound
from gatewayd.runtime.clock import Clock
from gatewayd.simulator import pki
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.authorities import DeviceCa
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.platform import Platform
from tests.cloud.guarded import device_ca
from tests.cloud.huawei.site import INSTANCE, SENSORS, endpoint, with_products
from tests.cloud.stand_ins import ManualClock, Wishes
from tests.cloud.trial import Trial
from tests.support.simulated_ca import AUTHORITY

BODY: Mapping[str, Any] = {
    "parameters": {
        f"iotda::certificate::{word}": {"type": "String"}
        for word in ("common_name", "organizational_unit", "country")
    },
    "resources": {
        "device": {
            "node_id": {"ref": "iotda::certificate::common_name"},
            "product_id": {"ref": "iotda::certificate::organizational_unit"},
            "tags": [{"tag_key": "country", "tag_value": {"ref": "iotda::certificate::country"}}],
        }
    },
}
"""A template that takes product and node id from the subject."""


def child(number: int, product: str = SENSORS) -> CloudName:
    """The name of one of the children."""
    return CloudName("cloud", product, f"SEN-{number:04}")


def child_id(number: int) -> str:
    """The device ID that the platform gives to it."""
    return f"{SENSORS}_SEN-{number:04}"


@dataclass
class MemorySlots:
    """Keeps authorities as the secret store does."""

    kept: dict[int, Secret] = field(default_factory=dict)

    async def generations(self) -> Sequence[int]:
        return tuple(self.kept)

    async def get(self, generation: int) -> Secret:
        if generation not in self.kept:
            raise SecretNotFound("no such slot")
        return self.kept[generation]

    async def put(self, generation: int, secret: Secret) -> None:
        self.kept[generation] = secret

    @property
    def port(self) -> AuthoritySlots:
        return AuthoritySlots(self.generations, self.get, self.put)


@dataclass
class Certified(Trial):
    """cloud: simulated.  provider: ours.  ca: what the platform has of our device CA."""

    cloud: HuaweiCloud
    provider: Huawei
    template: Path
    ca: DeviceCa
    slots: MemorySlots
    sessions: list[Session] = field(default_factory=list)

    @property
    def instance(self) -> IotdaInstance:
        """What is managed."""
        return self.cloud.platform.get(INSTANCE)

    def devices(self) -> set[str]:
        """The devices that the platform knows."""
        return {one.device_id for one in self.instance.devices.list()}

    def reports(self, device_id: str) -> dict[str, int]:
        """How often a gateway has reported a child, by what it said."""
        truth: Any = self.cloud.truth()
        reports: dict[str, int] = truth["instances"][INSTANCE]["devices"][device_id][
            "status_reports"
        ]
        return reports


def settings(folder: Path, cloud: HuaweiCloud, **others: Any) -> HuaweiSettings:
    """Return what leads to a simulated instance."""
    certificates = {
        "template_file": folder / "template.json",
        "subject": {"country": "CN"},
        "key_algorithm": "ec-p256",
    } | others.pop("certificates", {})
    values = endpoint(folder, cloud) | {"certificates": HuaweiCertificates(**certificates)}
    return HuaweiSettings(**(values | others))


def furnish(folder: Path, body: Mapping[str, Any] = BODY) -> Path:
    """Write what settings name: roots, and the template."""
    (folder / "ca.pem").write_text(AUTHORITY.pem)
    (folder / "template.json").write_text(json.dumps(body))
    return folder


def platform(body: Mapping[str, Any] = BODY) -> Platform:
    """An instance with two products and a template."""
    made, instance = with_products()
    instance.templates.create("template", body)
    return made


async def entrust(cloud: HuaweiCloud, provider: Huawei) -> tuple[DeviceCa, MemorySlots]:
    """Give the provider a CA that the platform has verified and bound to the template."""
    slots, instance = MemorySlots(), cloud.platform.get(INSTANCE)
    assert provider.issuer is not None
    keeper = provider.issuer.authority
    keeper.set_slots(slots.port)
    held = await keeper.keep(await asyncio.to_thread(device_ca), replace=False)
    ca = instance.authorities.upload(held.authority.pem)
    proof = held.authority.prove(ca.verify_code, time.time())
    instance.authorities.verify(ca.certificate_id, to_pem(proof))
    (template,) = instance.templates.list()
    instance.authorities.update(
        ca.certificate_id, {"provision_enable": True, "template_id": template.template_id}
    )
    return ca, slots


@asynccontextmanager
async def certified(
    folder: Path,
    options: HuaweiCloudOptions | None = None,
    gateway: HuaweiGateway | None = None,
    authority: pki.RootAuthority = AUTHORITY,
    **others: Any,
) -> AsyncIterator[Certified]:
    """Set everything up: the CA is made here, uploaded, verified and bound."""
    async with HuaweiCloud(platform(), authority=authority, options=options) as cloud:
        wall: Callable[[], float] = others.pop("wall", time.time)
        provider = await asyncio.to_thread(
            Huawei, "cloud", settings(folder, cloud, gateway=gateway, **others),
            partial(read_secret, None), Clock(ManualClock().now, lambda: int(wall() * 1e6)),
        )  # fmt: skip
        provider.set_requests(Wishes())
        ca, slots = await entrust(cloud, provider)
        one = Certified(cloud, provider, folder / "template.json", ca, slots)
        try:
            yield one
        finally:
            await asyncio.gather(*(session.close() for session in one.sessions))
            await provider.close()
