"""The devices of a Huawei instance: their index, and their management.  No I/O.

Source: the vendor's API "Device management" (api-iothub), and its limits (productdesc-iothub/
iot_04_0010).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, Unpack

from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.device import (
    AuthSlot,
    DeviceAuth,
    HuaweiAuthType,
    HuaweiDevice,
    NewDevice,
)
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.simulator.huawei.platform.resource_spaces import HuaweiProducts, ResourceSpaces

LEVELS = 2
"""A child may have children, but these none (AddDevice, gateway_id)."""


class DeviceWatcher(Protocol):
    """A watcher of changes to devices."""

    def registered(self, device: HuaweiDevice) -> None:
        """Called for a new device."""

    def added(self, device: HuaweiDevice) -> None:
        """Called for a device that was added, or moved to its gateway."""

    def removed(self, device: HuaweiDevice) -> None:
        """Called for a device that is about to be deleted, or moved to another gateway."""

    def expelled(self, device: HuaweiDevice) -> None:
        """Called for a device whose connection must be closed."""


class DeviceIndex:
    """An index of devices, by id and by gateway; its methods raise PlatformError.

    deleted: called with the id of each deleted device.
    """

    def __init__(self, limits: InstanceLimits) -> None:
        self.watchers: list[DeviceWatcher] = []
        self.deleted: Callable[[str], None] = lambda _: None
        self.limits = limits
        self._devices: dict[str, HuaweiDevice] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._of_product: Counter[str] = Counter()
        self._families: Counter[str] = Counter()

    def get(self, device_id: str) -> HuaweiDevice:
        """Return one."""
        if device := self._devices.get(device_id):
            return device
        raise PlatformError(IotdaCode.UNKNOWN_DEVICE)

    def lookup(self, device_id: str) -> HuaweiDevice | None:
        """Return one, or None."""
        return self._devices.get(device_id)

    def children(self, gateway_id: str) -> Sequence[HuaweiDevice]:
        """Return the children of a device, the oldest first."""
        return [self._devices[one] for one in self._children.get(gateway_id, ())]

    def descendants(self, gateway_id: str) -> Sequence[HuaweiDevice]:
        """Return the devices below a gateway, parents before their children."""
        children = self.children(gateway_id)
        return [*children, *(one for child in children for one in self.children(child.device_id))]

    def gateway_of(self, device: HuaweiDevice) -> HuaweiDevice:
        """Return the device that connects on behalf of this one."""
        while not device.direct:
            device = self._devices[device.gateway_id]
        return device

    def belongs(self, device_id: str, gateway_id: str) -> bool:
        """Whether a device is a child of a gateway, or a child of one."""
        device = self._devices.get(device_id)
        return (
            device is not None
            and not device.direct
            and self.gateway_of(device).device_id == gateway_id
        )

    def used(self, product_id: str) -> bool:
        """Whether a product has devices."""
        return self._of_product[product_id] > 0

    def list(
        self,
        *,
        app_id: str | None = None,
        product_id: str | None = None,
        gateway_id: str | None = None,
        node_id: str | None = None,
        name: str | None = None,
    ) -> Sequence[HuaweiDevice]:
        """Return the matching ones, newest first; a gateway is no child of itself."""
        found = self._devices.values() if gateway_id is None else self.children(gateway_id)
        return [
            one
            for one in reversed([*found])
            if app_id in (None, one.app_id)
            and product_id in (None, one.product_id)
            and node_id in (None, one.node_id)
            and name in (None, one.name)
        ]

    def insert(self, device: HuaweiDevice) -> None:
        """Add a device, if it is new and within the limits."""
        node = (device.product_id, device.node_id)
        if device.device_id in self._devices or node in self._nodes:
            raise PlatformError(IotdaCode.DEVICE_EXISTS)
        if len(self._devices) >= self.limits.devices:
            raise PlatformError(IotdaCode.DEVICE_LIMIT)
        if not device.direct:
            self._check_parent(device.gateway_id, levels=1)
            self._children.setdefault(device.gateway_id, {})[device.device_id] = None
            self._count(device.gateway_id, 1)
        self._devices[device.device_id] = device
        self._nodes[node] = device.device_id
        self._of_product[device.product_id] += 1
        for watcher in self.watchers:
            watcher.registered(device)
            watcher.added(device)

    def remove(self, device: HuaweiDevice) -> None:
        """Remove a device."""
        for watcher in self.watchers:
            watcher.removed(device)
            watcher.expelled(device)
        if not device.direct:
            self._count(device.gateway_id, -1)
            del self._children[device.gateway_id][device.device_id]
        self._children.pop(device.device_id, None)
        del self._devices[device.device_id]
        del self._nodes[device.product_id, device.node_id]
        self._of_product[device.product_id] -= 1
        self.deleted(device.device_id)

    def move(self, device: HuaweiDevice, gateway_id: str) -> None:
        """Move a child, with its own children, to another gateway."""
        if device.direct or gateway_id == device.device_id:
            raise PlatformError(IotdaCode.INVALID_INPUT, "(gateway_id)")
        self._check_parent(gateway_id, levels=2 if self._children.get(device.device_id) else 1)
        for watcher in self.watchers:
            watcher.removed(device)
        del self._children[device.gateway_id][device.device_id]
        moved = 1 + len(self.children(device.device_id))
        self._count(device.gateway_id, -moved)
        self._count(gateway_id, moved)
        device.gateway_id = gateway_id
        self._children.setdefault(gateway_id, {})[device.device_id] = None
        for watcher in self.watchers:
            watcher.added(device)

    def expel(self, device: HuaweiDevice) -> None:
        """Close a device's connection."""
        for watcher in self.watchers:
            watcher.expelled(device)

    def _check_parent(self, gateway_id: str, levels: int) -> None:
        """Refuse a parent that is missing, full, or too deep."""
        parent = self.get(gateway_id)
        depth = 0 if parent.direct else 1 if self.get(parent.gateway_id).direct else LEVELS
        if depth + levels > LEVELS:
            raise PlatformError(IotdaCode.TOO_DEEP)
        if self._families[self.gateway_of(parent).device_id] >= self.limits.children:
            raise PlatformError(IotdaCode.CHILD_LIMIT)

    def _count(self, parent_id: str, more: int) -> None:
        """Count the descendants of the device that connects on behalf of a parent."""
        self._families[self.gateway_of(self._devices[parent_id]).device_id] += more


