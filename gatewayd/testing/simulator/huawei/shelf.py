"""Devices of a Huawei instance, by id and by where they belong.  No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from gatewayd.testing.simulator.huawei.errors import Code, PlatformError
from gatewayd.testing.simulator.huawei.limits import Limits
from gatewayd.testing.simulator.huawei.things import Device

LEVELS = 2
"""A child may have children, and these none (AddDevice, gateway_id)."""


class Watcher(Protocol):
    """Who learns what is done to devices."""

    def registered(self, device: Device) -> None:
        """Learn that a device is new."""

    def added(self, device: Device) -> None:
        """Learn that a device is there, or was moved to its gateway."""

    def removed(self, device: Device) -> None:
        """Learn that a device is about to be deleted, or moved away from its gateway."""

    def expelled(self, device: Device) -> None:
        """Learn that a device's connection is to be closed."""


class Shelf:
    """Finds devices; its methods raise PlatformError.

    deleted: told the ids of devices that are gone.
    """

    def __init__(self, limits: Limits) -> None:
        self.watchers: list[Watcher] = []
        self.deleted: Callable[[str], None] = lambda _: None
        self.limits = limits
        self._devices: dict[str, Device] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._of_product: Counter[str] = Counter()
        self._families: Counter[str] = Counter()

    def get(self, device_id: str) -> Device:
        """Return one."""
        if device := self._devices.get(device_id):
            return device
        raise PlatformError(Code.UNKNOWN_DEVICE)

    def lookup(self, device_id: str) -> Device | None:
        """Return one, if it is there."""
        return self._devices.get(device_id)

    def children(self, gateway_id: str) -> Sequence[Device]:
        """Return the children of a device, the oldest first."""
        return [self._devices[one] for one in self._children.get(gateway_id, ())]

    def family(self, gateway_id: str) -> Sequence[Device]:
        """Return all that are online through a device, parents before their children."""
        children = self.children(gateway_id)
        return [*children, *(one for child in children for one in self.children(child.device_id))]

    def gateway_of(self, device: Device) -> Device:
        """Return the device that connects for this one."""
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
    ) -> Sequence[Device]:
        """Return those that are meant, the newest first; a gateway is no child of itself."""
        found = self._devices.values() if gateway_id is None else self.children(gateway_id)
        return [
            one
            for one in reversed([*found])
            if app_id in (None, one.app_id)
            and product_id in (None, one.product_id)
            and node_id in (None, one.node_id)
            and name in (None, one.name)
        ]

    def insert(self, device: Device) -> None:
        """Put a device on the shelf, if it is new and there is room."""
        node = (device.product_id, device.node_id)
        if device.device_id in self._devices or node in self._nodes:
            raise PlatformError(Code.DEVICE_EXISTS)
        if len(self._devices) >= self.limits.devices:
            raise PlatformError(Code.DEVICE_LIMIT)
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

    def remove(self, device: Device) -> None:
        """Take a device off the shelf."""
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

    def move(self, device: Device, gateway_id: str) -> None:
        """Give a child, with its own children, to another gateway."""
        if device.direct or gateway_id == device.device_id:
            raise PlatformError(Code.INVALID_INPUT, "(gateway_id)")
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

    def expel(self, device: Device) -> None:
        """Have a device's connection closed."""
        for watcher in self.watchers:
            watcher.expelled(device)

    def _check_parent(self, gateway_id: str, levels: int) -> None:
        """Refuse a parent that is not there, is full, or is too far below its own."""
        parent = self.get(gateway_id)
        depth = 0 if parent.direct else 1 if self.get(parent.gateway_id).direct else LEVELS
        if depth + levels > LEVELS:
            raise PlatformError(Code.TOO_DEEP)
        if self._families[self.gateway_of(parent).device_id] >= self.limits.children:
            raise PlatformError(Code.CHILD_LIMIT)

    def _count(self, parent_id: str, more: int) -> None:
        """Count the children, and theirs, of the device that connects for a parent."""
        self._families[self.gateway_of(self._devices[parent_id]).device_id] += more
