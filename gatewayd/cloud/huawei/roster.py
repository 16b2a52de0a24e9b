"""Which children the platform has for this gateway, as far as it has told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gatewayd.cloud.huawei.events import NodeName, Status, Told
from gatewayd.cloud.huawei.names import default_device_id
from gatewayd.cloud.subdevices.room import Room

MOST = 50_000
"""Children that are remembered, whatever the platform tells; it lets a gateway have no more."""
DELETED = 10_000
"""Deleted children that are remembered: whoever is online learns soon that it is gone."""


class Roster(Room[NodeName]):
    """limit: children that the platform lets this gateway have."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, MOST)
        self._children: dict[str, Told] = {}
        self._ids: dict[NodeName, str] = {}
        self._deleted: dict[str, None] = {}  # the oldest first

    def learn(self, told: Told) -> bool:
        """Learn of a child; return whether it was not known, nor asked for."""
        before = self._children.get(told.device_id)
        if before is None and len(self._children) >= MOST:
            return False
        new = before is None and told.name not in self._wanted
        if before is not None:
            self.lose(told.device_id)
            told = _joined(before, told)
        self._deleted.pop(told.device_id, None)
        self._children[told.device_id] = told
        self._ids[told.name] = told.device_id
        self.add(told.name)
        return new

    def report(self, device_id: str, status: Status) -> None:
        """Learn that the platform has taken a report; one of a stranger is passed over."""
        if (told := self._children.get(device_id)) is not None:
            self._children[device_id] = replace(told, status=status)

    def lose(self, device_id: str) -> bool:
        """Know of a child no more; return whether it was known."""
        told = self._children.pop(device_id, None)
        if told is None:
            return False
        if self._ids.get(told.name) == device_id:  # else another has come under this name
            del self._ids[told.name]
            self.remove(told.name)
        return True

    def delete(self, device_id: str) -> None:
        """Learn that the platform tells of a child that it has deleted it."""
        if self.lose(device_id):
            self._deleted[device_id] = None
            if len(self._deleted) > DELETED:
                del self._deleted[next(iter(self._deleted))]

    def was_deleted(self, device_id: str) -> bool:
        """Whether that is the last that the platform has told of a child."""
        return device_id in self._deleted

    def find(self, name: NodeName) -> Told | None:
        """Return what the platform has told of a child; None where that is nothing."""
        device_id = self._ids.get(name) or self._ids.get(NodeName("", name.node))
        return self._children.get(device_id) if device_id else None

    def is_anothers(self, device_id: str, name: NodeName) -> bool:
        """Whether the platform has told of a device ID as that of another child."""
        told = self._children.get(device_id)
        return told is not None and told.node not in ("", name.node)

    def device_id(self, name: NodeName) -> str:
        """Return a child's device ID: what was told, or else what the platform would choose."""
        told = self.find(name)
        return told.device_id if told else default_device_id(name.product, name.node)

    def online(self) -> Sequence[str]:
        """Return the device IDs of those that the platform has online."""
        children = self._children.values()
        return [told.device_id for told in children if told.status is Status.ONLINE]


def _joined(before: Told, told: Told) -> Told:
    """Return what is told now, and where that is silent, what was told before."""
    return Told(
        told.device_id,
        told.node or before.node,
        told.product or before.product,
        told.parent or before.parent,
        told.status or before.status,
    )