class Devices(DeviceIndex):
    """Devices, and their management.  Every method raises PlatformError."""

    def __init__(
        self, ids: Ids, apps: ResourceSpaces, products: HuaweiProducts, limits: InstanceLimits
    ) -> None:
        super().__init__(limits)
        self._ids, self._apps, self._products = ids, apps, products

    def add(self, **new: Unpack[NewDevice]) -> HuaweiDevice:
        """Register a device: a child, if it has a gateway."""
        product = self._products.get(new["product_id"], self._apps.find(new.get("app_id")).app_id)
        node_id, gateway_id = fields.check("node_id", new["node_id"]), new.get("gateway_id")
        default = f"{product.product_id}_{node_id}"
        own = fields.optional("device_id", new.get("device_id")) or default
        device = HuaweiDevice(
            own,
            node_id,
            product.product_id,
            product.app_id,
            gateway_id or own,
            self._ids.record(),
            self._ids.clock(),
            self._proof(new.get("auth") or DeviceAuth(), direct=not gateway_id),
            fields.optional("device_name", new.get("name")),
            fields.optional("device_description", new.get("description")),
            fields.extension(new.get("extension_info")),
            self._tags(new.get("tags") or {}),
            self_registered=new.get("self_registered", False),
        )
        self.insert(device)
        return device

    def update(self, device_id: str, changes: Mapping[str, object]) -> HuaweiDevice:
        """Change name, description, extension_info, auth_type, secure_access and timeout."""
        device = self.get(device_id)
        for field, value in changes.items():
            match field, value:
                case "name", _:
                    device.name = fields.optional("device_name", value)
                case "description", _:
                    device.description = fields.optional("device_description", value)
                case "extension_info", _:
                    device.extension_info = fields.extension(value)
                case "auth_type", ("SECRET" | "CERTIFICATES"):
                    device.auth.auth_type = HuaweiAuthType(str(value))
                case "secure_access", bool():
                    device.auth.secure_access = value
                case "timeout", int():
                    device.auth.timeout = value
                case _:
                    raise PlatformError(IotdaCode.INVALID_INPUT, f"({field})")
        return device

    def delete(self, device_id: str) -> None:
        """Delete a device that has no children."""
        device = self.get(device_id)
        if self.children(device_id):
            raise PlatformError(IotdaCode.HAS_CHILDREN)
        self.remove(device)

    def empty(self, app_id: str) -> None:
        """Delete all that is in a resource space, children before their gateways."""
        for gateway in [one for one in self.list(app_id=app_id) if one.direct]:
            for device in [*self.descendants(gateway.device_id)][::-1]:
                self.remove(device)
            self.remove(gateway)

    def freeze(self, device_id: str) -> None:
        """Freeze a device, and close its connection."""
        device = self.get(device_id)
        device.frozen = True
        self.expel(device)

    def unfreeze(self, device_id: str) -> None:
        """Unfreeze a device."""
        self.get(device_id).frozen = False

    def reset_secret(
        self,
        device_id: str,
        secret: str | None = None,
        *,
        slot: AuthSlot = AuthSlot.PRIMARY,
        force_disconnect: bool = False,
    ) -> str:
        """Set a secret, a random one by default, and return it."""
        device = self.get(device_id)
        new = fields.optional("secret", secret) or self._ids.plain()
        if slot is AuthSlot.PRIMARY:
            device.auth.secret = new
        else:
            device.auth.secondary_secret = new
        if force_disconnect:
            self.expel(device)
        return new

    def reset_fingerprint(
        self,
        device_id: str,
        fingerprint: str | None = None,
        *,
        slot: AuthSlot = AuthSlot.PRIMARY,
        force_disconnect: bool = False,
    ) -> None:
        """Set a fingerprint, or empty it: then the next certificate is learnt."""
        device = self.get(device_id)
        new = fields.optional("fingerprint", fingerprint)
        if slot is AuthSlot.PRIMARY:
            device.auth.fingerprint = new
        else:
            device.auth.secondary_fingerprint = new
        if force_disconnect:
            self.expel(device)

    def change_gateway(self, device_id: str, gateway_id: str) -> HuaweiDevice:
        """Move a child to another gateway."""
        device = self.get(device_id)
        self.move(device, gateway_id)
        return device

    def bind_tags(self, device_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a device; one of the same key is replaced."""
        device = self.get(device_id)
        device.tags = self._tags({**device.tags, **tags})

    def unbind_tags(self, device_id: str, keys: Sequence[str]) -> None:
        """Remove tags from a device."""
        tags = self.get(device_id).tags
        for key in keys:
            tags.pop(key, None)

    def _proof(self, auth: DeviceAuth, *, direct: bool) -> DeviceAuth:
        """Check the credentials of a device, and make a secret if it needs one."""
        secret = fields.optional("secret", auth.secret)
        if secret is None and direct and auth.auth_type is HuaweiAuthType.SECRET:
            secret = self._ids.plain()
        fields.optional("secret", auth.secondary_secret)
        fields.optional("fingerprint", auth.fingerprint)
        fields.optional("fingerprint", auth.secondary_fingerprint)
        return replace(auth, secret=secret)

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        if len(tags) > self.limits.tags:
            raise PlatformError(IotdaCode.TAG_LIMIT)
        return {
            fields.check("tag_key", key): fields.check("tag_value", value)
            for key, value in tags.items()
        }
