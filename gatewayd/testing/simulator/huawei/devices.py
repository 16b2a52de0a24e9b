"""What is done to the devices of a Huawei instance.  No I/O.

Source: the vendor's API "Device management" (api-iothub), and its limits (productdesc-iothub/
iot_04_0010).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from gatewayd.testing.simulator.huawei import fields
from gatewayd.testing.simulator.huawei.errors import Code, PlatformError
from gatewayd.testing.simulator.huawei.ids import Ids
from gatewayd.testing.simulator.huawei.limits import Limits
from gatewayd.testing.simulator.huawei.shelf import Shelf
from gatewayd.testing.simulator.huawei.spaces import Apps, Products
from gatewayd.testing.simulator.huawei.things import Auth, AuthType, Device, NewDevice, Slot

__all__ = ["Devices"]


class Devices(Shelf):
    """Devices, and what the management side does to them.  Every method raises PlatformError."""

    def __init__(self, ids: Ids, apps: Apps, products: Products, limits: Limits) -> None:
        super().__init__(limits)
        self._ids, self._apps, self._products = ids, apps, products

    def add(self, **new: Unpack[NewDevice]) -> Device:
        """Register a device: a child, if it has a gateway."""
        product = self._products.get(new["product_id"], self._apps.find(new.get("app_id")).app_id)
        node_id, gateway_id = fields.check("node_id", new["node_id"]), new.get("gateway_id")
        default = f"{product.product_id}_{node_id}"
        own = fields.optional("device_id", new.get("device_id")) or default
        device = Device(
            own,
            node_id,
            product.product_id,
            product.app_id,
            gateway_id or own,
            self._ids.record(),
            self._ids.clock(),
            self._proof(new.get("auth") or Auth(), direct=not gateway_id),
            fields.optional("device_name", new.get("name")),
            fields.optional("device_description", new.get("description")),
            fields.extension(new.get("extension_info")),
            self._tags(new.get("tags") or {}),
            self_registered=new.get("self_registered", False),
        )
        self.insert(device)
        return device

    def update(self, device_id: str, changes: Mapping[str, object]) -> Device:
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
                    device.auth.auth_type = AuthType(str(value))
                case "secure_access", bool():
                    device.auth.secure_access = value
                case "timeout", int():
                    device.auth.timeout = value
                case _:
                    raise PlatformError(Code.INVALID_INPUT, f"({field})")
        return device

    def delete(self, device_id: str) -> None:
        """Delete a device that has no children."""
        device = self.get(device_id)
        if self.children(device_id):
            raise PlatformError(Code.HAS_CHILDREN)
        self.remove(device)

    def empty(self, app_id: str) -> None:
        """Delete all that is in a resource space, children before their gateways."""
        for gateway in [one for one in self.list(app_id=app_id) if one.direct]:
            for device in [*self.family(gateway.device_id)][::-1]:
                self.remove(device)
            self.remove(gateway)

    def freeze(self, device_id: str) -> None:
        """Shut a device out, and close its connection."""
        device = self.get(device_id)
        device.frozen = True
        self.expel(device)

    def unfreeze(self, device_id: str) -> None:
        """Let a device in again."""
        self.get(device_id).frozen = False

    def reset_secret(
        self,
        device_id: str,
        secret: str | None = None,
        *,
        slot: Slot = Slot.PRIMARY,
        force_disconnect: bool = False,
    ) -> str:
        """Set a secret, made up where none is given, and return it."""
        device = self.get(device_id)
        new = fields.optional("secret", secret) or self._ids.plain()
        if slot is Slot.PRIMARY:
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
        slot: Slot = Slot.PRIMARY,
        force_disconnect: bool = False,
    ) -> None:
        """Set a fingerprint, or empty it: the next certificate to come is learnt then."""
        device = self.get(device_id)
        new = fields.optional("fingerprint", fingerprint)
        if slot is Slot.PRIMARY:
            device.auth.fingerprint = new
        else:
            device.auth.secondary_fingerprint = new
        if force_disconnect:
            self.expel(device)

    def change_gateway(self, device_id: str, gateway_id: str) -> Device:
        """Give a child to another gateway."""
        device = self.get(device_id)
        self.move(device, gateway_id)
        return device

    def bind_tags(self, device_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a device; one of the same key is replaced."""
        device = self.get(device_id)
        device.tags = self._tags({**device.tags, **tags})

    def unbind_tags(self, device_id: str, keys: Sequence[str]) -> None:
        """Take tags away from a device."""
        tags = self.get(device_id).tags
        for key in keys:
            tags.pop(key, None)

    def _proof(self, auth: Auth, *, direct: bool) -> Auth:
        """Check how a device proves itself, and make up what it needs."""
        secret = fields.optional("secret", auth.secret)
        if secret is None and direct and auth.auth_type is AuthType.SECRET:
            secret = self._ids.plain()
        fields.optional("secret", auth.secondary_secret)
        fields.optional("fingerprint", auth.fingerprint)
        fields.optional("fingerprint", auth.secondary_fingerprint)
        return replace(auth, secret=secret)

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        if len(tags) > self.limits.tags:
            raise PlatformError(Code.TAG_LIMIT)
        return {
            fields.check("tag_key", key): fields.check("tag_value", value)
            for key, value in tags.items()
        }
