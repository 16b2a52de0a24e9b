"""The roll of the children that are in: who has which name at a cloud, and by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName, Record


class Roll:
    """Counts each child once, by its newest record."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.names: dict[CloudName, DeviceId] = {}
        self.by_rule: Counter[str] = Counter()
        self._counted: dict[DeviceId, tuple[CloudName, str]] = {}
        for record in records:
            self.count(record.device, record)

    def count(self, device: DeviceId, record: Record | None) -> None:
        """Count a child by this record, instead of any that it was counted by."""
        before = self._counted.pop(device, None)
        if before is not None:
            self.by_rule[before[1]] -= 1
            if self.names[before[0]] == device:
                del self.names[before[0]]
        if record is not None and record.cloud is not None:
            self._counted[device] = record.cloud, record.rule
            self.names[record.cloud] = device
            self.by_rule[record.rule] += 1
