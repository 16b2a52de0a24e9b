"""An instance of the simulated Huawei platform, with everything its owner manages.  No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from gatewayd.simulator.huawei.exchange.arrivals import Arrivals
from gatewayd.simulator.huawei.exchange.device_messages import DeviceMessage, DeviceMessages
from gatewayd.simulator.huawei.exchange.forwarding import RoutingRules
from gatewayd.simulator.huawei.exchange.shadows import DeviceShadows
from gatewayd.simulator.huawei.platform.authorities import Authorities
from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.device_certificates import DeviceCertificates
from gatewayd.simulator.huawei.platform.devices import Devices
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.simulator.huawei.platform.policies import DevicePolicies
from gatewayd.simulator.huawei.platform.resource_spaces import HuaweiProducts, ResourceSpaces
from gatewayd.simulator.huawei.platform.templates import Templates

WITHOUT_SELF_REGISTRATION = frozenset({"cn-east-3"})
"""Regions whose standard instances have no self-registration: CN East-Shanghai1."""


class Edition(StrEnum):
    """The edition of an instance."""

    BASIC = "basic"
    STANDARD = "standard"
    ENTERPRISE = "enterprise"


class DeviceChannel(Protocol):
    """The way from the owner of an instance to its devices."""

    async def ask(self, device: HuaweiDevice, use: str, body: Mapping[str, object]) -> object:
        """Send a request of this use, and return the device's response.

        use: as "commands".  Raises PlatformError: the device is offline, has not subscribed, or
        does not respond in time.
        """

    def desire(self, device: HuaweiDevice) -> None:
        """Send the desired properties that the device lacks, if it is online."""

    def deliver(self, device: HuaweiDevice, message: DeviceMessage) -> None:
        """Send a message, or leave it pending."""


class IotdaInstance:
    """An instance.

    domain: the name that its clients connect to, and send as SNI.
    ids: also has the clock.  channel: to its devices, which are offline without one.
    """

    def __init__(
        self,
        instance_id: str,
        ids: Ids,
        limits: InstanceLimits,
        *,
        region: str,
        edition: Edition,
        domain: str,
    ) -> None:
        self.channel: DeviceChannel | None = None
        self.instance_id, self.region, self.ids = instance_id, region, ids
        self.edition, self.domain = edition, domain
        self.apps = ResourceSpaces(ids, limits.apps)
        self.products = HuaweiProducts(ids, self.apps, limits.products)
        self.devices = Devices(ids, self.apps, self.products, limits)
        self.templates = Templates(ids, limits.templates)
        self.authorities = Authorities(ids, self.apps, limits.authorities, self.templates.known)
        self.policies = DevicePolicies(ids, self.apps, self.products, self.devices, limits)
        self.shadows, self.messages = DeviceShadows(), DeviceMessages(ids.clock)
        self.arrivals, self.rules = Arrivals(ids.clock), RoutingRules(ids)
        self.certificates = DeviceCertificates(ids, limits.device_certificates)
        self.templates.offered = self.authorities.provisions = self.self_registers
        self.products.used, self.templates.bound = self.devices.used, self.authorities.bound
        self.devices.deleted = self._forget
        self.certificates.deactivated = self._expel
        self.apps.opened, self.apps.emptied = self.policies.open, self._empty
        self.policies.open(self.apps.default)

    @property
    def self_registers(self) -> bool:
        """Whether the instance offers templates."""
        if self.edition is Edition.STANDARD:
            return self.region not in WITHOUT_SELF_REGISTRATION
        return self.edition is Edition.ENTERPRISE

    def _forget(self, device_id: str) -> None:
        """Delete what is kept of a deleted device."""
        self.policies.forget_device(device_id)
        self.shadows.forget(device_id)
        self.messages.forget(device_id)

    def _expel(self, device_ids: Sequence[str]) -> None:
        for device_id in device_ids:
            if device := self.devices.lookup(device_id):
                self.devices.expel(device)

    def _empty(self, app_id: str) -> None:
        """Delete the content of a resource space."""
        self.devices.empty(app_id)
        for product in self.products.list(app_id):
            self.products.delete(product.product_id)
        self.authorities.empty(app_id)
        self.policies.empty(app_id)
