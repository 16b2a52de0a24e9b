"""The records of a site of gateways: each says which gateway has its child now.

Which one that is changes while gatewayd runs, and is on no disk.  So it is asked when a record is
read, and all that looks at a record finds it there: whether the child is in force, what state
follows from it, what its holder may have.  A gateway that is alone has no such wrapper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from gatewayd.admission.ownership import Ownership
from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import Change, Record, RecordStore


class _Placed(NamedTuple):
    """A record as it was read, why another gateway has the child, and the record that says so."""

    read: Record
    why: Reason
    shown: Record


class PlacedRecords:
    """A `RecordStore` whose records say why another gateway has the child, by an `Ownership`.

    The gateway's own names are asked for as all others: one gateway of the site has them.
    """

    def __init__(self, records: RecordStore, ownership: Ownership) -> None:
        self._records, self._ownership = records, ownership
        self._placed: dict[DeviceId, _Placed] = {}

    def __getitem__(self, device: DeviceId) -> Record:
        """Return the newest durable record.  Raises KeyError."""
        return self._place(self._records[device])

    def get(self, device: DeviceId) -> Record | None:
        """Return the newest durable record; None for a child without one."""
        record = self._records.get(device)
        return None if record is None else self._place(record)

    def all(self) -> Iterator[Record]:
        """Return every record, in order of device id."""
        return map(self._place, self._records.all())

    async def update(self, device: DeviceId, change: Change) -> Record:
        """Change a record, and return it when it is durable.

        Raises StoreError, and what `change` raises.
        """
        return self._place(await self._records.update(device, change))

    async def forget(self, device: DeviceId) -> None:
        """Return when neither the record nor any secret of the device is left."""
        await self._records.forget(device)
        self._placed.pop(device, None)

    @property
    def answers(self) -> Mapping[Claim, DeviceId]:
        """Whose claims are, by an operator's answer."""
        return self._records.answers

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        """Return when answers are durable; None withdraws one.  gone: forgotten with them."""
        await self._records.settle(answers, gone)
        if gone is not None:
            self._placed.pop(gone, None)

    def _place(self, record: Record) -> Record:
        """Return a record that says whose the child is; the same one while nothing changes."""
        if record.cloud is None:
            return record
        why = self._ownership.elsewhere(record.cloud)
        if not why.code and not record.elsewhere.code:
            return record
        known = self._placed.get(record.device)
        if known is None or known.read is not record or known.why != why:
            known = _Placed(record, why, replace(record, elsewhere=why))
            self._placed[record.device] = known
        return known.shown
